"""Your own classes: one folder of pictures a class."""

from __future__ import annotations

from pathlib import Path

from kanvision.data.files.folders import FolderIndex, subfolders
from kanvision.spec.data import SPLITS

from .base import DatasetInfo, Reader, Splits, arrange, hold_out, missing_parts

__all__ = ["ImageFolder"]


class ImageFolder(Reader):
    """Classes are the folders below train/, in alphabetical order.

    With test/ and val/ both present, val/ is used for validation and data.val_fraction has no effect; with
    one of them, it is the test split. Without train/, the root's own folders are the classes, and a fixed
    fifth of each is the test split.
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
        """Whether the root is a folder."""
        return self.root is not None and self.root.is_dir()

    def read(self) -> Splits:
        """Index all image files."""
        root = self.existing_root()
        splits = {name: root / name for name in SPLITS if (root / name).is_dir()}
        if not splits:
            return self._whole(root)
        if problems := missing_parts(root, splits):
            raise self.error(*problems)
        index, names = self._index(splits["train"])
        parts = {name: index.by_class(folder) for name, folder in splits.items()}
        index.finish(*parts.values())
        return arrange(names, parts)

    def _whole(self, root: Path) -> Splits:
        index, names = self._index(root)
        everything = index.by_class(root)
        index.finish(everything)
        return hold_out(self, names, everything)

    def _index(self, folder: Path) -> tuple[FolderIndex, tuple[str, ...]]:
        names = tuple(subfolders(folder))
        if not names:
            raise self.error(f"{folder}: holds no class folder")
        index = FolderIndex(self, {name: label for label, name in enumerate(names)})
        index.problems += self.class_problems(names)
        return index, names
