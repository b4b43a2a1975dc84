"""What only all samples together tell: copies, leaks, classes missing from a part, unused files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from PIL import Image

from kanvision.data.files.walk import list_files
from kanvision.spec.data import SPLITS

from .issues import DataIssue, InspectedSample

__all__ = ["absent_classes", "copies", "strays"]

DOCUMENTS: Final = {".csv", ".html", ".json", ".md", ".pdf", ".txt", ".xml", ".yaml", ".yml"}
"""Endings of files that lie beside images by right."""


def copies(
    seen: Mapping[str, Sequence[InspectedSample]], class_names: Sequence[str], *, of_classes: bool
) -> Iterator[DataIssue]:
    """Images with the same content.

    Args:
        seen: Samples by split.
        class_names: Names of the classes.
        of_classes: Each image has one class, so that copies must have the same.
    """
    first: dict[bytes, tuple[str, InspectedSample]] = {}
    for split in reversed(SPLITS):  # a leak is mended in training
        for sample in seen.get(split, ()):
            if not sample.digest:
                continue
            if sample.digest not in first:
                first[sample.digest] = split, sample
                continue
            other_split, other = first[sample.digest]
            if other.name == sample.name:
                continue  # one file that is used in two splits on purpose
            same = f"has the same content as {other.name}"
            if of_classes and other.labels != sample.labels:
                classes = [_named(class_names, each.labels) for each in (other, sample)]
                wrong = f"{same}, which has class {classes[0]} and this one {classes[1]}"
                yield DataIssue(sample.name, wrong, "keep the right one", split)
            elif other_split != split:
                wrong = f"{same} in {other_split}: a leak"
                yield DataIssue(sample.name, wrong, "delete one of them", split)
            else:
                yield DataIssue(sample.name, same, "counts twice", split, is_bad=False)


def _named(class_names: Sequence[str], labels: Sequence[int]) -> str:
    return " and ".join(class_names[label] if label < len(class_names) else str(label) for label in labels)


def absent_classes(
    seen: Mapping[str, Sequence[InspectedSample]], class_names: Sequence[str], *, of_classes: bool
) -> Iterator[DataIssue]:
    """Classes that some parts of a data set have and others have not.

    Args:
        seen: Samples by split.
        class_names: Names of the classes.
        of_classes: Each image has one class; for masks, which show few classes each, it is no fault.
    """
    present = {
        split: {label for sample in samples for label in sample.labels} for split, samples in seen.items()
    }
    present = {split: labels for split, labels in present.items() if labels}
    everywhere = set().union(*present.values()) if present else set()
    for split, labels in present.items():
        for label in sorted(everywhere - labels):
            others = ", ".join(other for other, found in present.items() if label in found)
            name = _named(class_names, [label])
            wrong = f"class {name} is in {others} and not here"
            right = f"add images of {name}, or take it out of {others}"
            yield DataIssue(split, wrong, right, split, is_bad=of_classes)
    if of_classes and (missing := len(class_names) - len(everywhere)):
        wrong = f"{missing} of {len(class_names)} classes have no image"
        yield DataIssue("", wrong, "right for a part of the data set", is_bad=False)


def strays(root: Path, used: set[str]) -> Iterator[DataIssue]:
    """Files below the root that are not used, a line for each folder and ending.

    Args:
        root: Folder of the data set.
        used: Paths of the files that are.
    """
    formats = Image.registered_extensions()
    folders: dict[str, list[str]] = {}
    for path in list_files(root).files:
        folders.setdefault(os.path.dirname(path), []).append(os.path.basename(path))
    for folder, names in folders.items():
        here = [name for name in names if os.path.join(folder, name) not in used]
        beside = len(here) < len(names)  # files that are used
        endings = Counter(os.path.splitext(name)[1].lower() for name in here)
        for ending, count in endings.items():
            is_image = ending in formats or ending == ".npy"
            if not is_image and (not beside or ending in DOCUMENTS):
                continue
            example = next(name for name in here if os.path.splitext(name)[1].lower() == ending)
            what = (
                f"{count} files ending in {ending or 'nothing'} are not used" if count > 1 else "is not used"
            )
            file = folder if count > 1 else os.path.join(folder, example)
            more = f", {example} for example" if count > 1 else ""
            yield DataIssue(file, what + more, "right if they are none of the data", is_bad=False)
