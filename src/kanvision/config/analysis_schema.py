"""Keys of `analyse`: a section for each analysis of `eval.py mode=analyse`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .curvature_schema import HessianConfig, LandscapeConfig, TransferConfig
from .section import Count, Positive, Section

Analysis = Literal["attention", "spectra", "histograms", "landscape", "hessian", "transfer"]
Several = Annotated[list[int], Field(min_length=1)]
Numbers = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class AttentionConfig(Section):
    """What analysis=attention measures and draws."""

    num_images: Count = 32
    """Images of the split, chosen at random by `analyse.seed`."""
    pictures: Count = 4
    """Of these, images whose maps are drawn."""
    images: Numbers | None = None
    """Positions of images in the split, in the place of random ones; all are drawn."""
    blocks: Several = Field(default_factory=lambda: [-1], min_length=1)
    """Attentions of the network by number, from the end if negative."""
    heads: Numbers | None = None
    """Heads by number; null: all."""


class SpectraConfig(Section):
    """What analysis=spectra decomposes."""

    of: Literal["auto", "attention", "weights"] = "auto"
    """Matrices of attention or of weights; auto: of attention where the network has any."""
    num_images: Count = 5
    """Images of the split, chosen at random by `analyse.seed`."""
    blocks: Several = Field(default_factory=lambda: [-1], min_length=1)
    """Attentions of the network by number, from the end if negative."""
    largest: Count = 2048
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
    """What mode=analyse needs to know."""

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
