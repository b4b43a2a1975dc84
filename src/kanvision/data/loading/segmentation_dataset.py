"""Dataset of images with masks.

B batch, C channels, K classes, L label planes, H W space, S side of the resized square images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from kanvision.data.readers.segmentation_base import SegmentationSource
from kanvision.data.transforms.normalize import Preprocessing
from kanvision.data.transforms.segmentation import SegmentationAugment
from kanvision.spec.data import Interpolation

from .bad_samples import BadSample, OnBadSample, read_samples
from .image_dataset import loading_context

__all__ = ["SegmentationDataset"]


class SegmentationDataset(Dataset[Any]):
    """Dataset of images of one split with the class of each pixel, resized and normalized.

    Args:
        source: All samples of the split, with images in units of [0, 1].
        indices: Indices of the samples of the dataset.
        img_size: Side of the resized images, S.
        preprocessing: Resizing and normalization.
        interpolation: Interpolation of images; masks take the nearest label.
        augment: Random transform of image and mask; None: no augmentation.
        keep_mask_size: Keep masks at their stored size, for scores at that size.
        on_bad_sample: Treatment of samples that cannot be read.
    """

    def __init__(
        self,
        source: SegmentationSource,
        indices: NDArray[np.int64],
        *,
        img_size: int,
        preprocessing: Preprocessing,
        interpolation: Interpolation = "bilinear",
        augment: SegmentationAugment | None = None,
        keep_mask_size: bool = False,
        on_bad_sample: OnBadSample = "raise",
    ) -> None:
        self.source = source
        self.indices = indices
        self.size = (img_size, img_size)
        self.preprocessing = preprocessing
        self.interpolation = interpolation
        self.augment = augment
        self.keep_mask_size = keep_mask_size
        self.on_bad_sample = on_bad_sample

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def names(self) -> list[str]:
        """Name of each image of the dataset."""
        return [self.source.names[index] for index in self.indices]

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        """Return one sample without a batch axis; raise an error if it cannot be read."""
        with loading_context([position]):
            sample = self._sample(int(self.indices[position]))
        return {**sample, "index": torch.tensor(int(self.indices[position]))}

    def __getitems__(self, positions: Sequence[int]) -> dict[str, Any]:
        """Return a whole batch, for torch's loader.

        Returns:
            {"image": (B, C, S, S), "mask": (B, S, S) or (B, K, S, S), "index": (B,)} with indices of
            `source`, and "instances": (B, S, S) if the data set has instance masks. With `keep_mask_size`,
            mask and instances have the size of the stored image, which must be equal for all images of the
            batch. If samples could not be read and were replaced or left out, "bad_samples" lists them as
            `BadSample`; if none is left, "image" and "index" are empty and there is no mask.
        """
        with loading_context(positions):
            loaded = read_samples(positions, self._read, self.on_bad_sample, len(self))
            samples, indices = loaded.samples, self.indices[loaded.positions]
            empty = {"image": torch.empty(0, len(self.preprocessing.mean), *self.size)}
            # In a loader process, default_collate allocates shared memory, so that the batch is not copied
            # again.
            batch: dict[str, Any] = default_collate(samples) if samples else empty
        batch["index"] = torch.from_numpy(indices)
        found = [BadSample(int(self.indices[position]), problem) for position, problem in loaded.bad_samples]
        return {**batch, "bad_samples": found} if found else batch

    def _read(self, position: int) -> dict[str, Tensor]:
        return self._sample(int(self.indices[position]))

    def _sample(self, index: int) -> dict[str, Tensor]:
        sample = self.source[index]
        image, mask, instances = sample["image"], sample["mask"], sample.get("instances")
        is_stacked = mask.ndim == 3
        planes = [mask if is_stacked else mask[None]]
        if instances is not None:
            planes.append(instances[None])
        labels = torch.cat(planes) if len(planes) > 1 else planes[0]  # (L, H, W)
        if self.augment is not None:
            image, labels = self.augment(image, labels)
        image = self.preprocessing(
            self.preprocessing.resize_image(image, self.size, self.interpolation).contiguous()
        )
        if not self.keep_mask_size:
            labels = self.preprocessing.resize_labels(labels, self.size)
        if instances is None:
            return {"image": image, "mask": labels if is_stacked else labels[0]}
        mask, last = labels[:-1], labels[-1]
        return {"image": image, "mask": mask if is_stacked else mask[0], "instances": last}
