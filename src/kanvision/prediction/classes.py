"""Prediction of the classes of image files, written to a table."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kanvision.data.errors import DataError
from kanvision.data.files.images import Decoding, FileSource
from kanvision.data.files.pillow import MAX_PIXELS
from kanvision.data.transforms.classification import BatchTransform

from .files import write_atomically
from .inputs import Inputs

__all__ = ["find_unusable_pictures", "predict_classes"]


def _build_source(paths: Sequence[Path], max_pixels: int | None) -> FileSource:
    """Return the source of image files of unknown classes."""
    decoding = Decoding(max_pixels, limit_key="predict.max_pixels")
    unknown = np.zeros(len(paths), np.int64)
    return FileSource([str(path) for path in paths], unknown, lambda found: DataError(found[0]), decoding)


def find_unusable_pictures(
    paths: Sequence[Path],
    max_pixels: int | None = MAX_PIXELS,
    advance: Callable[[int], object] = lambda count: None,
) -> list[str]:
    """Return the problems with files that cannot be read as images."""
    source, problems = _build_source(paths, max_pixels), []
    for index in range(len(paths)):
        try:
            source.image(index)
        except DataError as error:
            problems.append(str(error))
        advance(1)
    return problems


def predict_classes(
    inputs: Inputs,
    table: Path,
    probabilities: Callable[[Tensor], Tensor],
    transform: BatchTransform,
    names: Sequence[str],
    batch_size: int,
    num_ranked: int = 5,
    max_pixels: int | None = MAX_PIXELS,
    advance: Callable[[int], object] = lambda count: None,
) -> Counter[str]:
    """Write a row for each image: file, class, probability, and the next classes.

    Args:
        inputs: The images.
        table: The .csv file.
        probabilities: Maps normalized images (B, C, S, S) to probabilities (B, K).
        transform: Transform of evaluation.
        names: Class names, (K,).
        batch_size: Number of images of a batch, B.
        num_ranked: Number of classes in a row.
        max_pixels: Largest number of pixels of an image; None: no limit.
        advance: Called with the number of images that were finished.

    Returns:
        Number of images by first class; images for which the network returned NaN or infinity count as "".
    """
    num_ranked = min(num_ranked, len(names))
    head = ["file", "class", "probability"]
    head += [f"{what}_{rank}" for rank in range(2, num_ranked + 1) for what in ("class", "probability")]
    source, counts = _build_source(inputs.paths, max_pixels), Counter[str]()
    with write_atomically(table) as part, part.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(head)
        for first in range(0, len(inputs.names), batch_size):
            batch = range(first, min(first + batch_size, len(inputs.names)))
            images = transform([source.image(index) for index in batch])
            for index, values in zip(batch, probabilities(images), strict=True):
                cells = _rank_classes(values, names, num_ranked)
                rows.writerow([inputs.names[index].as_posix(), *cells])
                counts[cells[0]] += 1
            advance(len(batch))
    return counts


def _rank_classes(values: Tensor, names: Sequence[str], count: int) -> list[str]:
    """Return class and probability of the first classes; blanks for NaN or infinity."""
    if not torch.isfinite(values).all():
        return [""] * (2 * count)
    best, indices = values.topk(count)
    return [
        cell
        for value, index in zip(best.tolist(), indices.tolist(), strict=True)
        for cell in (names[index], f"{value:.6f}")
    ]
