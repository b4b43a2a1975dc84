"""Reader of your own images in tar shards in WebDataset format."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from kanvision.data.shards.index import index_shards
from kanvision.data.shards.names import UNSPLIT, find_shards
from kanvision.data.shards.source import ShardSource
from kanvision.spec.data import SPLITS

from .base import DatasetInfo, Reader, Splits, arrange_splits, find_missing_splits, hold_out_test

__all__ = ["CLASS_FILES", "ShardReader", "WebDataset"]

CLASS_FILES: Final = ("classes.txt", "classnames.txt")
"""Files that may name the classes, one a line."""


class ShardReader(Reader):
    """Base of the readers of tar shards.

    Args:
        root: Folder of the shards.
        num_classes: Expected number of classes; null: any number.
        download: Download the data set if it is missing.
        label_key: Entry of .json members that holds the label.
        train_shards: File names of the training shards below the root, such as
            imagenet-train-{0000..1023}.tar; null: by the names of the shards.
        val_shards: File names of the validation shards.
        test_shards: File names of the test shards.
    """

    def __init__(
        self,
        root: str | Path | None,
        num_classes: int | None = None,
        download: bool = False,
        *,
        label_key: str = "label",
        train_shards: str | None = None,
        val_shards: str | None = None,
        test_shards: str | None = None,
    ) -> None:
        super().__init__(root, num_classes, download)
        self.label_key = label_key
        self.patterns = {"train": train_shards, "val": val_shards, "test": test_shards}

    def prepare(self) -> None:
        """Index the shards, so that other processes find the index; `read` raises the error for problems."""
        super().prepare()
        if self.root is not None and self.root.is_dir() and self.in_shards(self.root):
            self.index_shards(self.root)

    def in_shards(self, root: Path) -> bool:
        """Return True if the images are in shards."""
        return True

    def index_shards(self, root: Path) -> tuple[dict[str, ShardSource], list[str]]:
        """Return the sources of the valid shards by split, and the problems with the other shards."""
        splits, problems = find_shards(root, self.patterns)
        everything = [shard for shards in splits.values() for shard in shards]
        found, wrong = index_shards(root, everything, self.label_key)
        sound = {name: {shard: found[shard] for shard in splits[name] if shard in found} for name in splits}
        sources = {
            name: ShardSource.from_shards(shards, self.fail, self.decoding) for name, shards in sound.items()
        }
        return sources, [*problems, *wrong]

    def find_label_problems(self, sources: dict[str, ShardSource], num_classes: int) -> list[str]:
        """Return the problems of labels that are not classes, one for each shard."""
        problems = []
        for source in sources.values():
            wrong = np.flatnonzero((source.targets < 0) | (source.targets >= num_classes))
            _, first, count = np.unique(source.which[wrong], return_index=True, return_counts=True)
            for index, number in zip(wrong[first], count, strict=True):
                problems.append(
                    f"{source.name(int(index))}: label {source.targets[index]} ({number} such in the shard); "
                    f"legal: 0 to {num_classes - 1}"
                )
        return problems


class WebDataset(ShardReader):
    """Images in tar shards with the number of their class.

    Splits follow the rules of `ImageFolder`. Class names are those of classes.txt or classnames.txt or,
    without these files, numbers.
    """

    info = DatasetInfo(
        name="webdataset",
        tree="<root>/<name>-train-<number>.tar, <name>-val-<number>.tar, <name>-test-<number>.tar,\n"
        "or <root>/train/<name>.tar and so on, or any names with data.train_shards, data.test_shards, ...\n"
        "each holds, for every image, <key>.jpg (.jpeg, .png, .webp) and <key>.cls (number of the class)\n"
        "or <key>.json with an entry data.label_key; uncompressed\n"
        "<root>/classes.txt                one name a line (optional)",
        source="your own shards; `python -m kanvision.data.write_shards` makes them from any data set",
    )

    def present(self) -> bool:
        """Return True if the root is a folder."""
        return self.root is not None and self.root.is_dir()

    def read(self) -> Splits:
        """Index all shards."""
        root = self.require_root()
        sources, problems = self.index_shards(root)
        if not sources:
            raise self.error(*(problems or [f"{root}: holds no .tar file"]))
        names, wrong = self._class_names(root, sources)
        problems += [*wrong, *self.find_label_problems(sources, len(names))]
        absent = (
            []
            if UNSPLIT in sources
            else find_missing_splits(root, [name for name in SPLITS if name in sources])
        )
        if absent or not all(map(len, sources.values())):
            raise self.error(*absent, *problems)
        self.refuse(problems)
        return (
            hold_out_test(self, names, sources[UNSPLIT])
            if UNSPLIT in sources
            else arrange_splits(names, sources)
        )

    def _class_names(self, root: Path, sources: dict[str, ShardSource]) -> tuple[tuple[str, ...], list[str]]:
        listing = next((root / name for name in CLASS_FILES if (root / name).is_file()), None)
        if listing is not None:
            names = tuple(line.strip() for line in listing.read_text("utf-8").splitlines() if line.strip())
            wrong = [f"{listing}: {problem}" for problem in self.find_class_problems(names)]
            return names, wrong
        labels = np.concatenate([source.targets for source in sources.values()])
        count = self.num_classes or int(labels.max(initial=-1)) + 1
        names = tuple(map(str, range(count)))
        absent = np.setdiff1d(np.arange(count), labels)
        if self.num_classes is not None or not len(absent):
            return names, []
        return names, [
            f"{root}: labels reach to {count - 1}, but no image has {absent[0]} "
            f"({len(absent)} such numbers); count from 0, or set data.num_classes={count} if that is right"
        ]
