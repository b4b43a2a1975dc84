"""Singular values and ranks, against matrices of which they are known."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from kanvision.analysis.spectra import (
    Spectra,
    attention_chart,
    drop_at,
    energy_rank,
    numerical_rank,
    singular_values,
    stable_rank,
    weight_chart,
    weight_matrices,
)


def matrix(values, size):
    """A float32 matrix with these singular values."""
    q, _ = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))
    p, _ = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))
    spectrum = torch.zeros(size, dtype=torch.float64)
    spectrum[: len(values)] = torch.tensor(values, dtype=torch.float64)
    return (q * spectrum @ p.T).float()


def test_values_and_ranks_of_a_known_matrix():
    torch.manual_seed(0)
    values = singular_values(torch.stack([matrix([8.0, 4.0, 1.0], 20), matrix([8.0, 2.0, 0.5], 20)]))
    np.testing.assert_allclose(values[:, :3], [[8, 4, 1], [8, 2, 0.5]], rtol=1e-5)
    assert numerical_rank(values, 20).tolist() == [3, 3]
    assert energy_rank(values).tolist() == [3, 2]  # 64 + 16 of 81; 64 + 4 of 68.25
    np.testing.assert_allclose(stable_rank(values), [81 / 64, 68.25 / 64], rtol=1e-5)
    assert drop_at(values, 1) == pytest.approx(math.sqrt(2 * 4), rel=1e-5)
    assert drop_at(values, 3) > 1e4
    assert math.isnan(drop_at(values, 20))


def test_hidden_logits_count_as_nothing():
    logits = torch.tensor([[3.0, -math.inf], [4.0, 0.0]])
    assert singular_values(logits).tolist() == pytest.approx([5.0, 0.0])


def test_weights_are_matrices_of_outputs_by_all_else():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(40, 50), nn.Linear(7, 1))
    matrices, too_large = weight_matrices(model, 30)
    assert {name: tuple(m.shape) for name, m in matrices.items()} == {"0.weight": (8, 27)}
    assert too_large == {"2.weight": (50, 40)}


def test_charts_show_every_curve():
    rng = np.random.default_rng(0)
    values = -np.sort(-rng.random((5, 16)))
    figure = attention_chart([Spectra("a", values, values, 4, 3), Spectra("b", values, values, 16, None)])
    assert len(figure.axes) == 4
    drawn = figure.axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(drawn, values.mean(0))
    assert [line.get_xdata()[0] for ax in figure.axes for line in ax.lines[1:]] == [4.5, 3.5]
    figure = weight_chart({"first": values[0], "second": values[1]})
    widths = [bar.get_width() for bar in figure.axes[1].patches]
    assert widths == pytest.approx([float(stable_rank(v)) / 16 for v in values[:2]])
