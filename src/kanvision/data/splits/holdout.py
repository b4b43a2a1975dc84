"""Fixed choices of images by class: a held-out fraction and a limit.

The order within a class comes from a hash of (seed, index), so that a choice is the same on every platform
and in every version of numpy and torch, and no global random state is read or changed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["grouped_holdout", "stratified_holdout", "stratified_limit"]

Indices = NDArray[np.int64]


def _hashes(num: int, seed: int) -> NDArray[np.uint64]:
    """Return a hash of each index, the finalizer of SplitMix64 (Steele et al. 2014) on seed and index.

    With 2**64 as modulus and g = 0x9E3779B97F4A7C15:  z = mix(mix(seed + g) + (index + 1) g).
    """
    gamma = 0x9E3779B97F4A7C15
    with np.errstate(over="ignore"):
        start = _mix(np.array([(seed + gamma) % 2**64], dtype=np.uint64))
        steps = np.arange(1, num + 1, dtype=np.uint64) * np.uint64(gamma)
        return _mix(start + steps)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return mixed


def _ranks(targets: Indices, seed: int) -> Indices:
    """Return the position of each index in the shuffled order of its class: 0, 1, 2, ..."""
    order = np.lexsort((np.arange(len(targets)), _hashes(len(targets), seed), targets))
    sorted_targets = targets[order]
    starts = np.flatnonzero(np.r_[True, sorted_targets[1:] != sorted_targets[:-1]])
    sizes = np.diff(np.r_[starts, len(targets)])
    ranks = np.empty(len(targets), dtype=np.int64)
    ranks[order] = np.arange(len(targets)) - np.repeat(starts, sizes)
    return ranks


def stratified_holdout(targets: Indices, fraction: float, seed: int = 0) -> tuple[Indices, Indices]:
    """Split indices by class into a kept and a held-out set.

    Of a class of n >= 2 images, round(n * fraction) are held out, but at least one and at most n - 1; the
    only image of a class is kept.

    Args:
        targets: Class of each image, (N,).
        fraction: Held-out fraction, in (0, 1).
        seed: Seed of the choice.

    Returns:
        Kept and held-out indices, both ascending.

    Raises:
        ValueError: If fraction is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"held-out fraction is {fraction}; legal: more than 0 and less than 1")
    if not len(targets):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    _, inverse, sizes = np.unique(targets, return_inverse=True, return_counts=True)
    quota = np.floor(sizes * fraction + 0.5).astype(np.int64).clip(1, np.maximum(sizes - 1, 1))
    quota[sizes < 2] = 0
    held = _ranks(targets, seed) < quota[inverse]
    return np.flatnonzero(~held), np.flatnonzero(held)


def grouped_holdout(
    groups: Indices, targets: Indices, fraction: float, seed: int = 0
) -> tuple[Indices, Indices]:
    """Split indices into a kept and a held-out set without a group in both.

    The class of a group is that of its first image. Within a class, groups follow the order of a hash of
    (seed, index of the first image of the group), and a group is held out if that brings the number of
    held-out images closer to fraction times the number of images of the class. If no group is held out by
    this rule, the smallest group is.

    Args:
        groups: Number of the group of each image, (N,).
        targets: Class of each image, (N,).
        fraction: Held-out fraction, in (0, 1).
        seed: Seed of the choice.

    Returns:
        Kept and held-out indices, both ascending; of a single group, no image is held out.

    Raises:
        ValueError: If fraction is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"held-out fraction is {fraction}; legal: more than 0 and less than 1")
    if not len(groups):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    _, first, inverse, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    classes = targets[first]
    order = np.argsort(_hashes(len(groups), seed)[first], kind="stable")
    chosen = np.zeros(len(first), dtype=bool)
    for label in np.unique(classes):
        of_class = order[classes[order] == label]
        missing = fraction * sizes[of_class].sum()
        for group in of_class:
            if abs(missing - sizes[group]) < abs(missing):
                chosen[group] = True
                missing -= sizes[group]
    if len(first) > 1 and not chosen.any():
        chosen[order[np.argmin(sizes[order])]] = True
    if chosen.all():
        chosen[order[-1]] = False
    held = chosen[inverse]
    return np.flatnonzero(~held), np.flatnonzero(held)


def stratified_limit(targets: Indices, limit: int | None, seed: int = 0) -> Indices:
    """Return at most `limit` indices in ascending order, as equal over classes as their sizes allow.

    The choice holds the first image of each class, then the second of each, and so on up to the limit, so
    that a smaller limit gives a subset of a larger one.
    """
    if limit is None or limit >= len(targets):
        return np.arange(len(targets), dtype=np.int64)
    turns = np.lexsort((targets, _ranks(targets, seed)))
    return np.sort(turns[:limit])
