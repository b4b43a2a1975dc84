import hashlib
import random

import numpy as np
import pytest
import torch

from kanvision.data import READERS
from kanvision.data.splits.holdout import grouped_holdout, stratified_holdout, stratified_limit

TARGETS = np.repeat(np.arange(5), [1, 2, 10, 33, 100]).astype(np.int64)


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.9])
def test_a_holdout_takes_its_share_of_each_class(fraction: float):
    kept, held = stratified_holdout(TARGETS, fraction, seed=3)
    assert sorted([*kept, *held]) == list(range(len(TARGETS)))
    counts = np.bincount(TARGETS[held], minlength=5)
    assert counts[0] == 0  # its only image is kept
    assert all(counts[1:] == [min(max(int(n * fraction + 0.5), 1), n - 1) for n in (2, 10, 33, 100)])


def test_a_holdout_depends_on_the_seed_alone():
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    first = stratified_holdout(TARGETS, 0.2, seed=1)[1]
    assert random.getstate() == before[0]
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert torch.equal(torch.get_rng_state(), before[2])
    np.random.seed(7)
    torch.manual_seed(7)
    assert np.array_equal(first, stratified_holdout(TARGETS, 0.2, seed=1)[1])
    assert not np.array_equal(first, stratified_holdout(TARGETS, 0.2, seed=2)[1])


def test_a_holdout_is_spread_over_the_class():
    held = stratified_holdout(np.zeros(10_000, np.int64), 0.1)[1]
    counts = np.histogram(held, bins=10, range=(0, 10_000))[0]
    assert counts.sum() == 1000
    assert counts.min() > 60  # binomial: 100 +- 9.5


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
def test_an_illegal_share_is_refused(fraction: float):
    with pytest.raises(ValueError, match="legal: more than 0"):
        stratified_holdout(TARGETS, fraction)


def test_the_splits_that_scores_depend_on_never_change():
    """Written down once; a change of the rule, the platform or a library must not move an image."""
    assert stratified_holdout(np.arange(40, dtype=np.int64) % 4, 0.25, seed=0)[1].tolist() == HELD_OUT
    test = READERS["digits"](None).read().test
    assert hashlib.sha256(test.pixels.tobytes() + test.targets.tobytes()).hexdigest()[:16] == DIGITS


def test_a_limit_is_equal_over_classes_and_nested():
    chosen = stratified_limit(TARGETS, 23)
    assert np.bincount(TARGETS[chosen]).tolist() == [1, 2, 7, 7, 6]
    assert set(stratified_limit(TARGETS, 10)) < set(chosen)
    assert list(chosen) == sorted(chosen)


@pytest.mark.parametrize("limit", [None, 146, 1000])
def test_no_limit_keeps_all(limit: int | None):
    assert np.array_equal(stratified_limit(TARGETS, limit), np.arange(146))


def test_empty_targets():
    empty = np.empty(0, dtype=np.int64)
    assert [len(part) for part in stratified_holdout(empty, 0.1)] == [0, 0]
    assert len(stratified_limit(empty, 3)) == 0


HELD_OUT = [2, 5, 8, 11, 12, 19, 26, 29, 32, 37, 38, 39]
DIGITS = "7528eeb31283fb68"


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_held_out_whole_and_close_to_the_wanted_share(seed: int):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 40, 300)
    targets = (groups % 3).astype(np.int64)
    kept, held = grouped_holdout(groups, targets, 0.2, seed)
    assert not set(groups[kept]) & set(groups[held])
    assert sorted([*kept, *held]) == list(range(300))
    for label in range(3):
        share = (targets[held] == label).sum() / (targets == label).sum()
        assert abs(share - 0.2) < 0.06
    again = grouped_holdout(groups, targets, 0.2, seed)
    assert np.array_equal(again[1], held)
    assert not np.array_equal(grouped_holdout(groups, targets, 0.2, seed + 1)[1], held)


def test_of_few_groups_one_is_held_out_and_one_is_kept():
    groups, targets = np.array([0, 0, 0, 0, 7, 7, 7]), np.zeros(7, np.int64)
    kept, held = grouped_holdout(groups, targets, 0.05)
    assert (groups[held] == 7).all()
    assert len(held) == 3
    kept, held = grouped_holdout(groups, targets, 0.99)
    assert len(kept)
    assert len(held)
    kept, held = grouped_holdout(np.zeros(5, np.int64), np.zeros(5, np.int64), 0.5)
    assert len(kept) == 5
    assert not len(held)
    assert [part.tolist() for part in grouped_holdout(groups[:0], targets[:0], 0.5)] == [[], []]
    with pytest.raises(ValueError, match="held-out fraction is 1"):
        grouped_holdout(groups, targets, 1.0)
