"""Keys of the modes of `eval.py` with a checkpoint, a section for each, and one for each analysis."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from kanvision.spec.evaluation import (
    EXPLANATION_METHODS,
    DirectionScaling,
    ExplanationMethod,
    LossImages,
    TestTimeAugmentation,
)

from .base import Count, Positive, Section


class CheckingConfig(Section):
    """Settings of mode=check_data."""

    num_workers: Count | None = None
    """Number of processes that check files; null: one for each core."""
    num_rows: Count = 20
    """Number of findings that are printed; the file has all."""


class LandscapeConfig(Section):
    """Plane of weights over which analysis=landscape draws the loss."""

    directions: Literal["auto", "path", "random"] = "auto"
    """path: the plane nearest to the run's snapshots (callbacks=snapshots); auto: path, or random without
    snapshots."""
    scaling: Literal["auto", DirectionScaling] = "auto"
    """Part of a direction that is scaled to the norm of its weights; auto: network for path, filter for
    random."""
    include_vectors: bool = False
    """Include biases, norms and tokens: parameters with at most one axis longer than 1."""
    num_points: Annotated[int, Field(ge=3)] = 21
    """Number of grid points along each axis."""
    range: Positive | None = None
    """Both axes span -range to range; null: the path with a margin, or -1 to 1."""
    images: LossImages = "split"
    """Images of the loss: those of `split`, or training images without augmentation."""
    num_images: Count = 256
    """Number of these images, drawn by `analyze.seed`, the same at each point."""
    batch_norm: Literal["batch", "stored"] = "batch"
    """Statistics of batch norms: those of each batch at each point, or those stored in the checkpoint."""
    num_snapshots: Annotated[int, Field(ge=3)] = 50
    """Maximal number of snapshots of the path, spread evenly over the training."""


class HessianConfig(Section):
    """Settings of analysis=hessian, the spectrum of the Hessian."""

    images: LossImages = "train"
    """Images of the loss: those of `split`, or training images without augmentation."""
    num_images: Count = 128
    """Number of these images, drawn by `analyze.seed`."""
    num_runs: Count = 3
    """Number of random start vectors of the Lanczos method."""
    num_steps: Annotated[int, Field(ge=2)] = 40
    """Number of Hessian products in each run; each needs memory for one more copy of all parameters."""
    num_trace_vectors: Count = 20
    """Number of random vectors of the trace, including those of the runs."""
    num_eigenvalues: Count = 10
    """Number of eigenvalues to list, largest magnitude first."""
    kernel_width: Positive = 0.005
    """Width of the kernel of the density as a fraction of the range of the spectrum."""


class TransferConfig(Section):
    """Data on which analysis=transfer evaluates the features of a network."""

    data: str | None = None
    """Data set with one class for each image, a name of `conf/data`; null: that of the run."""
    root: str | None = None
    """Folder of the data set; null: that of the run."""
    num_train: Count = 2000
    """Number of images that the probes are trained on, equally many of each class."""
    num_test: Count = 2000
    """Number of images that the probes are scored on, equally many of each class."""
    num_neighbors: Count = 20
    """Number of nearest neighbors, by cosine similarity, of the k-NN probe."""


class PredictionConfig(Section):
    """Settings of mode=predict."""

    resize: bool | None = None
    """Resize images to the training size, as evaluation does, instead of tiles; null: all except GeoTIFF."""
    tile: Count | None = None
    """Side of the tiles that all images are cut into; null: the training size, for GeoTIFF only."""
    overlap: Annotated[int, Field(ge=0)] | None = None
    """Minimal overlap of neighboring tiles in pixels, where they are blended; null: a quarter of a tile."""
    tta: TestTimeAugmentation = "none"
    """Test-time augmentation: mean over horizontal (hflip), or horizontal and vertical (flips), mirror
    images."""
    bands: Annotated[list[Count], Field(min_length=1)] | None = None
    """Bands of the images, counted from 1; null: as in the run's data, or all."""
    max_value: Positive | None = None
    """Stored value that becomes 1; null: as in the run's data."""
    max_pixels: Count | None = 1_073_741_824
    """Maximal number of pixels of an image that is read as a whole, not GeoTIFF in tiles; null: no limit."""
    probabilities: bool = True
    """Write probabilities beside masks."""
    overwrite: bool = False
    """Replace existing results."""


Size = Annotated[list[Count], Field(min_length=2, max_length=2)]


class ExportConfig(Section):
    """Settings of mode=export."""

    img_size: Count | None = None
    """Side of the images that the files take; null: that of the run."""
    dynamic_size: bool = False
    """The files take images of any size, for a segmenter multiples of its stride."""
    sizes: list[Size] = Field(default_factory=list)
    """Further heights and widths that the files must take, such as [[480, 640]]; a file that does not is
    refused."""
    tolerance: Positive = 1e-4
    """Maximal difference of the logits of a file from those of torch, relative to the largest logit."""


Share = Annotated[float, Field(gt=0.0, lt=1.0)]


class ExplanationConfig(Section):
    """Settings of mode=explain."""

    num_images: Count | None = 16
    """Number of images, spread evenly over the split; null: all."""
    methods: list[ExplanationMethod] = Field(default_factory=lambda: list(EXPLANATION_METHODS), min_length=1)
    """Methods; a map of random numbers, chance, is always scored beside them."""
    layers: Annotated[list[str], Field(min_length=1)] | None = None
    """Feature maps of Grad-CAM: encoder_last, bottleneck, decoder_last or paths of modules; null: all
    different ones."""
    classes: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = None
    """Indices of the classes; null: the foreground classes of an image, or the predicted class."""
    region: Literal["image", "predicted"] = "image"
    """Pixels of a mask whose logits are explained: all, or those predicted as the class."""
    baseline: Literal["mean", "black"] = "mean"
    """Replacement of removed pixels and channels: the mean of the data (0 after normalization), or black."""
    num_steps: Count = 64
    """Number of quadrature points of integrated gradients."""
    threshold: Literal["otsu"] | Share = "otsu"
    """Pixels of a map: those above Otsu's threshold of the map, or this fraction of pixels with the largest
    values."""
    border: Count = 2
    """Width of the border of a mask in pixels on each side of its edge."""
    channels: bool = True
    """Measure the relevance of each channel, with one more pass of the network and Grad-CAM for each."""
    num_pictures: Count | None = 16
    """Maximal number of images that are drawn; null: all explained ones."""


Several = Annotated[list[int], Field(min_length=1)]
Numbers = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class AttentionConfig(Section):
    """Settings of analysis=attention."""

    num_images: Count = 32
    """Number of images of the split, drawn by `analyze.seed`."""
    num_pictures: Count = 4
    """Number of these images whose maps are drawn."""
    images: Numbers | None = None
    """Indices of images in the split, all of them drawn; null: random images."""
    blocks: Several = Field(default_factory=lambda: [-1], min_length=1)
    """Indices of the attentions of the network, negative ones from the end."""
    heads: Numbers | None = None
    """Indices of the heads; null: all."""


class SpectraConfig(Section):
    """Settings of analysis=spectra."""

    matrices: Literal["auto", "attention", "weights"] = "auto"
    """Matrices of attention or of weights; auto: of attention if the network has any."""
    num_images: Count = 5
    """Number of images of the split, drawn by `analyze.seed`."""
    blocks: Several = Field(default_factory=lambda: [-1], min_length=1)
    """Indices of the attentions of the network, negative ones from the end."""
    max_size: Count = 2048
    """Maximal smaller side of a weight matrix; the time grows with its cube."""


class HistogramsConfig(Section):
    """Settings of analysis=histograms."""

    limit: Positive = 0.1
    """Histograms span -limit to limit; weights outside are counted."""
    num_bins: Count = 200
    """Number of bins."""
    epochs: Numbers | None = None
    """Epochs to draw; null: first, middle and last of the snapshots of the run."""


class FunctionsConfig(Section):
    """Settings of analysis=functions."""

    layers: Annotated[list[str], Field(min_length=1)] | None = None
    """Paths of the layers in the network; null: all layers with learned functions."""
    num_images: Count = 512
    """Number of images of the split, drawn by `analyze.seed`, whose inputs are counted."""
    num_bins: Annotated[int, Field(ge=8)] = 64
    """Number of bins of a histogram of inputs."""
    num_panels: Count = 12
    """Number of functions that are drawn of each layer, most used first."""
    num_pictures: Count = 8
    """Maximal number of layers that are drawn, spread evenly over the network."""
    num_edges: Count = 100
    """Number of functions of each layer in edges.csv."""


class AnalysisConfig(Section):
    """Settings of mode=analyze."""

    seed: int = 0
    """Seed of the random choice of images and directions."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Arguments of an analysis of a plugin."""
    attention: AttentionConfig = AttentionConfig()
    """Settings of analysis=attention."""
    functions: FunctionsConfig = FunctionsConfig()
    """Settings of analysis=functions."""
    spectra: SpectraConfig = SpectraConfig()
    """Settings of analysis=spectra."""
    histograms: HistogramsConfig = HistogramsConfig()
    """Settings of analysis=histograms."""
    landscape: LandscapeConfig = LandscapeConfig()
    """Settings of analysis=landscape."""
    hessian: HessianConfig = HessianConfig()
    """Settings of analysis=hessian."""
    transfer: TransferConfig = TransferConfig()
    """Settings of analysis=transfer."""
