"""Reader of CVC-ClinicDB, frames of colonoscopy videos with masks of polyps."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from kanvision.data.files.folders import list_image_files
from kanvision.data.files.image_mask_pairs import BinaryMask, Entry, ImageFile, ImageMaskPairs
from kanvision.data.files.walk import natural_key
from kanvision.data.splits.published import assign_published_splits
from kanvision.spec.data import CVCSplit

from .base import DatasetInfo
from .image_mask_base import ImageMaskReader, index_by_stem
from .segmentation_base import SegmentationSplits

__all__ = ["CVCClinicDB"]

IMAGES, MASKS, TABLE = "Original", "Ground Truth", "metadata.csv"
INSIDE = ("", "PNG", "TIF", "CVC-ClinicDB", "CVC-ClinicDB/PNG", "CVC-ClinicDB/TIF")


class CVCClinicDB(ImageMaskReader):
    """612 frames of colonoscopy videos, each with a polyp (Bernal et al. 2015).

    Args:
        root: Folder of the data set.
        split: published: a random fifth of the frames is the test, as in U-KAN, though frames of one video
            are similar; sequences: a fifth of the frames, without a video in both splits.
        **options: Arguments of `ImageMaskReader`.
    """

    info = DatasetInfo(
        name="cvc",
        tree="<root>/                            or <root>/PNG/ or <root>/TIF/, as in Kaggle's copy\n"
        "  Original/1.tif ... 612.tif       or .png\n"
        "  Ground Truth/1.tif ... 612.tif   or .png\n"
        "<root>/metadata.csv                frame and sequence; needed for data.split=sequences",
        source="https://polyp.grand-challenge.org/CVCClinicDB, or Kaggle's balraj98/cvcclinicdb, "
        "which has metadata.csv",
    )

    def __init__(
        self,
        root: str | Path | None,
        *,
        split: CVCSplit = "published",
        **options: Any,
    ) -> None:
        super().__init__(root, **options)
        self.split = split

    def expects_foreground(self, kind: int) -> bool:
        """Return True, because each frame shows a polyp."""
        return True

    def read(self) -> SegmentationSplits:
        """Index all frames, compare the sizes of frames and masks, and split."""
        root = self.require_root()
        folders = [root / inner for inner in INSIDE]
        folder = next((inner for inner in folders if (inner / IMAGES).is_dir()), root)
        problems = [
            f"{folder / name}: folder is missing" for name in (IMAGES, MASKS) if not (folder / name).is_dir()
        ]
        images, masks = (
            index_by_stem(map(Path, list_image_files(path)) if path.is_dir() else (), problems)
            for path in (folder / IMAGES, folder / MASKS)
        )
        if not problems:
            problems += [
                f"{path}: has no mask in {MASKS}" for stem, path in images.items() if stem not in masks
            ]
            problems += [
                f"{path}: has no frame in {IMAGES}" for stem, path in masks.items() if stem not in images
            ]
        names = sorted(images.keys() & masks.keys(), key=natural_key)
        sequences = self._sequences(root, folder, names, problems) if self.split == "sequences" else None
        entries = [Entry(name, images[name], (masks[name],)) for name in names]
        source = ImageMaskPairs(
            entries, ImageFile(self.in_chans, self.max_value), BinaryMask(threshold=127), self.fail
        )
        if sequences is not None and not problems:
            source.groups = np.array([sequences[name] for name in names], dtype=np.int64)
        return self.check_and_split(
            source, self.list_class_names("polyp"), lambda: self._parts(source), problems=problems
        )

    def _sequences(
        self, root: Path, folder: Path, names: list[str], problems: list[str]
    ) -> dict[str, int] | None:
        """Return the video of each frame."""
        paths = (inner / TABLE for inner in (root, folder, folder.parent))
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            problems.append(
                f"{root / TABLE}: is missing, and only it lists the video of each frame "
                "(Kaggle's copy has it); without it, set data.split=published"
            )
            return None
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        columns = {
            word: next((key for key in (rows[0] if rows else ()) if word in key.lower()), None)
            for word in ("frame", "sequence")
        }
        frame, sequence = columns["frame"], columns["sequence"]
        if frame is None or sequence is None:
            problems.append(f"{path}: must have the columns frame_id and sequence_id")
            return None
        found: dict[str, int] = {}
        for number, row in enumerate(rows, start=2):
            if str(row[sequence]).strip().isdecimal():
                found[Path(str(row[frame]).strip()).stem] = int(row[sequence])
            else:
                problems.append(f"{path}: line {number} has sequence {row[sequence]}; a number is legal")
        problems += [f"{path}: does not list frame {name}" for name in names if name not in found]
        return found

    def _parts(self, source: ImageMaskPairs) -> list[str]:
        if self.split == "published":
            return assign_published_splits(self.info.name, source.names, self.split_seed)
        return self.split_by_groups(source)
