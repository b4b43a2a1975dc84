"""A whole data set: which samples there are, who looks at them, and what they tell together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from torch.utils.data import DataLoader, Dataset

from kanvision.data.errors import DataError
from kanvision.data.files.image_mask_pairs import ImageMaskPairs
from kanvision.data.readers import ArraySource, EncodedSource, FileSource, SegmentationReader
from kanvision.data.readers.base import DataReader
from kanvision.data.readers.sentinel_crops import CropSource

from .dataset_checks import absent_classes, copies, strays
from .image_checks import ArrayInspector, PictureInspector
from .issues import DataIssue, InspectedSample, Inspector, parse_issue
from .segmentation_checks import CropInspector, ImageMaskInspector, SampleInspector

__all__ = ["Inspection"]

CHUNK: Final = 32
"""Samples that a worker looks at between two words with the process that counts."""


class Inspection:
    """Everything that can be found out about a data set.

    Args:
        reader: Finds the data set; anything that is wrong with it is tolerated and told.

    Attributes:
        inspectors: Who looks at the samples of each split; none where folders or files are missing that
            reading needs.
    """

    def __init__(self, reader: DataReader) -> None:
        self.reader = reader
        self.inspectors: list[Inspector[Any]] = []
        self.class_names: tuple[str, ...] = ()
        self._of_folders: list[DataIssue] = []
        self._seen: dict[str, list[InspectedSample]] = {}
        reader.tolerance = "all"
        try:
            splits: Any = reader.read()  # type: ignore[attr-defined]
        except DataError as error:
            self._of_folders = [parse_issue(problem) for problem in error.problems or (str(error),)]
            return
        self._of_folders = [parse_issue(problem) for problem in reader.problems]
        self.class_names = splits.class_names
        parts = {"train": splits.train, "val": splits.val, "test": splits.test}
        self.inspectors = [
            self._inspector(source, split) for split, source in parts.items() if source is not None
        ]

    def __len__(self) -> int:
        return sum(map(len, self.inspectors))

    def look(self, num_workers: int = 0) -> Iterator[InspectedSample]:
        """Look at all samples, one after another.

        Args:
            num_workers: Processes that do so; 0: this one.
        """
        self._seen = {inspector.split: [] for inspector in self.inspectors}
        for inspector in self.inspectors:
            chunks: Any = _Chunks(inspector)
            loader = DataLoader(chunks, batch_size=None, num_workers=num_workers, collate_fn=_as_it_is)
            for samples in loader:
                for seen in samples:
                    self._seen[inspector.split].append(seen)
                    yield seen

    def issues(self) -> list[DataIssue]:
        """All of them, bad ones first; of single samples those that were looked at."""
        of_classes = not isinstance(self.reader, SegmentationReader)
        found = [*self._of_folders]
        found += [issue for samples in self._seen.values() for seen in samples for issue in seen.issues]
        found += copies(self._seen, self.class_names, of_classes=of_classes)
        found += absent_classes(self._seen, self.class_names, of_classes=of_classes)
        used = self._used()
        if used and self.reader.root is not None:
            found += strays(self.reader.root, used)
        return sorted(dict.fromkeys(found), key=lambda issue: (not issue.is_bad, issue.split, issue.file))

    def _inspector(self, source: Any, split: str) -> Inspector[Any]:
        if isinstance(source, ArraySource):
            return ArrayInspector(source, split)
        if isinstance(source, EncodedSource):
            return PictureInspector(source, split)
        if isinstance(source, ImageMaskPairs):
            assert isinstance(self.reader, SegmentationReader)
            return ImageMaskInspector(source, split, self.reader.expects_foreground)
        if isinstance(source, CropSource):
            return CropInspector(source, split)
        return SampleInspector(source, split)

    def _used(self) -> set[str]:
        """Paths of all files of the samples; empty where samples are not files each."""
        used: set[str] = set()
        for inspector in self.inspectors:
            source = inspector.source
            if isinstance(source, FileSource):
                used.update(source.name(index) for index in range(len(source)))
            elif isinstance(source, ImageMaskPairs):
                used.update(str(path) for entry in source.entries for path in (entry.image, *entry.masks))
        return used


class _Chunks(Dataset[Any]):
    """An inspector's samples, some at a time."""

    def __init__(self, inspector: Inspector[Any]) -> None:
        self.inspector = inspector

    def __len__(self) -> int:
        return -(-len(self.inspector) // CHUNK)

    def __getitem__(self, chunk: int) -> list[InspectedSample]:
        if not 0 <= chunk < len(self):
            raise IndexError(chunk)
        start = chunk * CHUNK
        return [self.inspector.look(i) for i in range(start, min(start + CHUNK, len(self.inspector)))]


def _as_it_is(samples: list[InspectedSample]) -> list[InspectedSample]:
    return samples
