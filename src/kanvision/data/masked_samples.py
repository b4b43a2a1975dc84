"""The dataset class that all images with masks are served through.

B batch, C channels, H W space.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from .augment import MaskedAugment
from .datasets.masks import SegmentationSample
from .samples import loading
from .transforms import ImageSpec

__all__ = ["MaskedDataset"]


class MaskedDataset(Dataset[Any]):
    """Images of one split, or some of them, with the class of each pixel; normalised.

    Args:
        source: All samples of the split, images in units of [0, 1].
        indices: Those to serve.
        spec: Mean and standard deviation of each channel.
        augment: Random transform of image and mask; None: none.
    """

    def __init__(
        self,
        source: Dataset[SegmentationSample],
        indices: NDArray[np.int64],
        spec: ImageSpec,
        augment: MaskedAugment | None = None,
    ) -> None:
        self.source = source
        self.indices = indices
        self.augment = augment
        self.mean = torch.tensor(spec.mean, dtype=torch.float32)[:, None, None]
        self.std = torch.tensor(spec.std, dtype=torch.float32)[:, None, None]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        """One sample, as in `__getitems__` without the batch axis."""
        return {key: value[0] for key, value in self.__getitems__([position]).items()}

    def __getitems__(self, positions: Sequence[int]) -> dict[str, Tensor]:
        """A whole batch at once, which torch's loader asks for where it can.

        Returns:
            {"image": (B, C, H, W), "mask": (B, H, W), "index": (B,)}, the index being the place in `source`.
        """
        indices = self.indices[np.asarray(positions)]
        with loading(positions):
            pairs = [self._pair(int(index)) for index in indices]
            images = torch.stack([image for image, _ in pairs]).sub_(self.mean).div_(self.std)
            masks = torch.stack([mask for _, mask in pairs])
        return {"image": images, "mask": masks, "index": torch.from_numpy(indices)}

    def _pair(self, index: int) -> tuple[Tensor, Tensor]:
        sample = self.source[index]
        if self.augment is None:
            return sample["image"], sample["mask"]
        image, mask = self.augment(sample["image"].permute(1, 2, 0).numpy(), sample["mask"].numpy())
        # Flipped arrays have negative strides, which torch does not take.
        image, mask = np.ascontiguousarray(image.transpose(2, 0, 1)), np.ascontiguousarray(mask)
        return torch.from_numpy(image), torch.from_numpy(mask)
