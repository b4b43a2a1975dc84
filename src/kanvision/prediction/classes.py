"""From pictures in files to a table of their classes."""

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

from .files import draft
from .inputs import Inputs

__all__ = ["predict_classes", "unusable_pictures"]


def _source(paths: Sequence[Path], max_pixels: int | None) -> FileSource:
    """The pictures as the readers of data sets have them; their classes are not known."""
    decoding = Decoding(max_pixels, limit_key="predict.max_pixels")
    unknown = np.zeros(len(paths), np.int64)
    return FileSource([str(path) for path in paths], unknown, lambda found: DataError(found[0]), decoding)


def unusable_pictures(
    paths: Sequence[Path],
    max_pixels: int | None = MAX_PIXELS,
    advance: Callable[[int], object] = lambda count: None,
) -> list[str]:
    """Complaints about files that cannot be read as pictures."""
    source, problems = _source(paths, max_pixels), []
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
    most: int = 5,
    max_pixels: int | None = MAX_PIXELS,
    advance: Callable[[int], object] = lambda count: None,
) -> Counter[str]:
    """Write a row for each picture: file, class, probability, and the classes that come next.

    Args:
        inputs: The pictures.
        table: The .csv file.
        probabilities: Normalized images (B, C, S, S) to probabilities (B, K).
        transform: What evaluation does to pictures.
        names: K names of classes.
        batch_size: B.
        most: Number of classes in a row.
        max_pixels: Most pixels of a picture; None: no limit.
        advance: Is told how many more pictures are done.

    Returns:
        How often each class comes first; pictures for which the network gave no numbers count as "".
    """
    most = min(most, len(names))
    head = ["file", "class", "probability"]
    head += [f"{what}_{rank}" for rank in range(2, most + 1) for what in ("class", "probability")]
    source, counts = _source(inputs.paths, max_pixels), Counter[str]()
    with draft(table) as path, path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(head)
        for first in range(0, len(inputs.names), batch_size):
            batch = range(first, min(first + batch_size, len(inputs.names)))
            images = transform([source.image(index) for index in batch])
            for index, values in zip(batch, probabilities(images), strict=True):
                cells = _ranking(values, names, most)
                rows.writerow([inputs.names[index].as_posix(), *cells])
                counts[cells[0]] += 1
            advance(len(batch))
    return counts


def _ranking(values: Tensor, names: Sequence[str], most: int) -> list[str]:
    """Class and probability of the first ones; blank if there is no number."""
    if not torch.isfinite(values).all():
        return [""] * (2 * most)
    best, indices = values.topk(most)
    return [
        cell
        for value, index in zip(best.tolist(), indices.tolist(), strict=True)
        for cell in (names[index], f"{value:.6f}")
    ]
