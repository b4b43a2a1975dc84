"""Prediction of the masks of an image file, with files of masks, probabilities and an overlay.

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

from .files import (
    BLOCK,
    Color,
    Write,
    choose_nodata_value,
    open_array_file,
    open_picture_files,
    open_raster_file,
    write_atomically,
)
from .raster import Scene
from .statistics import ImageStatistics, Outcome
from .tile_blending import Strip, blend_tiles, regroup_rows
from .tiling import Tiling

__all__ = ["MaskPredictor", "Outputs"]


class Outputs(NamedTuple):
    """Result files of one image."""

    masks: tuple[Path, ...]
    """Mask file; for multilabel masks in a format without bands, a file for each class."""
    probabilities: Path | None = None
    overlay: Path | None = None

    @property
    def files(self) -> list[Path]:
        """All result files."""
        return [*self.masks, *(path for path in (self.probabilities, self.overlay) if path is not None)]


@dataclass(frozen=True)
class MaskPredictor:
    """Predictor of the masks of images of any size.

    Attributes:
        probabilities: Maps normalized images (B, C, h, w) and the output size (H, W) to probabilities
            (B, K, H, W).
        decisions: Maps probabilities (1, K, h, W) to labels, (1, h, W) or for multilabel masks (1, K, h, W).
        mode: Kind of masks.
        names: Names of the K planes of probabilities.
        img_size: Training size, S.
        interpolation: Interpolation by which images are resized.
        tile: Side of a tile.
        overlap: Least number of pixels that neighboring tiles share.
        batch_size: Number of tiles of a batch, B.
        resize: Resize images to S x S, as in evaluation, rather than tile them; None: images without a
            georeference.
        rgb: Channels to show as red, green and blue; empty: the first three.
        colors: Colors of the labels 0, 1, ... in masks and overlays; empty: ten colors repeated.
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
        """Label of pixels without data."""
        return choose_nodata_value(len(self.names) if self.mode == "multiclass" else 2)

    @property
    def foreground(self) -> tuple[str, ...]:
        """Names of the foreground classes."""
        return self.names[1:] if self.mode == "multiclass" else self.names

    def plan_outputs(self, name: Path, folder: Path, probabilities: bool = True) -> Outputs:
        """Return the result files of an image.

        Args:
            name: Path of the image relative to the folder of all images.
            folder: Folder of all results.
            probabilities: Write probabilities.
        """
        is_tiff = name.suffix.lower() in TIFF
        mask, planes = name.with_suffix(".tif" if is_tiff else ".png"), [""]
        if self.mode == "multilabel" and not is_tiff:
            planes = [_folder_name(plane, number) for number, plane in enumerate(self.names)]
        return Outputs(
            tuple(folder / "masks" / plane / mask for plane in planes),
            folder / "probabilities" / name.with_suffix(".tif" if is_tiff else ".npy")
            if probabilities
            else None,
            folder / "overlays" / name.with_suffix(".png"),
        )

    def is_resized(self, scene: Scene) -> bool:
        """Return True if an image is resized to the training size rather than tiled."""
        return self.resize if self.resize is not None else not scene.georeference

    def num_tiles(self, scene: Scene) -> int:
        """Return the number of tiles that `predict` reports to `advance`."""
        rows, columns = self._tilings(scene)
        return 1 if self.is_resized(scene) else len(rows.starts) * len(columns.starts)

    def predict(
        self, scene: Scene, outputs: Outputs, advance: Callable[[int], object] = lambda count: None
    ) -> Outcome:
        """Predict an image and write its result files; after an error, none of them.

        Args:
            scene: The image.
            outputs: Result files.
            advance: Called with the number of tiles that were finished.

        Raises:
            FileError: If the image cannot be read.
        """
        statistics = self._build_statistics(scene)
        with ExitStack() as stack:
            write_masks, write_probabilities = map(stack.enter_context, self._open_files(scene, outputs))
            for top, labels, values in self._decide_rows(scene, statistics, advance):
                write_masks(top, labels)
                write_probabilities(top, values)
            if outputs.overlay is not None:
                with write_atomically(outputs.overlay) as part:
                    statistics.draw_overlay().save(part, "png")
        return statistics.summarize()

    def predict_arrays(self, scene: Scene) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Return labels (L, H, W) and probabilities (K, H, W) of an image, as `predict` writes them.

        Raises:
            FileError: If the image cannot be read.
        """
        rows = list(self._decide_rows(scene, self._build_statistics(scene)))
        return tuple(np.concatenate([row[index] for row in rows], axis=1) for index in (1, 2))  # type: ignore[return-value]

    def _build_statistics(self, scene: Scene) -> ImageStatistics:
        labels = None if self.mode == "multilabel" else range(1, 1 + len(self.foreground))
        return ImageStatistics(scene, labels, self.rgb, self.colors)

    def _decide_rows(
        self,
        scene: Scene,
        statistics: ImageStatistics,
        advance: Callable[[int], object] = lambda count: None,
    ) -> Iterator[tuple[int, NDArray[Any], NDArray[np.float32]]]:
        """Yield the number of the first row, labels (L, h, W) and probabilities (K, h, W) of some rows."""
        strips = self._predict_resized if self.is_resized(scene) else self._predict_tiles
        top = 0
        for values, valid in regroup_rows(strips(scene, statistics, advance), BLOCK):
            decided = self.decisions(torch.from_numpy(values)[None])[0].numpy()
            is_number = np.isfinite(values).all(axis=0)
            planes = decided if decided.ndim == 3 else decided[None]  # (L, h, W)
            statistics.add_labels(top, planes, valid, is_number)
            labeled = np.where(valid & is_number, planes, self.no_data)
            labels = labeled.astype(np.uint8 if self.no_data == 255 else np.uint16)
            yield top, labels, np.where(valid, values, np.float32(np.nan))
            top += len(valid)

    def _tilings(self, scene: Scene) -> tuple[Tiling, Tiling]:
        return (
            Tiling(scene.height, self.tile, self.overlap),
            Tiling(scene.width, self.tile, self.overlap),
        )

    def _predict_tiles(
        self, scene: Scene, statistics: ImageStatistics, advance: Callable[[int], object]
    ) -> Iterator[Strip]:
        """Yield the probabilities of tiles."""
        size = (self.tile, self.tile)

        def read(top: int, bottom: int) -> Strip:
            strip = scene.read_rows(top, bottom)
            statistics.add_input(top, strip)
            return strip

        def predict(tiles: Sequence[Strip]) -> Tensor:
            images = torch.stack([scene.bands.scale(tile, scene.path) for tile in tiles])
            return self.probabilities(scene.bands.preprocessing(images), size)

        rows, columns = self._tilings(scene)
        return blend_tiles(read, predict, len(self.names), rows, columns, self.batch_size, advance)

    def _predict_resized(
        self, scene: Scene, statistics: ImageStatistics, advance: Callable[[int], object]
    ) -> Iterator[Strip]:
        """Yield the probabilities of the whole image, as in evaluation."""
        strip = scene.read_rows(0, scene.height)
        statistics.add_input(0, strip)
        image = scene.bands.scale(strip, scene.path)
        size = (self.img_size, self.img_size)
        small = scene.bands.preprocessing.resize_image(image, size, self.interpolation)
        normalized = scene.bands.preprocessing(small)[None]
        yield Strip(self.probabilities(normalized, (scene.height, scene.width))[0].numpy(), strip.valid)
        advance(1)

    def _open_files(
        self, scene: Scene, outputs: Outputs
    ) -> tuple[AbstractContextManager[Write], AbstractContextManager[Write]]:
        """Return the writers of masks and of probabilities."""
        size = (scene.height, scene.width)
        path = outputs.probabilities
        values: AbstractContextManager[Write] = nullcontext(_discard)
        if outputs.masks[0].suffix.lower() in TIFF:
            names = self.names if self.mode == "multilabel" else ("label",)
            dtype = "uint8" if self.no_data == 255 else "uint16"
            georeference = scene.georeference
            labels = open_raster_file(
                outputs.masks[0],
                size,
                dtype,
                names,
                no_data=self.no_data,
                georeference=georeference,
                colors=self.colors,
            )
            if path is not None:
                values = open_raster_file(
                    path, size, "float32", self.names, no_data=float("nan"), georeference=georeference
                )
        else:
            labels = open_picture_files(outputs.masks, size, self.no_data, self.colors)
            if path is not None:
                values = open_array_file(path, (len(self.names), *size))
        return labels, values


def _discard(top: int, planes: NDArray[Any]) -> None:
    """Write nothing."""


def _folder_name(name: str, number: int) -> str:
    """Return a folder name for a class; a checkpoint may hold any class name."""
    return name if re.fullmatch(r"\w[\w. -]*", name) else f"class_{number}"
