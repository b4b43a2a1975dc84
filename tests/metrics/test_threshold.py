"""The searched threshold is the best one of its grid, whatever order the images come in."""

import numpy as np
import pytest
import torch

from kanvision.metrics import THRESHOLDS, ThresholdSearch


def problem(seed: int = 0, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities that are too low by a factor of the class."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(6, classes, 8, 9, generator=generator) < 0.3
    noise = 0.25 * torch.randn(target.shape, generator=generator)
    sure = (target * 0.6 + 0.2 + noise).clamp(0, 1)
    return sure ** torch.arange(1, classes + 1)[:, None, None], target


def best(p: np.ndarray, t: np.ndarray) -> float:
    f1 = [
        2 * (t & (p > np.float32(x))).sum() / max(t.sum() + (p > np.float32(x)).sum(), 1) for x in THRESHOLDS
    ]
    ties = [x for x, value in zip(THRESHOLDS, f1, strict=True) if value == max(f1)]
    return min(ties, key=lambda x: abs(x - 0.5))


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_best_of_all_thresholds(seed: int):
    p, t = problem(seed)
    search = ThresholdSearch(3)
    for part in (slice(0, 1), slice(1, 6)):
        search.update(p[part], t[part])
    expected = [best(p[:, k].numpy(), t[:, k].numpy()) for k in range(3)]
    assert search.compute().tolist() == pytest.approx(expected)
    assert expected[0] > expected[2]


def test_processes_and_order_do_not_matter():
    p, t = problem()
    whole, *ranks = (ThresholdSearch(3) for _ in range(3))
    whole.update(p, t)
    for rank, search in enumerate(ranks):
        search.update(p[rank::2].flip(0), t[rank::2].flip(0))
    ranks[0].merge_state(ranks[1])
    assert torch.equal(ranks[0].compute(), whole.compute())
    assert torch.equal(ranks[0].counts, whole.counts)


def test_a_pixel_at_the_threshold_is_background_there_as_in_prediction():
    p = torch.tensor([0.3, 0.31]).reshape(1, 1, 1, 2)
    search = ThresholdSearch(1)
    search.update(p, torch.tensor([False, True]).reshape(1, 1, 1, 2))
    assert float(search.compute()) == pytest.approx(0.3)
    assert (p > search.compute()).flatten().tolist() == [False, True]


def test_nothing_to_go_by_leaves_one_half():
    search = ThresholdSearch(2)
    p, t = problem(classes=2)
    search.update(p, torch.zeros_like(t))
    assert search.compute().tolist() == [0.5, 0.5]


def test_ignored_pixels_and_nan_do_not_count():
    p, t = problem()
    valid = torch.rand(p.shape, generator=torch.Generator().manual_seed(1)) < 0.8
    search, other = ThresholdSearch(3), ThresholdSearch(3)
    search.update(p, t, valid)
    other.update(p.where(valid, 0.9), (~t).where(~valid, t), valid)
    assert torch.equal(search.counts, other.counts)
    assert int(search.counts.sum()) == int(valid.sum())
    other.reset()
    other.update(torch.full_like(p, torch.nan), t)
    assert other.compute().tolist() == [0.5, 0.5, 0.5]
