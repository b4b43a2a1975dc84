"""Choice of the cases that `make test` runs; the others are marked slow and run with `-m slow`."""

import itertools
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import pytest


def one_of_each(cases: Iterable[Any], kind: Callable[[Any], Hashable]) -> list[Any]:
    """Return all cases as parameters; all but the first of each kind are marked slow.

    Args:
        cases: Values, or tuples of the values of several parameters.
        kind: Function that gives cases which test the same thing the same value.
    """
    seen: set[Hashable] = set()
    found = []
    for case in cases:
        is_new = kind(case) not in seen
        seen.add(kind(case))
        found.append(_parameter(case, is_new))
    return found


def cover(*values: Iterable[Any]) -> list[Any]:
    """Return all combinations of several parameters; all but enough for each value are marked slow."""
    axes = [list(axis) for axis in values]
    longest = max(map(len, axes))
    few = {tuple(i % len(axis) for axis in axes) for i in range(longest)}
    return [_parameter(_values(axes, place), place in few) for place in _places(axes)]


def pairwise(*values: Iterable[Any]) -> list[Any]:
    """Return all combinations of several parameters; all but enough for each pair of values are slow."""
    axes = [list(axis) for axis in values]
    places = _places(axes)
    missing = {pair for place in places for pair in _pairs(place)}
    few = set()
    for least in range(len(axes) * (len(axes) - 1) // 2, 0, -1):
        for place in places:
            if len(missing & _pairs(place)) >= least:
                few.add(place)
                missing -= _pairs(place)
    return [_parameter(_values(axes, place), place in few) for place in places]


def _places(axes: Sequence[Sequence[Any]]) -> list[tuple[int, ...]]:
    return list(itertools.product(*(range(len(axis)) for axis in axes)))


def _pairs(place: tuple[int, ...]) -> set[Any]:
    return set(itertools.combinations(enumerate(place), 2))


def _values(axes: Sequence[Sequence[Any]], place: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(axis[i] for axis, i in zip(axes, place, strict=True))


def _parameter(case: Any, is_fast: bool) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=() if is_fast else pytest.mark.slow)
