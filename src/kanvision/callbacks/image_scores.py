"""Callback that collects the outputs of an evaluation for each image."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback

from .distributed import all_gather_object

__all__ = ["ImageOutputs", "ImageScores"]


class ImageOutputs(NamedTuple):
    """Outputs of an evaluation, in the order of the images. N images, C classes, K foreground classes."""

    indices: NDArray[np.int64]
    """Index of each image in its source, (N,)."""
    values: NDArray[Any]
    """Probabilities (N, C) of a classifier, or counts (N, 3, K) of pixels, see `pixel_counts`."""
    target: NDArray[np.int64] | None
    """Class of each image, (N,); None for masks."""


class ImageScores(Callback):
    """Keeps class probabilities or counts of pixels of each evaluated image, and nothing of the images."""

    def __init__(self) -> None:
        self._parts: list[list[NDArray[Any]]] = []

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any, **__: Any
    ) -> None:
        """Keep the outputs of a batch."""
        if outputs is None or "index" not in batch:
            return
        if "mask" in batch:
            values = outputs["measured"]["counts"].transpose(0, 1)
            labels = batch["index"]
        else:
            values, labels = outputs["measured"]["preds"].float(), batch["target"]
        self._parts.append([tensor.detach().cpu().numpy() for tensor in (batch["index"], values, labels)])

    on_validation_batch_end = on_test_batch_end

    def gather(self, has_masks: bool) -> ImageOutputs | None:
        """Return the outputs of all ranks, sorted by index; None if there are none. A collective call."""
        own = [np.concatenate(column) for column in zip(*self._parts, strict=True)]
        parts = [part for part in all_gather_object(own) if part]
        if not parts:
            return None
        index, values, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(index, kind="stable")
        return ImageOutputs(index[order], values[order], None if has_masks else labels[order])
