"""Intervals and tests against published values, scipy's two-sample functions, and closed forms."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats

from kanvision.statistics import (
    holm_correction,
    mcnemar_test,
    mean_interval,
    paired_bootstrap,
    paired_t_test,
    proportion_interval,
    wilcoxon_test,
)

FIRST, SECOND = [0.91, 0.93, 0.92, 0.95, 0.90, 0.94], [0.90, 0.90, 0.915, 0.93, 0.905, 0.92]


@pytest.fixture(autouse=True)
def no_warning():
    """Degenerate values are handled, so scipy has nothing to warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_intervals_are_those_of_the_tables() -> None:
    """Catches a population standard deviation, a normal quantile, and a Wald interval."""
    low, high = mean_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), rel=1e-6)
    assert mean_interval([1.0]) is None
    assert proportion_interval(339, 359) == pytest.approx((0.9156, 0.9637), abs=1e-4)
    assert proportion_interval(0, 10).low == 0.0


def test_paired_tests_agree_with_scipy_and_name_their_limits() -> None:
    """Catches a test of two independent samples, and a p-value of 0 from constant differences."""
    assert paired_t_test(FIRST, SECOND).p_value == pytest.approx(stats.ttest_rel(FIRST, SECOND).pvalue)
    assert wilcoxon_test(FIRST, SECOND).p_value == pytest.approx(stats.wilcoxon(FIRST, SECOND).pvalue)
    assert wilcoxon_test(FIRST, SECOND).note == ""
    assert wilcoxon_test([1.0, 2.0, 3.0], [0.5, 1.0, 1.5]) == (
        0.25,
        wilcoxon_test([3.0, 2, 1], [0, 1, 0.5]).note,
    )
    assert "0.25" in wilcoxon_test([1.0, 2.0, 3.0], [0.5, 1.0, 1.5]).note
    for constant in ([0.1, 0.2, 0.3], [0.0, 0.1, 0.2]):
        found = paired_t_test(constant, [0.0, 0.1, 0.2])
        assert found.p_value == (None if constant[0] else 1.0)
        assert "equal" in found.note
    assert paired_t_test([1.0], [2.0]).p_value is None
    with pytest.raises(ValueError, match="one shape"):
        paired_t_test([1.0, 2.0], [1.0])


def test_mcnemar_counts_only_images_that_differ() -> None:
    """Catches a test on all images: 1 against 9 gives 2 (1 + 10) / 2^10 for any number of others."""
    first, second = [True] * 9 + [False] + [True] * 50, [False] * 9 + [True] + [True] * 50
    assert mcnemar_test(first, second).p_value == pytest.approx(22 / 1024)
    assert mcnemar_test(first, first).p_value == 1.0


def test_bootstrap_of_pairs() -> None:
    """Catches unpaired resampling, whose interval is as wide as the spread of the images."""
    rng = np.random.default_rng(1)
    hard = rng.normal(size=400)
    first, second = hard + 0.1 + 0.1 * rng.normal(size=400), hard
    low, high = paired_bootstrap(first, second, num_resamples=999)
    assert low < 0.1 + 0.01
    assert high > 0.1 - 0.01
    assert high - low == pytest.approx(4 * 0.1 / 20, rel=0.25)
    # a score of the whole set: rows of intersection and union
    rows = rng.integers(1, 20, size=(60, 2)).astype(float)
    better = rows + np.array([3.0, 0.0])
    low, high = paired_bootstrap(
        better, rows, lambda part: part[:, 0].sum() / part[:, 1].sum(), num_resamples=499
    )
    assert low < 3 * 60 / rows[:, 1].sum() < high
    assert paired_bootstrap([0.5, 1.5], [0.0, 1.0]) == (0.5, 0.5)
    assert paired_bootstrap([0.5], [0.0]) is None


def test_holm_is_the_published_example() -> None:
    """Catches Bonferroni, and adjusted values that are not monotone or not in the given order."""
    assert holm_correction([0.01, 0.04, 0.03, 0.2]) == pytest.approx([0.04, 0.09, 0.09, 0.2])
    assert holm_correction([0.6, 0.7]) == [1.0, 1.0]
    assert holm_correction([]) == []
