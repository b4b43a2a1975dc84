"""Synthetic farmland: generated multispectral images of crop fields with exact masks.

Parcels are the cells of a Voronoi diagram under a random linear map, so their
borders are straight; a strip along each border is road. Crops have smooth spectra, the same in all images;
brightness, growth and sowing rows differ from field to field. Pixels and mask come from one formula, so the
mask has no errors.

B batch, C bands, H W space, F fields of one image.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from numpy.typing import NDArray

from kanvision.data.files.mask_values import format_values
from kanvision.data.seeding import derive_seed

from .base import DatasetInfo
from .segmentation_base import SegmentationReader, SegmentationSample, SegmentationSource, SegmentationSplits

__all__ = ["SyntheticFields", "SyntheticFieldsReader"]

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

NUM_IMAGES = {"train": 640, "test": 160}
"""Number of images of each split of `SyntheticFieldsReader`."""
ROAD_WIDTH = 0.03
"""Width of a road as a fraction of the side of the image."""
FALLOW_RATE = 0.2
"""Fraction of parcels without a crop, which are background as roads are."""
NUM_SMOOTH_TERMS = 4
"""Number of cosines over the bands of which a spectrum is a sum, so that neighboring bands are similar."""


class SyntheticFieldsReader(SegmentationReader):
    """Reader of `synthetic_fields`, which generates equal images for equal sizes; `root` has no effect."""

    info = DatasetInfo(name="synthetic_fields", tree="(no files)", source="generated, without a download")

    def present(self) -> bool:
        """Return True, because the images are generated."""
        return True

    def read(self) -> SegmentationSplits:
        """Return the two splits.

        Raises:
            ValueError: If a number is missing or out of range.
        """
        if self.root is not None:
            why = "has no effect on synthetic_fields: they are generated"
            warnings.warn(f"data.root={self.root} {why}", stacklevel=2)
        if self.num_classes is None:
            raise ValueError(
                "data.num_classes=null: generated data have no classes to count; legal: 2 or more"
            )
        sizes = {"img_size": self.img_size, "in_chans": self.in_chans, "num_classes": self.num_classes}
        self.facts["masks"] = f"{format_values(range(self.num_classes))}, generated"
        train, test = (SyntheticFields(count, split=split, **sizes) for split, count in NUM_IMAGES.items())
        return SegmentationSplits(train.class_names, train, test)


class SyntheticFields(SegmentationSource):
    """Source of generated fields; image i depends on (seed, split, i) and the sizes alone.

    The spectra of the classes depend on (seed, num_classes, in_chans) and are common to all splits.

    Args:
        num_images: Number of images.
        img_size: Side of the images in pixels.
        in_chans: Number of bands.
        num_classes: Background and num_classes - 1 crops.
        seed: Seed of the landscape and of the spectra of crops.
        split: Name of the split, each of which has other fields of the same crops.
        num_fields: Mean number of parcels of an image.
        noise: Standard deviation of the sensor noise, in units of [0, 1].
        cloud_rate: Fraction of images that a cloud covers in part; the mask shows the ground below it.

    Raises:
        ValueError: If a size, count or rate is out of range.
    """

    def __init__(
        self,
        num_images: int,
        *,
        img_size: int = 64,
        in_chans: int = 4,
        num_classes: int = 4,
        seed: int = 0,
        split: str = "train",
        num_fields: int = 10,
        noise: float = 0.1,
        cloud_rate: float = 0.0,
    ) -> None:
        _check_at_least("num_images", num_images, 1)
        _check_at_least("img_size", img_size, 8)
        _check_at_least("in_chans", in_chans, 1)
        _check_at_least("num_classes", num_classes, 2)
        _check_at_least("num_fields", num_fields, 1)
        if noise < 0:
            raise ValueError(f"noise={noise}; legal: 0 or more")
        if not 0 <= cloud_rate <= 1:
            raise ValueError(f"cloud_rate={cloud_rate}; legal: 0 to 1")
        self.names = tuple(f"{split}_{index}" for index in range(num_images))
        self.strata = np.zeros(num_images, dtype=np.int64)
        self.img_size = img_size
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.seed = seed
        self.split = split
        self.num_fields = num_fields
        self.noise = noise
        self.cloud_rate = cloud_rate
        self.spectra = _spectra(num_classes, in_chans, seed)
        side = (np.arange(img_size, dtype=np.float32) + 0.5) / img_size
        self._pixels = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)  # (H*W, 2)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in the order of the labels."""
        return ("background", *(f"synthetic_crop_{k}" for k in range(1, self.num_classes)))

    def __getitem__(self, index: int) -> SegmentationSample:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        rng = np.random.default_rng(derive_seed("synthetic_fields", self.seed, self.split, index))
        field, is_road = self._parcels(rng)
        num_fields = int(field.max()) + 1
        crops = rng.integers(1, self.num_classes, num_fields)
        crops[rng.random(num_fields) < FALLOW_RATE] = 0
        mask = np.where(is_road, 0, crops[field])  # (H*W,)
        image = self.spectra[mask] * self._relief(rng, field, crops, is_road)[:, None]  # (H*W, C)
        if rng.random() < self.cloud_rate:
            cover = self._cloud(rng)[:, None]
            image = image * (1 - cover) + 0.95 * cover
        image += self.noise * rng.standard_normal(image.shape, dtype=np.float32)
        size = self.img_size
        pixels = image.clip(0, 1).T.reshape(self.in_chans, size, size)
        return {
            "image": torch.from_numpy(np.ascontiguousarray(pixels)),
            "mask": torch.from_numpy(mask.reshape(size, size)),
            "index": index,
        }

    def _parcels(self, rng: np.random.Generator) -> tuple[Labels, NDArray[np.bool_]]:
        """Return the parcel of each pixel and a mask of roads, both (H*W,).

        With d1 <= d2 the distances of a pixel to the two nearest sites s1, s2, the border between their cells
        is (d2^2 - d1^2) / (2 |s2 - s1|) away.
        """
        num = max(2, rng.poisson(self.num_fields))
        sites = (
            rng.random((num, 2), dtype=np.float32) * 1.4 - 0.2
        )  # some sites lie outside, so that fields are cut off
        angle, stretch = rng.uniform(0, math.pi), rng.uniform(1, 2)
        cos, sin, root = math.cos(angle), math.sin(angle), math.sqrt(stretch)
        warp = np.array([[cos * root, -sin / root], [sin * root, cos / root]], np.float32)
        sites, pixels = sites @ warp, self._pixels @ warp
        squares = ((pixels[:, None] - sites) ** 2).sum(axis=-1)  # (H*W, F)
        nearest = np.argpartition(squares, 1, axis=1)[:, :2]
        d1, d2 = np.take_along_axis(squares, nearest, axis=1).T
        gap = np.linalg.norm(sites[nearest[:, 0]] - sites[nearest[:, 1]], axis=1)
        to_border = (d2 - d1) / (2 * gap)
        return nearest[:, 0], to_border < ROAD_WIDTH / 2

    def _relief(
        self, rng: np.random.Generator, field: Labels, crops: Labels, is_road: NDArray[np.bool_]
    ) -> Floats:
        """Return the factor on the spectrum of each pixel, (H*W,), from field state, rows and growth."""
        num = len(crops)
        level = rng.uniform(0.8, 1.2, num)
        angle = rng.uniform(0, math.pi, num)
        period = rng.uniform(4, 10, num) / self.img_size
        depth = np.where(crops > 0, rng.uniform(0.0, 0.2, num), 0.0)
        waves = 2 * math.pi * np.stack([np.cos(angle), np.sin(angle)], axis=1) / period[:, None]  # (F, 2)
        phase = (self._pixels * waves.astype(np.float32)[field]).sum(axis=1)
        rows = depth.astype(np.float32)[field] * np.sin(phase)
        factor = level.astype(np.float32)[field] * (1 + rows + 0.1 * self._swell(rng))
        return np.where(is_road, np.float32(1), factor)

    def _swell(self, rng: np.random.Generator) -> Floats:
        """Return a smooth random surface between -1 and 1, (H*W,): the mean of three plane waves."""
        waves = rng.normal(0, 8, (2, 3)).astype(np.float32)
        phases = rng.uniform(0, 2 * math.pi, 3).astype(np.float32)
        surface: Floats = np.sin(self._pixels @ waves + phases).mean(axis=1)
        return surface

    def _cloud(self, rng: np.random.Generator) -> Floats:
        """Return the opacity of a cloud, (H*W,): a soft disc with an uneven rim."""
        center = rng.random(2, dtype=np.float32)
        distance = np.linalg.norm(self._pixels - center, axis=1) + 0.1 * self._swell(rng)
        opacity: Floats = (1.5 - distance / np.float32(rng.uniform(0.1, 0.3))).clip(0, 0.9)
        return opacity


def _spectra(num_classes: int, in_chans: int, seed: int) -> Floats:
    """Return the reflectance of each class in each band, (num_classes, C), between 0.15 and 0.65.

    Each spectrum is a point in the space of the first cosines over the bands; of many random points, those
    farthest from each other are chosen, so that all crops differ.
    """
    rng = np.random.default_rng(derive_seed("synthetic_fields spectra", seed, num_classes, in_chans))
    terms = np.arange(min(in_chans, NUM_SMOOTH_TERMS))
    bands = (np.arange(in_chans) + 0.5) / in_chans
    candidates = rng.uniform(-1, 1, (64 * num_classes, len(terms))) @ np.cos(math.pi * terms[:, None] * bands)
    candidates = 0.4 + 0.25 * candidates / np.abs(candidates).max()
    chosen = [0]
    for _ in range(num_classes - 1):
        to_chosen = np.linalg.norm(candidates[:, None] - candidates[chosen], axis=-1).min(axis=1)
        chosen.append(int(to_chosen.argmax()))
    spectra: Floats = candidates[chosen].astype(np.float32)
    return spectra


def _check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name}={value}; legal: {least} or more")
