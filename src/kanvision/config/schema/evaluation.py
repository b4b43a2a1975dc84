"""Keys of `analyze`: a section for each analysis of `eval.py mode=analyze`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import Count, Positive, Section
from .data import AnyData


class CheckingConfig(Section):
    """How mode=check_data looks."""

    num_workers: Count | None = None
    """Processes that look at files; null: one a core."""
    num_rows: Count = 20
    """Findings that are printed; the file has all."""


class CheckConfig(Section):
    """The whole configuration of `eval.py mode=check_data data=<name>`, which needs no checkpoint."""

    mode: Literal["check_data"] = "check_data"
    """Look at every file of a data set and list what is wrong with each."""
    data: AnyData
    """The data set, as `train.py` takes it."""
    check: CheckingConfig = CheckingConfig()
    """How it looks."""
    output: str | None = None
    """Folder of the list check_data.csv; null: <run_root>/checks/<data>."""
    run_root: str = "runs"
    """Folder of all runs."""


Images = Literal["split", "train"]


class LandscapeConfig(Section):
    """Over which plane analysis=landscape draws the loss."""

    directions: Literal["auto", "path", "random"] = "auto"
    """path: the plane nearest to the run's snapshots (callbacks=snapshots); auto: random without any."""
    scaling: Literal["auto", "network", "tensor", "filter"] = "auto"
    """What of a direction gets the length of the same weights; auto: network for path, filter for random."""
    include_vectors: bool = False
    """Also move biases, norms and tokens: what has at most one axis longer than 1."""
    num_points: Annotated[int, Field(ge=3)] = 21
    """Points of the grid along each axis."""
    range: Positive | None = None
    """Both axes go from -range to range; null: around the path, or from -1 to 1."""
    images: Images = "split"
    """Images of the loss: of the split of `split`, or training images without augmentation."""
    num_images: Count = 256
    """How many of them, drawn at random by `analyze.seed`; the same at each point."""
    batch_norm: Literal["batch", "stored"] = "batch"
    """Statistics of batch norms: of each batch, at each point anew; or those stored in the checkpoint."""
    num_snapshots: Annotated[int, Field(ge=3)] = 50
    """Snapshots of the path at most, spread evenly over the training."""


class HessianConfig(Section):
    """How analysis=hessian asks for the spectrum."""

    images: Images = "train"
    """Images of the loss: of the split of `split`, or training images without augmentation."""
    num_images: Count = 128
    """How many of them, drawn at random by `analyze.seed`."""
    num_runs: Count = 3
    """Random vectors that Lanczos' method starts from."""
    num_steps: Annotated[int, Field(ge=2)] = 40
    """Products of the Hessian in each run; each keeps one more copy of all parameters in memory."""
    num_trace_vectors: Count = 20
    """Random vectors of the trace, those of the runs included."""
    num_eigenvalues: Count = 10
    """Eigenvalues to list, the largest by size."""
    kernel_width: Positive = 0.005
    """Width of the density's kernel, as a share of the spectrum's span."""


class TransferConfig(Section):
    """On which data analysis=transfer tries a network's features."""

    data: str | None = None
    """Data set with one class an image, a name of `conf/data`; null: the run's own."""
    root: str | None = None
    """Its folder on disk; null: the run's own."""
    num_train: Count = 2000
    """Images that the probes learn from, equal over classes."""
    num_test: Count = 2000
    """Images that they are scored on, equal over classes."""
    num_neighbors: Count = 20
    """Neighbors that vote, by cosine similarity."""


class PredictionConfig(Section):
    """How mode=predict goes through images, and what it writes."""

    resize: bool | None = None
    """Bring images to the training size, as evaluation does, instead of tiles; null: all but GeoTIFF."""
    tile: Count | None = None
    """Side of the tiles, which all images are cut into then; null: the training size, for GeoTIFF."""
    overlap: Annotated[int, Field(ge=0)] | None = None
    """Pixels that neighboring tiles share at least, where they are blended; null: a quarter of a tile."""
    tta: Literal["none", "hflip", "flips"] = "none"
    """Mean over images and their mirror images, left to right (hflip), or that and upside down (flips)."""
    bands: Annotated[list[Count], Field(min_length=1)] | None = None
    """Bands of the images to use, counted from 1; null: as the run's data, or all."""
    max_value: Positive | None = None
    """Stored value that becomes 1; null: as the run's data."""
    max_pixels: Count | None = 1_073_741_824
    """Most pixels of an image that is read whole: all but GeoTIFF in tiles; null: no limit."""
    probabilities: bool = True
    """Write probabilities, not masks alone."""
    overwrite: bool = False
    """Replace results that exist."""


Method = Literal["grad_cam", "integrated_gradients"]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]
_METHODS: list[Method] = ["grad_cam", "integrated_gradients"]


class ExplanationConfig(Section):
    """What mode=explain explains, and how."""

    num_images: Count | None = 16
    """Images of the split, spread evenly over it; null: all."""
    methods: list[Method] = Field(default_factory=lambda: _METHODS.copy(), min_length=1)
    """Methods; chance, a map of random numbers, is always measured along with them."""
    layers: Annotated[list[str], Field(min_length=1)] | None = None
    """Places of Grad-CAM: encoder_last, bottleneck, decoder_last, paths of modules; null: all that differ."""
    classes: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = None
    """Classes by number; null: the foreground classes of an image, or the predicted class."""
    region: Literal["image", "predicted"] = "image"
    """Pixels whose logits are explained, for masks: all, or those that were said to be the class."""
    baseline: Literal["mean", "black"] = "mean"
    """What removed pixels and channels become: the mean of the data (0 after normalization), or black."""
    num_steps: Count = 64
    """Points of the quadrature of integrated gradients."""
    threshold: Literal["otsu"] | Share = "otsu"
    """How a map becomes a set of pixels: Otsu's threshold of each map, or the share of pixels to take."""
    border: Count = 2
    """Pixels on each side of a mask's edge that count as its border."""
    channels: bool = True
    """Measure what each channel is worth: one more pass of the network and Grad-CAM for each."""
    num_pictures: Count | None = 16
    """Images to draw, at most; null: all that are explained."""


Analysis = Literal["attention", "spectra", "histograms", "landscape", "hessian", "transfer"]
Several = Annotated[list[int], Field(min_length=1)]
Numbers = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class AttentionConfig(Section):
    """What analysis=attention measures and draws."""

    num_images: Count = 32
    """Images of the split, chosen at random by `analyze.seed`."""
    num_pictures: Count = 4
    """Of these, images whose maps are drawn."""
    images: Numbers | None = None
    """Positions of images in the split, in the place of random ones; all are drawn."""
    blocks: Several = Field(default_factory=lambda: [-1], min_length=1)
    """Attentions of the network by number, from the end if negative."""
    heads: Numbers | None = None
    """Heads by number; null: all."""


class SpectraConfig(Section):
    """What analysis=spectra decomposes."""

    matrices: Literal["auto", "attention", "weights"] = "auto"
    """Matrices of attention or of weights; auto: of attention where the network has any."""
    num_images: Count = 5
    """Images of the split, chosen at random by `analyze.seed`."""
    blocks: Several = Field(default_factory=lambda: [-1], min_length=1)
    """Attentions of the network by number, from the end if negative."""
    max_size: Count = 2048
    """Weights whose smaller side is larger are left out: their time grows with its cube."""


class HistogramsConfig(Section):
    """What analysis=histograms counts."""

    limit: Positive = 0.1
    """Weights between -limit and limit are drawn; those outside are counted."""
    num_bins: Count = 200
    """Bins between the two."""
    epochs: Numbers | None = None
    """Epochs to draw; null: first, middle and last of those that the run has kept."""


class AnalysisConfig(Section):
    """What mode=analyze needs to know."""

    seed: int = 0
    """Seed of the random choice of images and directions."""
    attention: AttentionConfig = AttentionConfig()
    """Of analysis=attention."""
    spectra: SpectraConfig = SpectraConfig()
    """Of analysis=spectra."""
    histograms: HistogramsConfig = HistogramsConfig()
    """Of analysis=histograms."""
    landscape: LandscapeConfig = LandscapeConfig()
    """Of analysis=landscape."""
    hessian: HessianConfig = HessianConfig()
    """Of analysis=hessian."""
    transfer: TransferConfig = TransferConfig()
    """Of analysis=transfer."""
