"""The dataset class that all images with masks are served through.

B batch, C channels, K classes, L label planes, H W space, S side of the square that images are brought to.
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
from kanvision.data.transforms.segmentation import MaskedAugment
from kanvision.spec.data import Interpolation

from .bad_samples import Answer, BadSample, read_samples
from .image_dataset import loading

__all__ = ["SegmentationDataset"]


class SegmentationDataset(Dataset[Any]):
    """Images of one split, or some of them, with the class of each pixel; resized and normalized.

    Args:
        source: All samples of the split, images in units of [0, 1].
        indices: Those to serve.
        img_size: S.
        preprocessing: Resizing and normalization.
        interpolation: How images are resized; masks take the nearest label.
        augment: Random transform of image and mask; None: none.
        whole_masks: Leave masks at their own size, for scores at the size of the stored image.
        answer: What is done with samples that cannot be read.
    """

    def __init__(
        self,
        source: SegmentationSource,
        indices: NDArray[np.int64],
        *,
        img_size: int,
        preprocessing: Preprocessing,
        interpolation: Interpolation = "bilinear",
        augment: MaskedAugment | None = None,
        whole_masks: bool = False,
        answer: Answer = "raise",
    ) -> None:
        self.source = source
        self.indices = indices
        self.size = (img_size, img_size)
        self.preprocessing = preprocessing
        self.interpolation = interpolation
        self.augment = augment
        self.whole_masks = whole_masks
        self.answer = answer

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def names(self) -> list[str]:
        """Name of each image that is served."""
        return [self.source.names[index] for index in self.indices]

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        """One sample, as in `__getitems__` without the batch axis; one that cannot be read is an error."""
        with loading([position]):
            sample = self._sample(int(self.indices[position]))
        return {**sample, "index": torch.tensor(int(self.indices[position]))}

    def __getitems__(self, positions: Sequence[int]) -> dict[str, Any]:
        """A whole batch at once, which torch's loader asks for where it can.

        Returns:
            {"image": (B, C, S, S), "mask": (B, S, S) or (B, K, S, S), "index": (B,)}, the index being the
            place in `source`, and "instances": (B, S, S) where the data set has them. With whole masks, mask
            and instances have the size of the stored image, which must be that of all images of the batch.
            With "bad_samples", a list of `BadSample`, where samples could not be read and were replaced or
            left out; if none is left, the batch has empty "image" and "index" and no mask.
        """
        with loading(positions):
            served = read_samples(positions, self._read, self.answer, len(self))
            samples, indices = served.samples, self.indices[served.positions]
            empty = {"image": torch.empty(0, len(self.preprocessing.mean), *self.size)}
            # In a loader process, this puts the batch into memory that the main process sees, without a copy.
            batch: dict[str, Any] = default_collate(samples) if samples else empty
        batch["index"] = torch.from_numpy(indices)
        found = [BadSample(int(self.indices[position]), problem) for position, problem in served.bad_samples]
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
        if not self.whole_masks:
            labels = self.preprocessing.resize_labels(labels, self.size)
        if instances is None:
            return {"image": image, "mask": labels if is_stacked else labels[0]}
        mask, last = labels[:-1], labels[-1]
        return {"image": image, "mask": mask if is_stacked else mask[0], "instances": last}
