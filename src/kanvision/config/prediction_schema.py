"""Keys of `predict`: how `eval.py mode=predict` goes through images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .section import Count, Positive, Section

__all__ = ["PredictionConfig"]


class PredictionConfig(Section):
    """How mode=predict goes through images, and what it writes."""

    resize: bool | None = None
    """Bring images to the training size, as evaluation does, instead of tiles; null: all but GeoTIFF."""
    tile: Count | None = None
    """Side of the tiles, which all images are cut into then; null: the training size, for GeoTIFF."""
    overlap: Annotated[int, Field(ge=0)] | None = None
    """Pixels that neighbouring tiles share at least, where they are blended; null: a quarter of a tile."""
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
