"""From the parts that a folder has to train, validation and test."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from kanvision.data.splits import stratified_holdout

from .reader import Reader, Splits
from .sources import ImageSource

__all__ = ["PARTS", "arrange", "hold_out", "missing_parts"]

PARTS: Final = ("train", "test", "val")
# Of images that come without a test split; a change would move everybody's test images into training.
_TEST_FRACTION: Final = 0.2
_TEST_SEED: Final = 0


def missing_parts(root: Path, present: Collection[str]) -> list[str]:
    """Complaints about parts that are needed beside those that are present."""
    problems = []
    if "train" not in present:
        problems.append(f"{root / 'train'}: is missing, but there is {' and '.join(present)}")
    if set(present) == {"train"}:
        problems.append(
            f"{root / 'test'}: is missing, and so is val; add one of them, or name no part, "
            "to have a fifth of each class held out"
        )
    return problems


def arrange(class_names: tuple[str, ...], parts: Mapping[str, ImageSource]) -> Splits:
    """With test and val both present, val is for validation; with one of them, it is the test."""
    held_out = [parts[name] for name in ("test", "val") if name in parts]
    return Splits(class_names, parts["train"], held_out[0], held_out[1] if len(held_out) == 2 else None)


def hold_out(reader: Reader, class_names: tuple[str, ...], everything: ImageSource) -> Splits:
    """A fixed fifth of each class is the test.

    Raises:
        DataError: If no class has two images.
    """
    train, test = stratified_holdout(everything.targets, _TEST_FRACTION, _TEST_SEED)
    if not len(test):
        raise reader.error(f"{reader.root}: no class has two images, so none can be held out for the test")
    return Splits(class_names, everything.select(train), everything.select(test))
