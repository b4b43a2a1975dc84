"""Reader of BUSI, ultrasound images of the breast."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from kanvision.data.files.folders import list_image_files
from kanvision.data.files.image_mask_pairs import BinaryMask, Entry, ImageFile, ImageMaskPairs
from kanvision.data.files.walk import natural_key
from kanvision.data.splits.near_duplicates import group_duplicates
from kanvision.data.splits.published import assign_published_splits
from kanvision.spec.data import BUSISplit

from .base import DatasetInfo
from .image_mask_base import ImageMaskReader
from .segmentation_base import SegmentationSplits

__all__ = ["BUSI"]

KINDS = ("benign", "malignant", "normal")
MASK = re.compile(r"(?P<name>.+)_mask(_\d+)?")


class BUSI(ImageMaskReader):
    """780 ultrasound images of the breast with masks of lesions (Al-Dhabyani et al. 2020).

    The mask of an image is the union of its mask files. The data set holds images several times, in other
    sizes and with other marks, and does not name patients; split=groups keeps near duplicates in one split.

    Args:
        root: Folder of the data set, or the folder around it.
        normals: Include the 133 images without a lesion, whose masks are empty.
        split: groups: a fifth of each kind is the test, without near duplicates across splits; published: a
            random fifth, as in U-KAN.
        **options: Arguments of `ImageMaskReader`.
    """

    folder = "Dataset_BUSI_with_GT"
    info = DatasetInfo(
        name="busi",
        tree="<root>/                            or <root>/Dataset_BUSI_with_GT/\n"
        "  benign/benign (1).png\n"
        "  benign/benign (1)_mask.png       and _mask_1.png, ... where an image has several\n"
        "  malignant/malignant (1).png, malignant (1)_mask.png\n"
        "  normal/normal (1).png, normal (1)_mask.png    needed for data.normals=true only",
        source="https://scholar.cu.edu.eg/?q=afahmy/pages/dataset, or Kaggle's "
        "aryashah2k/breast-ultrasound-images-dataset",
    )

    def __init__(
        self,
        root: str | Path | None,
        *,
        normals: bool = False,
        split: BUSISplit = "groups",
        **options: Any,
    ) -> None:
        super().__init__(root, **options)
        self.normals = normals
        self.split = split

    def expects_foreground(self, kind: int) -> bool:
        """Return True for all kinds but normal images, which show no lesion."""
        return KINDS[kind] != "normal"

    def read(self) -> SegmentationSplits:
        """Index all images, compare the sizes of images and masks, and split."""
        root = self.require_root()
        if (root / self.folder).is_dir():
            root = root / self.folder
        kinds = KINDS if self.normals else KINDS[:2]
        problems = [f"{root / kind}: folder is missing" for kind in kinds if not (root / kind).is_dir()]
        entries = []
        for number, kind in enumerate(kinds):
            if (root / kind).is_dir():
                entries += self._entries(root / kind, number, problems)
        source = ImageMaskPairs(
            entries, ImageFile(self.in_chans, self.max_value), BinaryMask(threshold=127), self.fail
        )
        return self.check_and_split(
            source,
            self.list_class_names("lesion"),
            lambda: self._parts(source),
            problems=problems,
            nonempty=[i for i, entry in enumerate(entries) if self.expects_foreground(entry.kind)],
        )

    def _entries(self, folder: Path, kind: int, problems: list[str]) -> list[Entry]:
        files = sorted(map(Path, list_image_files(folder)), key=lambda path: natural_key(path.stem))
        masks: dict[str, list[Path]] = {}
        images: list[Path] = []
        for path in files:
            if match := MASK.fullmatch(path.stem):
                masks.setdefault(match["name"], []).append(path)
            else:
                images.append(path)
        if not images:
            problems.append(f"{folder}: holds no image")
        problems += [f"{path}: has no mask {path.stem}_mask.png" for path in images if path.stem not in masks]
        names = {path.stem for path in images}
        problems += [
            f"{paths[0]}: its image {name}.png is missing"
            for name, paths in masks.items()
            if name not in names
        ]
        return [
            Entry(path.stem, path, tuple(masks[path.stem]), kind) for path in images if path.stem in masks
        ]

    def _parts(self, source: ImageMaskPairs) -> list[str]:
        if self.split == "published":
            return assign_published_splits(self.info.name, source.names, self.split_seed)
        images = [entry.image for entry in source.entries]
        source.groups = group_duplicates(images, skip_bad_samples=self.tolerance != "none")
        return self.split_by_groups(source)
