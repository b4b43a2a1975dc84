"""The dataset class that all readers' images are served through.

Legend: B batch, C channels, H W space.
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

from .bad_samples import Answer, BadSample, read_samples

__all__ = ["ImageDataset", "loading"]

Transform = Callable[[Sequence[Image.Image] | Tensor], Tensor]


@contextmanager
def loading(positions: Sequence[int]) -> Iterator[None]:
    """Draw random numbers from the batch's seed, if it carries one, and keep torch on one thread.

    The operations on a batch of small images take microseconds, less than waking a second thread, which on a
    busy machine costs a hundred times as much.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with random_state(positions.seed) if isinstance(positions, SeededBatch) else nullcontext():
            yield
    finally:
        torch.set_num_threads(before)


class ImageDataset(Dataset[dict[str, Any]]):
    """Images of one split, or some of them, as dict samples.

    A sample is {"image": tensor (C, H, W) or, without a transform, a picture; "target": int; "index": int}.
    The index is the place in `source`: it names the same image however the split was cut.

    Args:
        source: All images of the split.
        indices: Those to serve; null: all.
        transform: From several pictures, or bytes (B, C, H, W), to a float batch.
        answer: What is done with images that cannot be read.
        shape: (C, H, W) of a batch's images, for batches of which none can be read.
    """

    def __init__(
        self,
        source: ImageSource,
        indices: NDArray[np.int64] | None = None,
        transform: Transform | None = None,
        *,
        answer: Answer = "raise",
        shape: tuple[int, int, int] = (3, 1, 1),
    ) -> None:
        self.source = source
        self.indices = np.arange(len(source)) if indices is None else indices
        self.transform = transform
        self.answer = answer
        self.shape = shape

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def targets(self) -> NDArray[np.int64]:
        """(N,) class of each image that is served."""
        return self.source.targets[self.indices]

    def __getitem__(self, position: int) -> dict[str, Any]:
        """One image; one that cannot be read is an error, whatever is done with it in batches."""
        index = int(self.indices[position])
        if self.transform is None:
            image: Any = self.source.image(index)
        else:
            image = self._batch([index], [])[0]
        return {"image": image, "target": int(self.source.targets[index]), "index": index}

    def __getitems__(self, positions: Sequence[int]) -> dict[str, Any]:
        """A whole batch at once, which torch's loader asks for where it can.

        Returns:
            {"image": (B, C, H, W), "target": (B,), "index": (B,)}; to be passed through by the collate
            function. With "bad_samples", a list of `BadSample`, where images could not be read and were
            replaced or left out; "index" names those that are there.
        """
        with loading(positions):
            if isinstance(self.source, ArraySource):  # in memory, where nothing can fail
                indices, pictures, faults = self.indices[np.asarray(positions)], [], list[BadSample]()
            else:
                served = read_samples(positions, self._read, self.answer, len(self))
                indices, pictures, faults = self.indices[served.positions], served.samples, served.bad_samples
            images = self._batch(indices, pictures) if len(indices) else torch.empty(0, *self.shape)
        targets = torch.from_numpy(self.source.targets[indices])
        batch = {"image": images, "target": targets, "index": torch.from_numpy(indices)}
        found = [BadSample(int(self.indices[position]), problem) for position, problem in faults]
        return {**batch, "bad_samples": found} if found else batch

    def _read(self, position: int) -> Image.Image:
        return self.source.image(int(self.indices[position]))

    def _batch(self, indices: Sequence[int] | NDArray[np.int64], pictures: list[Image.Image]) -> Tensor:
        """The batch of these images; those in files that are not read yet are read."""
        assert self.transform is not None, "batches need a transform"
        if isinstance(self.source, ArraySource):
            return self.transform(self.source.stack(np.asarray(indices)))
        return self.transform(pictures or [self.source.image(int(index)) for index in indices])
