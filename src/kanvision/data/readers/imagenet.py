"""Reader of ImageNet-1k (ILSVRC 2012)."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from kanvision.data.files.folders import FolderIndex, list_image_files, list_subfolders
from kanvision.data.files.images import FileSource, ImageSource
from kanvision.data.shards.names import has_shards

from .base import DatasetInfo, Splits
from .webdataset import ShardReader

__all__ = ["ImageNet"]


class ImageNet(ShardReader):
    """1.28 million photographs in 1,000 classes (Russakovsky et al. 2015).

    The 50,000 validation images are the test. The label of a class is the position of its WordNet id in the
    official order, so that a copy with few classes has the labels of published weights; labels in shards are
    these positions too. Published accuracies are measured on the pixels as they are stored, so the EXIF
    orientation of some photographs is not applied.
    """

    upright = False
    inner = Path("ILSVRC", "Data", "CLS-LOC")
    solution = "LOC_val_solution.csv"
    info = DatasetInfo(
        name="imagenet",
        tree="<root>/                             or Kaggle's <root>/ILSVRC/Data/CLS-LOC/\n"
        "  train/<wnid>/*.JPEG               for example train/n01440764/n01440764_10026.JPEG\n"
        "  val/<wnid>/*.JPEG                 or val/*.JPEG, LOC_val_solution.csv in <root> or beside val\n"
        "or <root>/*train*.tar and *val*.tar  shards of WebDataset with <key>.jpg and <key>.cls (0 to 999)",
        source="https://image-net.org/challenges/LSVRC/2012 (registration), or Kaggle's "
        "imagenet-object-localization-challenge",
    )

    def present(self) -> bool:
        """Return True if there is a folder train, or shards."""
        root = self.root
        return root is not None and ((self._folder(root) / "train").is_dir() or self.in_shards(root))

    def in_shards(self, root: Path) -> bool:
        """Return True if there are tar files and no class folders, beside which the archives may lie."""
        train = self._folder(root) / "train"
        return not (train.is_dir() and list_subfolders(train)) and root.is_dir() and has_shards(root)

    def _folder(self, root: Path) -> Path:
        return root / self.inner if (root / self.inner).is_dir() else root

    def read(self) -> Splits:
        """Index all image files."""
        # timm ships the official order and the names.
        from timm.data.imagenet_info import ImageNetInfo

        root = self.require_root()
        facts: Any = ImageNetInfo()
        wnids: list[str] = facts.label_names()
        read = self._from_shards if self.in_shards(root) else self._from_folders
        train, val = read(root, wnids)
        if (count := len(np.unique(train.targets))) < len(wnids):
            warnings.warn(
                f"imagenet: {count} of {len(wnids)} classes are present in the training images of {root}; "
                "labels keep their official numbers, and a score on it is no ImageNet score",
                stacklevel=2,
            )
        return Splits(_short_names(facts.label_descriptions(), wnids), train, val)

    def _from_folders(self, root: Path, wnids: list[str]) -> tuple[ImageSource, ImageSource]:
        folder = self._folder(root)
        missing = [path for path in (folder / "train", folder / "val") if not path.is_dir()]
        if missing:
            raise self.error(*(f"{path}: folder is missing" for path in missing))
        index = FolderIndex(self, {wnid: label for label, wnid in enumerate(wnids)})
        index.problems += self.find_class_count_problems(len(wnids))
        train = index.index_class_folders(folder / "train")
        val = self._val(folder / "val", [root, folder], index)
        index.check(train, val)
        return train, val

    def _from_shards(self, root: Path, wnids: list[str]) -> tuple[ImageSource, ImageSource]:
        sources, problems = self.index_shards(root)
        problems += self.find_class_count_problems(len(wnids)) + self.find_label_problems(sources, len(wnids))
        train, held_out = sources.get("train", ()), sources.get("val", sources.get("test", ()))
        if not (train and held_out):
            absent = [] if problems else [f"{root}: shards of train and of val are needed"]
            raise self.error(*problems, *absent)
        self.refuse(problems)
        return train, held_out

    def _val(self, folder: Path, folders: list[Path], index: FolderIndex) -> FileSource:
        if list_subfolders(folder) or not list_image_files(folder):
            return index.index_class_folders(folder)
        listing = next((path / self.solution for path in folders if (path / self.solution).is_file()), None)
        if listing is None:
            raise self.error(
                f"{folder}: holds images without class folders, whose classes only "
                f"{folders[0] / self.solution} lists; add that file or sort the images into val/<wnid>/"
            )
        with listing.open(newline="") as file:
            rows = list(csv.DictReader(file))
        try:
            classes = {row["ImageId"]: row["PredictionString"].split()[0] for row in rows}
        except (KeyError, IndexError, AttributeError) as error:
            raise self.error(
                f"{listing}: must have columns ImageId and PredictionString in each row"
            ) from error
        return index.index_listed_files(folder, classes, listing)


def _short_names(descriptions: list[str], wnids: list[str]) -> tuple[str, ...]:
    """Return the first word for each class, with its WordNet id if classes share a word (crane, maillot)."""
    words = [text.split(",")[0] for text in descriptions]
    return tuple(
        word if words.count(word) == 1 else f"{word} ({wnid})"
        for word, wnid in zip(words, wnids, strict=True)
    )
