"""Samples that cannot be read: a run ends at them, or goes on without them and says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Literal, NamedTuple, TypeVar

from kanvision.data.errors import DataError
from kanvision.spec.data import FaultPolicy

__all__ = ["Answer", "BadSample", "answer_for", "read_samples"]

Answer = Literal["raise", "leave_out", "replace"]
"""What is done with a sample that cannot be read."""
Sample = TypeVar("Sample")

MAX_IN_A_ROW: Final = 20
"""Samples next to each other that may be unreadable; more mean that the disk is away."""


class BadSample(NamedTuple):
    """A sample that could not be read.

    Batches carry them from the process that has read them to the one that counts them.
    """

    position: int
    """Its index."""
    problem: str
    """The file, what is wrong with it, and what would be right."""


@dataclass
class LoadedBatch(Generic[Sample]):
    """What was read of a batch."""

    positions: list[int] = field(default_factory=list)
    """Places of the samples that are there."""
    samples: list[Sample] = field(default_factory=list)
    bad_samples: list[BadSample] = field(default_factory=list)
    """Places that could not be read."""


def answer_for(policy: FaultPolicy, *, training: bool) -> Answer:
    """Return what `data.on_bad_sample` means for a split: evaluation never counts a sample twice."""
    if policy == "raise":
        return "raise"
    return "replace" if training else "leave_out"


def read_samples(
    positions: Sequence[int], read: Callable[[int], Sample], answer: Answer, length: int
) -> LoadedBatch[Sample]:
    """Read samples one after another.

    A replacement is the next sample that can be read, counted from the unreadable one and from the end on to
    the beginning: a function of the place alone, so that a batch is the same for any number of workers, on
    any process, and after a resume. In folders of classes it mostly has the same class.

    Args:
        positions: Places of the samples.
        read: Reads one; raises DataError where it cannot.
        answer: What is done then.
        length: Number of places.

    Raises:
        DataError: A sample cannot be read and `answer` is raise; or too many next to each other cannot.
    """
    served: LoadedBatch[Sample] = LoadedBatch()
    for position in positions:
        for candidate in _candidates(position, answer, length):
            try:
                sample = read(candidate)
            except DataError as error:
                if answer == "raise":
                    raise
                served.bad_samples.append(BadSample(candidate, "; ".join(error.problems) or str(error)))
                continue
            served.positions.append(candidate)
            served.samples.append(sample)
            break
        else:
            if answer == "replace":
                count = min(MAX_IN_A_ROW, length)
                raise DataError(
                    f"data.on_bad_sample=skip: {count} samples in a row cannot be read, the last one is "
                    f"{served.bad_samples[-1].problem}; is the disk there?"
                )
    return served


def _candidates(position: int, answer: Answer, length: int) -> Iterator[int]:
    """The sample itself, and those that may stand in for it."""
    yield position
    if answer == "replace":
        for step in range(1, min(MAX_IN_A_ROW, length)):
            yield (position + step) % length
