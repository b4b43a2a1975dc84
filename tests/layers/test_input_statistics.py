"""Counts of what goes into a layer, against the values themselves."""

import math

import pytest
import torch

from kanvision.layers.input_statistics import InputHistogram, InputRange

SAMPLES = {
    "normal": torch.randn(50_001, generator=torch.Generator().manual_seed(0)),
    "shifted": 1000 + torch.randn(5_000, generator=torch.Generator().manual_seed(0)),
    "relu": torch.randn(5_000, generator=torch.Generator().manual_seed(0)).relu(),
    "tiny": 1e-20 * torch.randn(5_000, generator=torch.Generator().manual_seed(0)),
    "huge": 1e30 * torch.randn(5_000, generator=torch.Generator().manual_seed(0)),
    "constant": torch.full((100,), -3.25),
}


@pytest.mark.parametrize("name", list(SAMPLES))
@pytest.mark.parametrize("share", [0.0, 0.001, 0.1])
def test_quantiles_leave_out_no_more_than_their_share(name: str, share: float) -> None:
    x = SAMPLES[name]
    values = InputRange((-1.0, 1.0))
    for part in x.split(777):
        values.add(part)
    low, high = values.quantiles(share)
    assert (x < low).sum() <= share * len(x)
    assert (x > high).sum() <= share * len(x)
    exact = x.sort().values
    skipped = math.floor(share * len(x))
    for found, index in ((low, skipped), (high, len(x) - 1 - skipped)):
        assert abs(found - float(exact[index])) <= 2**-7 * abs(float(exact[index])) + 1e-30
    if share == 0:
        assert (low, high) == (float(x.min()), float(x.max())) == values.ends


def test_share_outside_of_a_normal_distribution() -> None:
    values = InputRange((-1.0, 1.0))
    values.add(SAMPLES["normal"].view(-1, 3))
    assert values.num_values == 50_001
    assert values.share_outside == float((SAMPLES["normal"].abs() > 1).double().mean())
    assert values.share_outside == pytest.approx(math.erfc(math.sqrt(0.5)), abs=0.01)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types(dtype: torch.dtype) -> None:
    x = torch.tensor([-2.0, -0.0, 0.0, 0.5, 3.0], dtype=dtype)
    values = InputRange((0.0, 1.0))
    values.add(x)
    assert values.quantiles(0.0) == (-2.0, 3.0)
    assert values.share_outside == pytest.approx(2 / 5)


def test_what_is_not_finite_is_counted_apart() -> None:
    values, histogram = InputRange((0.0, 1.0)), InputHistogram(torch.linspace(0, 1, 5), 2)
    x = torch.tensor([[0.1, math.nan], [math.inf, 0.9], [-math.inf, 0.1]])
    values.add(x)
    histogram.add(x)
    assert (values.num_values, values.num_not_finite, values.share_outside) == (3, 3, 0.0)
    assert values.quantiles(0.0) == pytest.approx((0.1, 0.9))
    assert histogram.counts.tolist() == [[1, 0, 0, 0], [1, 0, 0, 1]]


def test_nothing_counted() -> None:
    values = InputRange((0.0, 1.0))
    values.add(torch.empty(0, 3))
    assert values.share_outside == 0.0
    with pytest.raises(ValueError, match="no finite values"):
        values.quantiles(0.1)


@pytest.mark.parametrize("channel_dim", [-1, 1])
def test_a_histogram_counts_each_channel(channel_dim: int) -> None:
    x = torch.randn(7, 3, 5, 4)
    histogram = InputHistogram(torch.linspace(-1, 2, 7), 4 if channel_dim == -1 else 3)
    histogram.add(x[:2], channel_dim)
    histogram.add(x[2:], channel_dim)
    channels = x.movedim(channel_dim, -1).flatten(0, -2).T
    for counts, values in zip(histogram.counts, channels, strict=True):
        expected = torch.histogram(values.clamp(-1.0, 1.9999), 6, range=(-1.0, 2.0)).hist
        assert torch.equal(counts.float(), expected)
    assert histogram.centers.tolist() == pytest.approx([-0.75, -0.25, 0.25, 0.75, 1.25, 1.75])
