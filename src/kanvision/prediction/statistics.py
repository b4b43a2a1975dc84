"""Statistics of an image and its masks, collected by rows: counts, and a small copy to draw.

C channels, K classes, L planes of labels, H W space, h rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from kanvision.visualization import PALETTE, overlay_mask, to_uint8_rgb

from .files import GRAY, Color
from .raster import Scene
from .tile_blending import Strip

__all__ = ["ImageStatistics", "Outcome"]

OVERLAY = 2048
"""Largest side of an overlay in pixels."""


class Outcome(NamedTuple):
    """Counts of the prediction of one image."""

    size: tuple[int, int]
    """Height and width."""
    no_data: int
    """Number of pixels without data."""
    undecided: int
    """Number of pixels for which the network returned NaN or infinity."""
    shares: tuple[float, ...]
    """Fraction of the other pixels of each foreground class; NaN if there are no other pixels."""
    offsets: tuple[float, ...]
    """Mean of each normalized channel, which is about 0 for images like the training images."""


class Subsampling:
    """Choice of every n-th pixel along both sides of an image that is read in strips of rows.

    Args:
        height: Number of rows, H.
        width: Number of columns, W.
    """

    def __init__(self, height: int, width: int) -> None:
        self.step = -(-max(height, width) // OVERLAY)
        self._next = 0

    def take(self, top: int, height: int) -> tuple[slice, slice]:
        """Return the slices of rows and columns to keep of a strip from `top` on, each row once."""
        first = self._next - top
        rows = slice(first, height, self.step) if first < height else slice(0)
        self._next += self.step * len(range(height)[rows])
        return rows, slice(None, None, self.step)


class ImageStatistics:
    """Counts, and a small copy, of one image and its masks.

    Args:
        scene: The image.
        foreground: Labels to count; None: the planes of multilabel masks.
        rgb: Channels to show as red, green and blue; empty: the first three, or the first of fewer.
        colors: Colors of the labels 0, 1, ...; empty: ten colors repeated.
    """

    def __init__(
        self,
        scene: Scene,
        foreground: range | None,
        rgb: tuple[int, ...],
        colors: tuple[Color, ...] = (),
    ) -> None:
        self.scene = scene
        self.palette = np.array(colors[1:], np.uint8) if colors else PALETTE
        self.foreground = foreground
        num_channels = scene.bands.in_chans
        self.shown = list(rgb or ((0, 1, 2) if num_channels >= 3 else (0, 0, 0)))
        self._input_rows, self._label_rows = (Subsampling(scene.height, scene.width) for _ in range(2))
        self._pictures: list[Tensor] = []
        self._masks: list[NDArray[Any]] = []
        self._clear: list[NDArray[np.bool_]] = []
        self._sums = torch.zeros(num_channels, dtype=torch.float64)
        self._num_summed = self._no_data = self._undecided = self._decided = 0
        self._counts: NDArray[np.int64] = np.zeros(1, np.int64)

    def add_input(self, top: int, strip: Strip) -> None:
        """Add the rows of the image from `top` on; strips may overlap."""
        rows, columns = self._input_rows.take(top, len(strip.valid))
        kept = Strip(strip.values[:, rows, columns], strip.valid[rows, columns])
        if not kept.valid.size:
            return
        bands = self.scene.bands
        pixels = bands.preprocessing(bands.scale(kept, self.scene.path))  # (C, h, w), 0 where no data are
        self._sums += pixels.sum(dim=(1, 2), dtype=torch.float64)
        self._num_summed += int(kept.valid.sum())
        self._pictures.append(pixels[self.shown])

    def add_labels(self, top: int, labels: NDArray[Any], valid: NDArray[np.bool_], is_number: Any) -> None:
        """Add the labels from the row `top` on.

        Args:
            top: First row.
            labels: Predicted labels, (L, h, W).
            valid: Mask of pixels with data, (h, W).
            is_number: Mask of pixels with finite predictions, (h, W).
        """
        clear = valid & is_number
        self._no_data += int((~valid).sum())
        self._undecided += int((valid & ~is_number).sum())
        self._decided += int(clear.sum())
        if self.foreground is None:
            counts = (labels * clear).sum(axis=(1, 2), dtype=np.int64)
        else:
            counts = np.bincount(labels[0][clear], minlength=self.foreground.stop)[self.foreground.start :]
        self._counts = self._counts + counts
        rows, columns = self._label_rows.take(top, len(valid))
        # Copies, because a view would keep the whole array in memory.
        self._masks.append(labels[:, rows, columns].astype(np.uint16))
        self._clear.append(clear[rows, columns].copy())

    def draw_overlay(self) -> Image.Image:
        """Return the image, reduced if it is large, with its classes in colors and gray for no class."""
        bands, picture = self.scene.bands, torch.cat(self._pictures, dim=1)
        mean, std = (
            [values[c] for c in self.shown] for values in (bands.preprocessing.mean, bands.preprocessing.std)
        )
        (image,) = to_uint8_rgb(picture[None], mean, std, stretch=bands.in_chans > 3)
        clear = np.concatenate(self._clear)
        masks = np.concatenate(self._masks, axis=1) * clear
        pixels = overlay_mask(image, masks[0] if self.foreground is not None else masks, self.palette)
        pixels[~clear] = GRAY
        return Image.fromarray(pixels)

    def summarize(self) -> Outcome:
        """Return the counts."""
        decided = self._decided or np.nan
        return Outcome(
            (self.scene.height, self.scene.width),
            self._no_data,
            self._undecided,
            tuple(float(count / decided) for count in self._counts),
            tuple((self._sums / max(1, self._num_summed)).tolist()),
        )
