"""Inspection of a whole data set, sample by sample and as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from torch.utils.data import DataLoader, Dataset

from kanvision.data.errors import DataError
from kanvision.data.files.image_mask_pairs import ImageMaskPairs
from kanvision.data.readers import ArraySource, EncodedSource, FileSource, SegmentationReader
from kanvision.data.readers.base import DataReader
from kanvision.data.readers.sentinel_crops import CropSource

from .dataset_checks import find_absent_classes, find_duplicates, find_unused_files
from .image_checks import ArrayInspector, PictureInspector
from .issues import DataIssue, InspectedSample, Inspector, parse_issue
from .segmentation_checks import CropInspector, ImageMaskInspector, SampleInspector

__all__ = ["Inspection"]

CHUNK: Final = 32
"""Number of samples that a worker inspects before it sends them to the main process."""


class Inspection:
    """Inspection of a data set.

    Args:
        reader: Reader of the data set, whose problems are collected.

    Attributes:
        inspectors: Inspector of each split; empty if folders or files are missing that reading needs.
    """

    def __init__(self, reader: DataReader) -> None:
        self.reader = reader
        self.inspectors: list[Inspector[Any]] = []
        self.class_names: tuple[str, ...] = ()
        self._folder_issues: list[DataIssue] = []
        self._samples: dict[str, list[InspectedSample]] = {}
        reader.tolerance = "all"
        try:
            splits: Any = reader.read()  # type: ignore[attr-defined]
        except DataError as error:
            self._folder_issues = [parse_issue(problem) for problem in error.problems or (str(error),)]
            return
        self._folder_issues = [parse_issue(problem) for problem in reader.problems]
        self.class_names = splits.class_names
        parts = {"train": splits.train, "val": splits.val, "test": splits.test}
        self.inspectors = [
            self._build_inspector(source, split) for split, source in parts.items() if source is not None
        ]

    def __len__(self) -> int:
        return sum(map(len, self.inspectors))

    def inspect_samples(self, num_workers: int = 0) -> Iterator[InspectedSample]:
        """Yield all inspected samples in their order.

        Args:
            num_workers: Number of loader processes; 0: inspect in this process.
        """
        self._samples = {inspector.split: [] for inspector in self.inspectors}
        for inspector in self.inspectors:
            chunks: Any = _Chunks(inspector)
            loader = DataLoader(chunks, batch_size=None, num_workers=num_workers, collate_fn=list)
            for samples in loader:
                for sample in samples:
                    self._samples[inspector.split].append(sample)
                    yield sample

    def collect_issues(self) -> list[DataIssue]:
        """Return all issues, bad ones first, about the inspected samples and about the whole data set."""
        has_targets = not isinstance(self.reader, SegmentationReader)
        found = [*self._folder_issues]
        found += [
            issue for samples in self._samples.values() for sample in samples for issue in sample.issues
        ]
        found += find_duplicates(self._samples, self.class_names, has_targets=has_targets)
        found += find_absent_classes(self._samples, self.class_names, has_targets=has_targets)
        used = self._list_used_files()
        if used and self.reader.root is not None:
            found += find_unused_files(self.reader.root, used)
        return sorted(dict.fromkeys(found), key=lambda issue: (not issue.is_bad, issue.split, issue.file))

    def _build_inspector(self, source: Any, split: str) -> Inspector[Any]:
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

    def _list_used_files(self) -> set[str]:
        """Return the paths of all files of the samples; empty if samples are not files."""
        used: set[str] = set()
        for inspector in self.inspectors:
            source = inspector.source
            if isinstance(source, FileSource):
                used.update(source.name(index) for index in range(len(source)))
            elif isinstance(source, ImageMaskPairs):
                used.update(str(path) for entry in source.entries for path in (entry.image, *entry.masks))
        return used


class _Chunks(Dataset[Any]):
    """Dataset of the samples of an inspector in chunks."""

    def __init__(self, inspector: Inspector[Any]) -> None:
        self.inspector = inspector

    def __len__(self) -> int:
        return -(-len(self.inspector) // CHUNK)

    def __getitem__(self, chunk: int) -> list[InspectedSample]:
        if not 0 <= chunk < len(self):
            raise IndexError(chunk)
        start = chunk * CHUNK
        return [self.inspector.inspect(i) for i in range(start, min(start + CHUNK, len(self.inspector)))]
