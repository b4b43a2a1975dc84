"""Reader of your own images in one folder for each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kanvision.data.files.folders import FolderIndex, list_subfolders
from kanvision.spec.data import SPLITS

from .base import DatasetInfo, Reader, Splits, arrange_splits, find_missing_splits, hold_out_test

__all__ = ["ImageFolder"]


class ImageFolder(Reader):
    """Images in class folders; the classes are the folders below train/, in alphabetical order.

    With test/ and val/, val/ is the validation split and data.val_fraction has no effect; with one of them,
    that one is the test split. Evaluation of a trained network needs no train/. Without any of them, the
    folders of the root are the classes, and a fixed fifth of each class is the test split.
    """

    info = DatasetInfo(
        name="image_folder",
        tree="<root>/train/<class>/<any name>.jpg, .png, .tif, ...\n"
        "<root>/test/<class>/...     or <root>/val/<class>/..., or both\n"
        "alternatively, to have a fifth of each class held out for the test:\n"
        "<root>/<class>/...",
        source="your own pictures",
    )

    def present(self) -> bool:
        """Return True if the root is a folder."""
        return self.root is not None and self.root.is_dir()

    def read(self) -> Splits:
        """Index all image files."""
        root = self.require_root()
        splits = {name: root / name for name in SPLITS if (root / name).is_dir()}
        if not splits:
            return self._whole(root)
        is_untrained = bool(self.known_classes) and "train" not in splits
        if not is_untrained and (problems := find_missing_splits(root, splits)):
            raise self.error(*problems)
        index, names = self._index(*(splits.values() if is_untrained else [splits["train"]]))
        parts = {name: index.index_class_folders(folder) for name, folder in splits.items()}
        index.check(*parts.values())
        if is_untrained:
            parts["train"] = next(iter(parts.values())).select(np.arange(0))
        return arrange_splits(names, parts)

    def _whole(self, root: Path) -> Splits:
        index, names = self._index(root)
        everything = index.index_class_folders(root)
        index.check(everything)
        if self.known_classes:
            self.facts["flat"] = f"move the class folders into {root / 'test'} to measure all images"
        return hold_out_test(self, names, everything)

    def _index(self, *folders: Path) -> tuple[FolderIndex, tuple[str, ...]]:
        names = tuple(sorted({name for folder in folders for name in list_subfolders(folder)}))
        if not names:
            raise self.error(f"{folders[0]}: holds no class folder")
        index = FolderIndex(self, {name: label for label, name in enumerate(names)})
        index.problems += self.find_class_problems(names)
        return index, names
