"""Suggestions for words that are not legal: the closest legal ones."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence

__all__ = ["closest", "closest_first", "nearest"]


def closest(word: str, words: Iterable[str], limit: int = 3) -> list[str]:
    """Return the words closest to `word`, best first; the last part of a dotted key counts most."""
    last = word.rpartition(".")[2]

    def likeness(other: str) -> float:
        end = other.rpartition(".")[2]
        by_end = 1.0 if end == last else difflib.SequenceMatcher(None, last, end).ratio()
        return 0.7 * by_end + 0.3 * difflib.SequenceMatcher(None, word, other).ratio()

    scores = {other: likeness(other) for other in words}
    best = sorted(scores, key=lambda other: -scores[other])[:limit]
    return [other for other in best if scores[other] > max(0.6, scores[best[0]] - 0.1)]


def nearest(value: str, legal: Iterable[str]) -> list[str]:
    """Return the legal value nearest to a value, for a number the nearest number; empty if none is."""
    words = list(legal)
    numbers = {word: float(word) for word in words if _is_number(word)}
    if not numbers or not _is_number(value):
        return closest(value, words, limit=1)
    return [min(numbers, key=lambda word: abs(numbers[word] - float(value)))]


def closest_first(near: Sequence[str], names: Iterable[str]) -> list[str]:
    """Return names in their order behind those that are closest to a word."""
    return [*near, *(name for name in names if name not in near)]


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False
