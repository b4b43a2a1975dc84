"""From an image in a file to its masks, probabilities and overlay in files.

B batch, C channels, K planes of probabilities, L planes of labels, H W space, h rows, S training size.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kanvision.data.files.pixels import TIFF
from kanvision.spec.data import Interpolation
from kanvision.spec.tasks import MaskMode

from .files import BLOCK, Color, Write, array_file, draft, nodata_value, picture_files, raster_file
from .raster import Scene
from .statistics import ImageStatistics, Outcome
from .tile_blending import Strip, blend_tiles, in_groups
from .tiling import Tiling

__all__ = ["MaskPredictor", "Outputs"]


class Outputs(NamedTuple):
    """Files of one image."""

    masks: tuple[Path, ...]
    """One file; a file for each class where a pixel has several and the format has no bands."""
    probabilities: Path | None = None
    overlay: Path | None = None

    @property
    def files(self) -> list[Path]:
        """All of them."""
        return [*self.masks, *(path for path in (self.probabilities, self.overlay) if path is not None)]


@dataclass(frozen=True)
class MaskPredictor:
    """Predicts images of any size.

    Attributes:
        probabilities: Normalized images (B, C, h, w), and the size (H, W) that probabilities are to have, to
            probabilities (B, K, H, W).
        decisions: Probabilities (1, K, h, W) to labels (1, h, W), or (1, K, h, W) for several labels a pixel.
        mode: What masks are.
        names: What the K planes of probabilities are called.
        img_size: S.
        interpolation: How images are resized.
        tile: Side of a tile.
        overlap: Least number of pixels that tiles share.
        batch_size: Tiles at a time.
        resize: Bring images to S x S, as evaluation does; None: those that lie nowhere on Earth.
        rgb: Channels to show as red, green and blue; empty: the first three.
        colors: Colors of the labels 0, 1, ... in masks and overlays; empty: ten in turn.
    """

    probabilities: Callable[[Tensor, tuple[int, int]], Tensor]
    decisions: Callable[[Tensor], Tensor]
    mode: MaskMode
    names: tuple[str, ...]
    img_size: int
    interpolation: Interpolation
    tile: int
    overlap: int
    batch_size: int
    resize: bool | None = None
    rgb: tuple[int, ...] = ()
    colors: tuple[Color, ...] = ()

    @property
    def no_data(self) -> int:
        """Label of pixels without a class."""
        return nodata_value(len(self.names) if self.mode == "multiclass" else 2)

    @property
    def foreground(self) -> tuple[str, ...]:
        """Names of the classes that are counted."""
        return self.names[1:] if self.mode == "multiclass" else self.names

    def outputs(self, name: Path, folder: Path, probabilities: bool = True) -> Outputs:
        """Where the results for an image are written.

        Args:
            name: Its file, below the folder of all images.
            folder: Folder of all results.
            probabilities: Whether probabilities are wanted.
        """
        is_tiff = name.suffix.lower() in TIFF
        mask, planes = name.with_suffix(".tif" if is_tiff else ".png"), [""]
        if self.mode == "multilabel" and not is_tiff:
            planes = [_as_folder(plane, number) for number, plane in enumerate(self.names)]
        return Outputs(
            tuple(folder / "masks" / plane / mask for plane in planes),
            folder / "probabilities" / name.with_suffix(".tif" if is_tiff else ".npy")
            if probabilities
            else None,
            folder / "overlays" / name.with_suffix(".png"),
        )

    def resizes(self, scene: Scene) -> bool:
        """Whether an image is brought to the training size as a whole."""
        return self.resize if self.resize is not None else not scene.georeference

    def num_tiles(self, scene: Scene) -> int:
        """How often `predict` will advance."""
        rows, columns = self._tilings(scene)
        return 1 if self.resizes(scene) else len(rows.starts) * len(columns.starts)

    def predict(
        self, scene: Scene, outputs: Outputs, advance: Callable[[int], object] = lambda count: None
    ) -> Outcome:
        """Predict an image and write its files; if anything goes wrong, none of them.

        Args:
            scene: The image.
            outputs: Its files.
            advance: Is told how many more tiles are done.

        Raises:
            FileError: If the image cannot be read.
        """
        labels = None if self.mode == "multilabel" else range(1, 1 + len(self.foreground))
        tally = ImageStatistics(scene, labels, self.rgb, self.colors)
        strips = (self._resized if self.resizes(scene) else self._tiled)(scene, tally, advance)
        with ExitStack() as stack:
            write_masks, write_probabilities = map(stack.enter_context, self._files(scene, outputs))
            top = 0
            for values, valid in in_groups(strips, BLOCK):
                decided = self.decisions(torch.from_numpy(values)[None])[0].numpy()
                is_number = np.isfinite(values).all(axis=0)
                planes = decided if decided.ndim == 3 else decided[None]  # (L, h, W)
                tally.judge(top, planes, valid, is_number)
                labeled = np.where(valid & is_number, planes, self.no_data)
                write_masks(top, labeled.astype(np.uint8 if self.no_data == 255 else np.uint16))
                write_probabilities(top, np.where(valid, values, np.float32(np.nan)))
                top += len(valid)
            if outputs.overlay is not None:
                with draft(outputs.overlay) as path:
                    tally.overlay().save(path, "png")
        return tally.outcome()

    def _tilings(self, scene: Scene) -> tuple[Tiling, Tiling]:
        return (
            Tiling(scene.height, self.tile, self.overlap),
            Tiling(scene.width, self.tile, self.overlap),
        )

    def _tiled(
        self, scene: Scene, tally: ImageStatistics, advance: Callable[[int], object]
    ) -> Iterator[Strip]:
        """The probabilities by tiles."""
        size = (self.tile, self.tile)

        def read(top: int, bottom: int) -> Strip:
            strip = scene.rows(top, bottom)
            tally.see(top, strip)
            return strip

        def predict(tiles: Sequence[Strip]) -> Tensor:
            images = torch.stack([scene.bands.unit(tile, scene.path) for tile in tiles])
            return self.probabilities(scene.bands.preprocessing(images), size)

        rows, columns = self._tilings(scene)
        return blend_tiles(read, predict, len(self.names), rows, columns, self.batch_size, advance)

    def _resized(
        self, scene: Scene, tally: ImageStatistics, advance: Callable[[int], object]
    ) -> Iterator[Strip]:
        """The probabilities of the whole image, as evaluation has them."""
        strip = scene.rows(0, scene.height)
        tally.see(0, strip)
        image = scene.bands.unit(strip, scene.path)
        size = (self.img_size, self.img_size)
        small = scene.bands.preprocessing.resize_image(image, size, self.interpolation)
        normalized = scene.bands.preprocessing(small)[None]
        yield Strip(self.probabilities(normalized, (scene.height, scene.width))[0].numpy(), strip.valid)
        advance(1)

    def _files(
        self, scene: Scene, outputs: Outputs
    ) -> tuple[AbstractContextManager[Write], AbstractContextManager[Write]]:
        """Files of masks and of probabilities."""
        size = (scene.height, scene.width)
        path = outputs.probabilities
        values: AbstractContextManager[Write] = nullcontext(_nowhere)
        if outputs.masks[0].suffix.lower() in TIFF:
            names = self.names if self.mode == "multilabel" else ("label",)
            dtype = "uint8" if self.no_data == 255 else "uint16"
            georeference = scene.georeference
            labels = raster_file(
                outputs.masks[0],
                size,
                dtype,
                names,
                no_data=self.no_data,
                georeference=georeference,
                colors=self.colors,
            )
            if path is not None:
                values = raster_file(
                    path, size, "float32", self.names, no_data=float("nan"), georeference=georeference
                )
        else:
            labels = picture_files(outputs.masks, size, self.no_data, self.colors)
            if path is not None:
                values = array_file(path, (len(self.names), *size))
        return labels, values


def _nowhere(top: int, planes: NDArray[Any]) -> None:
    """Write nothing."""


def _as_folder(name: str, number: int) -> str:
    """The name of a class as that of a folder; a checkpoint may hold any name."""
    return name if re.fullmatch(r"\w[\w. -]*", name) else f"class_{number}"
