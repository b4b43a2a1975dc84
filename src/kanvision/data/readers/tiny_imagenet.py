"""Reader of Tiny ImageNet, 64 x 64 photographs in 200 classes."""

from __future__ import annotations

from pathlib import Path

from kanvision.data.files.folders import FolderIndex, list_subfolders
from kanvision.data.files.images import FileSource

from .base import DatasetInfo, Reader, Splits

__all__ = ["TinyImageNet"]


class TinyImageNet(Reader):
    """Stanford CS231n's subset of ImageNet (Le and Yang 2015), 500 training images a class.

    Its 10,000 validation images are the test: the official test split has no public labels. Classes are in
    the order of their sorted WordNet ids, as in torchvision's ImageFolder.
    """

    folder = "tiny-imagenet-200"
    info = DatasetInfo(
        name="tiny_imagenet",
        tree="<root>/                             or <root>/tiny-imagenet-200/\n"
        "  wnids.txt\n"
        "  words.txt                         (class names; may be absent)\n"
        "  train/<wnid>/images/*.JPEG\n"
        "  val/images/*.JPEG and val/val_annotations.txt, or val/<wnid>/*.JPEG",
        source="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    )

    def present(self) -> bool:
        """Return True if there is a folder train."""
        return self.root is not None and (self._folder(self.root) / "train").is_dir()

    def _folder(self, root: Path) -> Path:
        inner = root / self.folder
        return inner if inner.is_dir() else root

    def read(self) -> Splits:
        """Index all image files."""
        folder = self._folder(self.require_root())
        wnids = self._wnids(folder)
        index = FolderIndex(self, {wnid: label for label, wnid in enumerate(wnids)})
        names = _names(folder / "words.txt", wnids)
        index.problems += self.find_class_problems(names)
        present = set(list_subfolders(folder / "train"))
        index.problems += [f"{folder / 'train' / wnid}: is missing" for wnid in wnids if wnid not in present]
        train = index.index_class_folders(folder / "train")
        val = self._val(folder / "val", index)
        index.check(train, val)
        return Splits(names, train, val)

    def _wnids(self, folder: Path) -> list[str]:
        missing = [path for path in (folder / "train", folder / "val") if not path.is_dir()]
        if missing:
            raise self.error(*(f"{path}: folder is missing" for path in missing))
        listing = folder / "wnids.txt"
        # Re-sorted copies often lack the list; their folders then define the classes.
        wnids = listing.read_text().split() if listing.is_file() else list_subfolders(folder / "train")
        return sorted(set(wnids))

    def _val(self, folder: Path, index: FolderIndex) -> FileSource:
        listing = folder / "val_annotations.txt"
        # A re-sorted copy may hold the old list beside an emptied images folder, so class folders take
        # precedence.
        if any(name in index.labels for name in list_subfolders(folder)):
            return index.index_class_folders(folder)
        if not listing.is_file():
            raise self.error(f"{listing}: is missing, and there are no folders val/<wnid>")
        rows = [line.split("\t") for line in listing.read_text().splitlines() if line.strip()]
        short = [number for number, row in enumerate(rows, start=1) if len(row) < 2]
        if short:
            raise self.error(f"{listing}:{short[0]}: must read <file><tab><wnid>...")
        return index.index_listed_files(
            folder / "images", {Path(row[0]).stem: row[1] for row in rows}, listing
        )


def _names(listing: Path, wnids: list[str]) -> tuple[str, ...]:
    """Return readable class names if the list exists, else the WordNet ids."""
    if not listing.is_file():
        return tuple(wnids)
    rows = (line.partition("\t") for line in listing.read_text().splitlines())
    words = {wnid: text.split(",")[0].strip() for wnid, _, text in rows}
    return tuple(words.get(wnid, wnid) for wnid in wnids)
