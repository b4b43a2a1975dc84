"""Dataset of images with one class each.

B batch, C channels, H W space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from kanvision.data.readers import ArraySource, ImageSource
from kanvision.data.seeding import SeededBatch, random_state

from .bad_samples import BadSample, OnBadSample, read_samples

__all__ = ["ImageDataset", "loading_context"]

Transform = Callable[[Sequence[Image.Image] | Tensor], Tensor]


@contextmanager
def loading_context(positions: Sequence[int]) -> Iterator[None]:
    """Seed random numbers from the seed of a batch, if it carries one, and keep torch on one thread.

    Operations on a batch of small images take microseconds, less than starting a second thread, which on a
    busy machine takes a hundred times as long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with random_state(positions.seed) if isinstance(positions, SeededBatch) else nullcontext():
            yield
    finally:
        torch.set_num_threads(before)


class ImageDataset(Dataset[dict[str, Any]]):
    """Dataset of images of one split with one class each.

    A sample is {"image": tensor (C, H, W) or, without a transform, an image of Pillow; "target": int;
    "index": int}. The index is that of `source`, which is the same for all choices of `indices`.

    Args:
        source: All images of the split.
        indices: Indices of the images of the dataset; None: all.
        transform: Maps images, or bytes (B, C, H, W), to a float batch.
        on_bad_sample: Treatment of images that cannot be read.
        shape: Shape of an image, (C, H, W), for batches of which no image can be read.
    """

    def __init__(
        self,
        source: ImageSource,
        indices: NDArray[np.int64] | None = None,
        transform: Transform | None = None,
        *,
        on_bad_sample: OnBadSample = "raise",
        shape: tuple[int, int, int] = (3, 1, 1),
    ) -> None:
        self.source = source
        self.indices = np.arange(len(source)) if indices is None else indices
        self.transform = transform
        self.on_bad_sample = on_bad_sample
        self.shape = shape

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def targets(self) -> NDArray[np.int64]:
        """Class of each image of the dataset, (N,)."""
        return self.source.targets[self.indices]

    def __getitem__(self, position: int) -> dict[str, Any]:
        """Return one sample; if it cannot be read, raise an error for any `on_bad_sample`."""
        index = int(self.indices[position])
        if self.transform is None:
            image: Any = self.source.image(index)
        else:
            image = self._batch([index], [])[0]
        return {"image": image, "target": int(self.source.targets[index]), "index": index}

    def __getitems__(self, positions: Sequence[int]) -> dict[str, Any]:
        """Return a whole batch, for torch's loader.

        Returns:
            {"image": (B, C, H, W), "target": (B,), "index": (B,)}, which the collate function passes through.
            If images could not be read and were replaced or left out, "bad_samples" lists them as
            `BadSample`, and "index" holds the indices of the images in the batch.
        """
        with loading_context(positions):
            if isinstance(self.source, ArraySource):  # in memory, where reading cannot fail
                indices, pictures, bad_samples = self.indices[np.asarray(positions)], [], list[BadSample]()
            else:
                loaded = read_samples(positions, self._read, self.on_bad_sample, len(self))
                indices, pictures, bad_samples = (
                    self.indices[loaded.positions],
                    loaded.samples,
                    loaded.bad_samples,
                )
            images = self._batch(indices, pictures) if len(indices) else torch.empty(0, *self.shape)
        targets = torch.from_numpy(self.source.targets[indices])
        batch = {"image": images, "target": targets, "index": torch.from_numpy(indices)}
        found = [BadSample(int(self.indices[position]), problem) for position, problem in bad_samples]
        return {**batch, "bad_samples": found} if found else batch

    def _read(self, position: int) -> Image.Image:
        return self.source.image(int(self.indices[position]))

    def _batch(self, indices: Sequence[int] | NDArray[np.int64], pictures: list[Image.Image]) -> Tensor:
        """Return the transformed batch of images, which are read from their files if none are given."""
        assert self.transform is not None, "batches need a transform"
        if isinstance(self.source, ArraySource):
            return self.transform(self.source.stack(np.asarray(indices)))
        return self.transform(pictures or [self.source.image(int(index)) for index in indices])
