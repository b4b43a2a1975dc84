"""Keys of `analyse` for the loss around the weights, and for what features are worth elsewhere."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .section import Count, Positive, Section

__all__ = ["HessianConfig", "LandscapeConfig", "TransferConfig"]

Images = Literal["split", "train"]


class LandscapeConfig(Section):
    """Over which plane analysis=landscape draws the loss."""

    directions: Literal["auto", "path", "random"] = "auto"
    """path: the plane nearest to the run's snapshots (callbacks=snapshots); auto: random without any."""
    scaling: Literal["auto", "network", "tensor", "filter"] = "auto"
    """What of a direction gets the length of the same weights; auto: network for path, filter for random."""
    vectors: bool = False
    """Also move biases, norms and tokens: what has at most one axis longer than 1."""
    points: Annotated[int, Field(ge=3)] = 21
    """Points of the grid along each axis."""
    range: Positive | None = None
    """Both axes go from -range to range; null: around the path, or from -1 to 1."""
    images: Images = "split"
    """Images of the loss: of the split of `split`, or training images without augmentation."""
    num_images: Count = 256
    """How many of them, drawn at random by `analyse.seed`; the same at each point."""
    batch_norm: Literal["batch", "stored"] = "batch"
    """Statistics of batch norms: of each batch, at each point anew; or those stored in the checkpoint."""
    num_snapshots: Annotated[int, Field(ge=3)] = 50
    """Snapshots of the path at most, spread evenly over the training."""


class HessianConfig(Section):
    """How analysis=hessian asks for the spectrum."""

    images: Images = "train"
    """Images of the loss: of the split of `split`, or training images without augmentation."""
    num_images: Count = 128
    """How many of them, drawn at random by `analyse.seed`."""
    runs: Count = 3
    """Random vectors that Lanczos' method starts from."""
    steps: Annotated[int, Field(ge=2)] = 40
    """Products of the Hessian in each run; each keeps one more copy of all parameters in memory."""
    trace_vectors: Count = 20
    """Random vectors of the trace, those of the runs included."""
    top: Count = 10
    """Eigenvalues to list, the largest by size."""
    width: Positive = 0.005
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
    neighbours: Count = 20
    """Neighbours that vote, by cosine similarity."""
