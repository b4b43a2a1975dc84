"""Your own classes: one folder of pictures a class."""

from __future__ import annotations

from pathlib import Path

from kanvision.data.splits import stratified_holdout

from .folders import FolderIndex, subfolders
from .reader import DatasetInfo, Reader, Splits

__all__ = ["ImageFolder"]

# Of class folders that come without a test split; a change would move everybody's test images into training.
_TEST_FRACTION = 0.2
_TEST_SEED = 0


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
        splits = {name: root / name for name in ("train", "test", "val") if (root / name).is_dir()}
        if not splits:
            return self._whole(root)
        problems = []
        if "train" not in splits:
            problems.append(f"{root / 'train'}: is missing, but there is {' and '.join(splits)}")
        if splits.keys() == {"train"}:
            problems.append(
                f"{root / 'test'}: is missing, and so is val; add one of them, or move the classes up"
            )
        if problems:
            raise self.error(*problems)
        index, names = self._index(splits["train"])
        train = index.by_class(splits["train"])
        held_out = [index.by_class(splits[name]) for name in ("test", "val") if name in splits]
        index.finish(train, *held_out)
        return Splits(names, train, held_out[0], held_out[1] if len(held_out) == 2 else None)

    def _whole(self, root: Path) -> Splits:
        index, names = self._index(root)
        everything = index.by_class(root)
        index.finish(everything)
        train, test = stratified_holdout(everything.targets, _TEST_FRACTION, _TEST_SEED)
        if not len(test):
            raise self.error(f"{root}: no class has two images, so none can be held out for the test")
        return Splits(names, everything.select(train), everything.select(test))

    def _index(self, folder: Path) -> tuple[FolderIndex, tuple[str, ...]]:
        names = tuple(subfolders(folder))
        if not names:
            raise self.error(f"{folder}: holds no class folder")
        index = FolderIndex(self, {name: label for label, name in enumerate(names)})
        index.problems += self.class_count_problems(len(names))
        return index, names
