"""Statistics of comparisons against published values and against other implementations."""

import math

import numpy as np
import pytest
from benchmarks.evidence.statistics import (
    adjust_holm,
    bootstrap_interval,
    compare,
    mean_interval,
    prediction_interval,
    smallest_wilcoxon_p,
)
from scipy import stats

A = {1: 10.0, 2: 11.0, 3: 13.0, 4: 12.0, 5: 15.0}
B = {1: 9.0, 2: 9.5, 3: 12.5, 4: 10.0, 5: 14.0, 9: 70.0}


def test_intervals_are_those_of_the_table_of_t() -> None:
    """t(0.975, 4) = 2.776 and t(0.975, 2) = 4.303."""
    interval = mean_interval(list(A.values()))
    half = 2.776 * np.std(list(A.values()), ddof=1) / math.sqrt(5)
    assert interval.high - interval.mean == pytest.approx(half, rel=1e-3)
    assert interval.mean - interval.low == pytest.approx(half, rel=1e-3)
    wide = prediction_interval([1.0, 2.0, 3.0])
    assert wide.high == pytest.approx(2 + 4.303 * math.sqrt(4 / 3), rel=1e-3)
    assert math.isnan(mean_interval([1.0]).low)


def test_a_comparison_is_paired_over_common_seeds() -> None:
    found = compare(A, B)
    assert found is not None
    reference = stats.ttest_rel([A[s] for s in A], [B[s] for s in A])
    assert found.count == 5
    assert found.p == pytest.approx(reference.pvalue)
    bounds = reference.confidence_interval(0.95)
    assert (found.difference.low, found.difference.high) == pytest.approx((bounds.low, bounds.high))
    assert found.verdict(found.p) == "better"
    assert compare(B, A).verdict(0.01) == "worse"  # type: ignore[union-attr]
    assert found.verdict(0.05) == "not separated"
    assert compare({1: 1.0, 2: 2.0}, {1: 1.0, 2: 1.0}) is None


def test_equal_differences_are_no_certainty() -> None:
    """A t-test of equal numbers has p = 0, which three seeds cannot give."""
    found = compare({1: 2.0, 2: 3.0, 3: 4.0}, {1: 1.0, 2: 2.0, 3: 3.0})
    assert found is not None
    assert math.isnan(found.p)
    assert found.verdict(found.p) == "not separated"
    same = compare({1: 2.0, 2: 3.0, 3: 4.0}, {1: 2.0, 2: 3.0, 3: 4.0})
    assert same is not None
    assert same.p == 1.0


def test_five_seeds_cannot_be_significant_by_ranks() -> None:
    assert smallest_wilcoxon_p(5) == stats.wilcoxon([1.0, 2.0, 3.0, 4.0, 5.0]).pvalue == 0.0625


def test_holm_corrects_as_published() -> None:
    """The values of statsmodels' multipletests(method="holm") for these four."""
    assert adjust_holm([0.01, 0.04, 0.03, 0.2]) == pytest.approx([0.04, 0.09, 0.09, 0.2])
    adjusted = adjust_holm([0.01, math.nan])
    assert adjusted[0] == 0.02
    assert math.isnan(adjusted[1])


def test_the_bootstrap_over_images_is_paired() -> None:
    """Equal predictions have no spread however hard the images are; other ones have that of scipy."""
    rng = np.random.default_rng(1)
    base = [rng.random(500) < 0.7 for _ in range(3)]
    assert bootstrap_interval(base, base) == bootstrap_interval(base, base)
    assert bootstrap_interval(base, base).high == 0.0
    other = [np.where(rng.random(500) < 0.1, ~right, right) for right in base]
    found = bootstrap_interval(other, base)
    differences = np.mean(np.asarray(other, float) - np.asarray(base, float), axis=0)
    reference = stats.bootstrap((differences,), np.mean, method="percentile", rng=np.random.default_rng(0))
    bounds = reference.confidence_interval
    assert found.mean == pytest.approx(differences.mean())
    assert (found.low, found.high) == pytest.approx((bounds.low, bounds.high), abs=2e-3)
