"""BUSI: ultrasound images of the breast."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from kanvision.data.files.folders import image_files
from kanvision.data.files.image_mask_pairs import BinaryMask, Entry, ImageFile, ImageMaskPairs
from kanvision.data.splits.near_duplicates import duplicate_groups
from kanvision.data.splits.published import published_parts
from kanvision.spec.data import BUSISplit

from .base import DatasetInfo
from .image_mask_base import ImageMaskReader, natural
from .segmentation_base import SegmentationSplits

__all__ = ["BUSI"]

KINDS = ("benign", "malignant", "normal")
MASK = re.compile(r"(?P<name>.+)_mask(_\d+)?")


class BUSI(ImageMaskReader):
    """780 ultrasound images of the breast with masks of lesions (Al-Dhabyani et al. 2020).

    Several masks of one image are taken together. The data set holds the same image several times, in other
    sizes and with other marks, and tells no patients apart; split=groups keeps near duplicates together.

    Args:
        root: The folder, or the one around it.
        normals: Use the 133 images without a lesion too, whose masks are empty.
        split: groups: a fifth of each kind is the test, near duplicates together; published: a random fifth,
            as in U-KAN.
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
        """All but the normal images show a lesion."""
        return KINDS[kind] != "normal"

    def read(self) -> SegmentationSplits:
        """Index all images, compare the sizes of images and masks, and split."""
        root = self.existing_root()
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
        return self.checked_splits(
            source,
            self.foreground_names("lesion"),
            lambda: self._parts(source),
            problems=problems,
            look_at=[index for index, entry in enumerate(entries) if self.expects_foreground(entry.kind)],
        )

    def _entries(self, folder: Path, kind: int, problems: list[str]) -> list[Entry]:
        files = sorted(map(Path, image_files(folder)), key=lambda path: natural(path.stem))
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
            return published_parts(self.info.name, source.names, self.split_seed)
        images = [entry.image for entry in source.entries]
        source.groups = duplicate_groups(images, skip_faults=self.tolerance != "none")
        return self.by_groups(source)
