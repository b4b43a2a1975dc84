"""Checks of a whole data set: duplicates, leaks between splits, missing classes and unused files."""

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

__all__ = ["find_absent_classes", "find_duplicates", "find_unused_files"]

DOCUMENTS: Final = {".csv", ".html", ".json", ".md", ".pdf", ".txt", ".xml", ".yaml", ".yml"}
"""Suffixes of files that are legal beside images."""


def find_duplicates(
    samples: Mapping[str, Sequence[InspectedSample]], class_names: Sequence[str], *, has_targets: bool
) -> Iterator[DataIssue]:
    """Find images with equal contents.

    Args:
        samples: Inspected samples by split.
        class_names: Names of the classes.
        has_targets: Each image has one class, so that duplicates must have the same class.
    """
    first: dict[bytes, tuple[str, InspectedSample]] = {}
    for split in reversed(SPLITS):  # a leak is reported in the training split
        for sample in samples.get(split, ()):
            if not sample.digest:
                continue
            if sample.digest not in first:
                first[sample.digest] = split, sample
                continue
            other_split, other = first[sample.digest]
            if other.name == sample.name:
                continue  # one file that two splits use on purpose
            same = f"has the same content as {other.name}"
            if has_targets and other.labels != sample.labels:
                classes = [_join_class_names(class_names, each.labels) for each in (other, sample)]
                wrong = f"{same}, which has class {classes[0]} and this one {classes[1]}"
                yield DataIssue(sample.name, wrong, "keep the right one", split)
            elif other_split != split:
                wrong = f"{same} in {other_split}: a leak"
                yield DataIssue(sample.name, wrong, "delete one of them", split)
            else:
                yield DataIssue(sample.name, same, "counts twice", split, is_bad=False)


def _join_class_names(class_names: Sequence[str], labels: Sequence[int]) -> str:
    return " and ".join(class_names[label] if label < len(class_names) else str(label) for label in labels)


def find_absent_classes(
    samples: Mapping[str, Sequence[InspectedSample]], class_names: Sequence[str], *, has_targets: bool
) -> Iterator[DataIssue]:
    """Find classes that are absent from some splits of a data set.

    Args:
        samples: Inspected samples by split.
        class_names: Names of the classes.
        has_targets: Each image has one class; for masks, which show few classes each, an absence is legal.
    """
    present = {
        split: {label for sample in inspected for label in sample.labels}
        for split, inspected in samples.items()
    }
    present = {split: labels for split, labels in present.items() if labels}
    everywhere = set().union(*present.values()) if present else set()
    for split, labels in present.items():
        for label in sorted(everywhere - labels):
            others = ", ".join(other for other, found in present.items() if label in found)
            name = _join_class_names(class_names, [label])
            wrong = f"class {name} is in {others} and not here"
            right = f"add images of {name}, or take it out of {others}"
            yield DataIssue(split, wrong, right, split, is_bad=has_targets)
    if has_targets and (missing := len(class_names) - len(everywhere)):
        wrong = f"{missing} of {len(class_names)} classes have no image"
        yield DataIssue("", wrong, "legal for a part of the data set", is_bad=False)


def find_unused_files(root: Path, used: set[str]) -> Iterator[DataIssue]:
    """Find files below the root that are not used, with one issue for each folder and suffix.

    Args:
        root: Folder of the data set.
        used: Paths of the used files.
    """
    formats = Image.registered_extensions()
    folders: dict[str, list[str]] = {}
    for path in list_files(root).files:
        folders.setdefault(os.path.dirname(path), []).append(os.path.basename(path))
    for folder, names in folders.items():
        unused = [name for name in names if os.path.join(folder, name) not in used]
        holds_used = len(unused) < len(names)
        suffixes = Counter(os.path.splitext(name)[1].lower() for name in unused)
        for suffix, count in suffixes.items():
            is_image = suffix in formats or suffix == ".npy"
            if not is_image and (not holds_used or suffix in DOCUMENTS):
                continue
            example = next(name for name in unused if os.path.splitext(name)[1].lower() == suffix)
            what = (
                f"{count} files ending in {suffix or 'nothing'} are not used" if count > 1 else "is not used"
            )
            file = folder if count > 1 else os.path.join(folder, example)
            more = f", {example} for example" if count > 1 else ""
            yield DataIssue(file, what + more, "legal if they are not part of the data", is_bad=False)
