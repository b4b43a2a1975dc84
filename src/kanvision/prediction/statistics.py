"""What is remembered of an image while its rows pass: counts, and a small copy to draw.

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
"""Most pixels along a side of an overlay."""


class Outcome(NamedTuple):
    """What was found in one image."""

    size: tuple[int, int]
    """Height and width."""
    no_data: int
    """Pixels without data."""
    undecided: int
    """Pixels for which the network gave no number."""
    shares: tuple[float, ...]
    """Share of the other pixels that each foreground class has; NaN where there is no such pixel."""
    offsets: tuple[float, ...]
    """Mean of each normalized channel, which is about 0 for images like those of the training."""


class Sampling:
    """Every n-th pixel of an image along both sides, for rows that come in strips.

    Args:
        height: H.
        width: W.
    """

    def __init__(self, height: int, width: int) -> None:
        self.step = -(-max(height, width) // OVERLAY)
        self._next = 0

    def take(self, top: int, height: int) -> tuple[slice, slice]:
        """Which rows and columns to keep of the rows from `top` on; none twice where strips overlap."""
        first = self._next - top
        rows = slice(first, height, self.step) if first < height else slice(0)
        self._next += self.step * len(range(height)[rows])
        return rows, slice(None, None, self.step)


class ImageStatistics:
    """Counts and a small copy of one image and its masks.

    Args:
        scene: The image.
        foreground: Labels to count, or for masks of several planes None: the planes.
        rgb: Channels to show as red, green and blue; empty: the first three, or the first one of fewer.
        colors: Colors of the labels 0, 1, ...; empty: ten in turn.
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
        self._seen, self._labeled = (Sampling(scene.height, scene.width) for _ in range(2))
        self._pictures: list[Tensor] = []
        self._masks: list[NDArray[Any]] = []
        self._clear: list[NDArray[np.bool_]] = []
        self._sums = torch.zeros(num_channels, dtype=torch.float64)
        self._num_summed = self._no_data = self._undecided = self._decided = 0
        self._counts: NDArray[np.int64] = np.zeros(1, np.int64)

    def see(self, top: int, strip: Strip) -> None:
        """Take notice of the rows of the image from `top` on; strips may overlap."""
        rows, columns = self._seen.take(top, len(strip.valid))
        kept = Strip(strip.values[:, rows, columns], strip.valid[rows, columns])
        if not kept.valid.size:
            return
        bands = self.scene.bands
        pixels = bands.preprocessing(bands.unit(kept, self.scene.path))  # (C, h, w), 0 where no data are
        self._sums += pixels.sum(dim=(1, 2), dtype=torch.float64)
        self._num_summed += int(kept.valid.sum())
        self._pictures.append(pixels[self.shown])

    def judge(self, top: int, labels: NDArray[Any], valid: NDArray[np.bool_], is_number: Any) -> None:
        """Take notice of the labels (L, h, W) from the row `top` on.

        Args:
            top: The first row.
            labels: What was decided.
            valid: (h, W), where there are data.
            is_number: (h, W), where the network gave numbers.
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
        rows, columns = self._labeled.take(top, len(valid))
        # Copies: a part of an array would keep the whole of it.
        self._masks.append(labels[:, rows, columns].astype(np.uint16))
        self._clear.append(clear[rows, columns].copy())

    def overlay(self) -> Image.Image:
        """The image with its classes in colors, gray where there are none; a large one smaller."""
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

    def outcome(self) -> Outcome:
        """The counts."""
        decided = self._decided or np.nan
        return Outcome(
            (self.scene.height, self.scene.width),
            self._no_data,
            self._undecided,
            tuple(float(count / decided) for count in self._counts),
            tuple((self._sums / max(1, self._num_summed)).tolist()),
        )
