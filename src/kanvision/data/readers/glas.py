"""Reader of GlaS, histology images of the colon with instance masks of the glands."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np

from kanvision.data.files.folders import list_image_files, list_subfolders
from kanvision.data.files.image_mask_pairs import Entry, ImageFile, ImageMaskPairs, InstanceMask
from kanvision.data.files.walk import natural_key
from kanvision.data.splits.published import assign_published_splits
from kanvision.spec.data import GlaSSplit, GlaSTest

from .base import DatasetInfo
from .image_mask_base import ImageMaskReader
from .segmentation_base import SegmentationSplits

__all__ = ["GlaS"]

IMAGE = re.compile(r"(train|testA|testB)_\d+")
MASK = re.compile(r"(?P<name>(train|testA|testB)_\d+)_anno")
KINDS = ("benign", "malignant")
TESTS: dict[GlaSTest, tuple[str, ...]] = {"A": ("testA",), "B": ("testB",), "AB": ("testA", "testB")}


class GlaS(ImageMaskReader):
    """165 stained sections of the colon with numbered glands (Sirinukunwattana et al. 2017).

    Args:
        root: Folder of the data set, or the folder around it.
        split: official: 85 training images, 60 and 20 test images; patients: a fifth of all images is the
            test, without a patient in both splits; published: a random fifth of all images, as in U-KAN.
        test_part: Official test to use: A, B or AB.
        **options: Arguments of `ImageMaskReader`.
    """

    table = "Grade.csv"
    info = DatasetInfo(
        name="glas",
        tree="<root>/                            or the folder around it\n"
        "  train_1.bmp, train_1_anno.bmp ... train_85.bmp\n"
        "  testA_1.bmp, testA_1_anno.bmp ... testA_60.bmp\n"
        "  testB_1.bmp, testB_1_anno.bmp ... testB_20.bmp\n"
        "  Grade.csv                        patients; needed for data.split=patients",
        source="https://warwick.ac.uk/fac/cross_fac/tia/data/glascontest, "
        "warwick_qu_dataset_released_2016_07_08.zip",
    )

    def __init__(
        self,
        root: str | Path | None,
        *,
        split: GlaSSplit = "official",
        test_part: GlaSTest = "AB",
        **options: Any,
    ) -> None:
        super().__init__(root, **options)
        self.split = split
        self.test_part = test_part

    def expects_foreground(self, kind: int) -> bool:
        """Return True, because each section shows glands."""
        return True

    def read(self) -> SegmentationSplits:
        """Index all images, compare the sizes of images and masks, and split."""
        root = self._folder(self.require_root())
        problems: list[str] = []
        files = {Path(file).stem: Path(file) for file in list_image_files(root)}
        masks = {match["name"]: path for stem, path in files.items() if (match := MASK.fullmatch(stem))}
        names = sorted((stem for stem in files if IMAGE.fullmatch(stem)), key=natural_key)
        problems += [f"{files[name]}: has no mask {name}_anno.bmp" for name in names if name not in masks]
        problems += [f"{masks[name]}: its image {name}.bmp is missing" for name in masks if name not in files]
        patients, kinds = self._grades(root, names, problems)
        entries = [
            Entry(name, files[name], (masks[name],), kinds.get(name, 0)) for name in names if name in masks
        ]
        source = ImageMaskPairs(entries, ImageFile(self.in_chans, self.max_value), InstanceMask(), self.fail)
        # A published split mixes patients, so its validation split mixes them too.
        if patients and not problems and self.split != "published":
            source.groups = np.array([patients[entry.name] for entry in entries], dtype=np.int64)
        return self.check_and_split(
            source, self.list_class_names("gland"), lambda: self._parts(source), problems=problems
        )

    def _folder(self, root: Path) -> Path:
        """Return the folder of the images: the root, or a folder in it."""
        for folder in [root, *(root / name for name in list_subfolders(root))]:
            if any(IMAGE.fullmatch(Path(file).stem) for file in list_image_files(folder)):
                return folder
        return root

    def _grades(
        self, root: Path, names: list[str], problems: list[str]
    ) -> tuple[dict[str, int], dict[str, int]]:
        """Return patient and kind of each image; empty if the table is missing and not needed."""
        path = root / self.table
        if not path.is_file():
            if self.split == "patients":
                problems.append(f"{path}: is missing, and only it lists the patient of each image")
            return {}, {}
        with path.open(newline="", encoding="utf-8-sig") as file:
            # Column names and values begin with spaces.
            rows = [
                {str(key).strip(): str(value).strip() for key, value in row.items()}
                for row in csv.DictReader(file)
            ]
        columns = ("name", "patient ID", "grade (GlaS)")
        present = rows[0] if rows else {}
        if missing := [column for column in columns if column not in present]:
            problems.append(
                f"{path}: must have the columns {', '.join(columns)}; missing: {', '.join(missing)}"
            )
            return {}, {}
        patients: dict[str, int] = {}
        kinds: dict[str, int] = {}
        for row in rows:
            if not row["patient ID"].isdecimal() or row["grade (GlaS)"] not in KINDS:
                problems.append(
                    f"{path}: {row['name']} has patient {row['patient ID']} and grade {row['grade (GlaS)']}; "
                    f"legal: a number, and {' or '.join(KINDS)}"
                )
                continue
            patients[row["name"]] = int(row["patient ID"])
            kinds[row["name"]] = KINDS.index(row["grade (GlaS)"])
        problems += [f"{path}: does not list {name}" for name in names if name not in patients]
        return patients, kinds

    def _parts(self, source: ImageMaskPairs) -> list[str]:
        if self.split == "published":
            return assign_published_splits(self.info.name, source.names, self.split_seed)
        if self.split == "patients":
            return self.split_by_groups(source)
        tests = TESTS[self.test_part]
        parts = {name: name.partition("_")[0] for name in source.names}
        return [
            "train" if part == "train" else "test" if part in tests else "unused" for part in parts.values()
        ]
