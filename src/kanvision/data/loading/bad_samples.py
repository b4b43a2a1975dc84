"""Handling of samples that cannot be read, which end a run, are replaced or are skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Literal, NamedTuple, TypeVar

from kanvision.data.errors import DataError
from kanvision.spec.data import FaultPolicy

__all__ = ["BadSample", "OnBadSample", "read_samples", "resolve_on_bad_sample"]

OnBadSample = Literal["raise", "leave_out", "replace"]
"""Treatment of a sample that cannot be read."""
Sample = TypeVar("Sample")

MAX_IN_A_ROW: Final = 20
"""Largest number of unreadable samples in a row; more mean that the disk is missing."""


class BadSample(NamedTuple):
    """Sample that could not be read.

    Batches carry bad samples from the loader process to the process that counts them.
    """

    sample_index: int
    """Index of the sample."""
    problem: str
    """File, problem and remedy."""


@dataclass
class LoadedBatch(Generic[Sample]):
    """Samples of a batch that were read, and those that could not be."""

    positions: list[int] = field(default_factory=list)
    """Positions of the samples that were read."""
    samples: list[Sample] = field(default_factory=list)
    bad_samples: list[BadSample] = field(default_factory=list)
    """Samples that could not be read."""


def resolve_on_bad_sample(policy: FaultPolicy, *, training: bool) -> OnBadSample:
    """Return the treatment that `data.on_bad_sample` means for a split.

    Evaluation leaves bad samples out, because a replacement would count twice.
    """
    if policy == "raise":
        return "raise"
    return "replace" if training else "leave_out"


def read_samples(
    positions: Sequence[int], read: Callable[[int], Sample], on_bad_sample: OnBadSample, length: int
) -> LoadedBatch[Sample]:
    """Read samples one after another.

    A replacement is the next sample that can be read, after the last sample from the first on. It depends on
    the position alone, so that a batch is the same for any number of workers, on any rank, and after a
    resume. In class folders it mostly has the same class.

    Args:
        positions: Positions of the samples.
        read: Reads a sample; raises DataError if it cannot be read.
        on_bad_sample: Treatment of samples that cannot be read.
        length: Number of positions.

    Raises:
        DataError: If a sample cannot be read and `on_bad_sample` is raise, or too many in a row cannot be
            read.
    """
    loaded: LoadedBatch[Sample] = LoadedBatch()
    for position in positions:
        for candidate in _candidates(position, on_bad_sample, length):
            try:
                sample = read(candidate)
            except DataError as error:
                if on_bad_sample == "raise":
                    raise
                loaded.bad_samples.append(BadSample(candidate, "; ".join(error.problems) or str(error)))
                continue
            loaded.positions.append(candidate)
            loaded.samples.append(sample)
            break
        else:
            if on_bad_sample == "replace":
                count = min(MAX_IN_A_ROW, length)
                raise DataError(
                    f"data.on_bad_sample=skip: {count} samples in a row cannot be read, the last one is "
                    f"{loaded.bad_samples[-1].problem}; is the disk mounted?"
                )
    return loaded


def _candidates(position: int, on_bad_sample: OnBadSample, length: int) -> Iterator[int]:
    """Yield the position of a sample and those of its replacements."""
    yield position
    if on_bad_sample == "replace":
        for step in range(1, min(MAX_IN_A_ROW, length)):
            yield (position + step) % length
