"""Spectra of matrices whose eigenvalues are known."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from kanvision.analysis.curvature.lanczos import (
    Ritz,
    density,
    extreme_eigenvalues,
    lanczos,
    mean_and_error,
    rademacher,
)


def matrix_of(eigenvalues: Tensor, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = len(eigenvalues)
    basis = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    return basis * eigenvalues.double() @ basis.mT


def start(size: int, seed: int = 1) -> Tensor:
    like = torch.empty(0, dtype=torch.float64)
    return rademacher(size, torch.Generator().manual_seed(seed), like)


def test_all_steps_give_all_eigenvalues() -> None:
    eigenvalues = torch.linspace(-2, 7, 20)
    matrix = matrix_of(eigenvalues)
    run = lanczos(matrix.mv, start(20), 20)
    assert np.allclose(run.values, eigenvalues.numpy(), atol=1e-6)
    vectors = torch.linalg.eigh(matrix)[1]
    assert np.allclose(run.weights, ((start(20) / math.sqrt(20)) @ vectors).square().numpy())
    assert run.weights.sum() == pytest.approx(1)


def test_outer_eigenvalues_come_first_and_bounds_hold() -> None:
    eigenvalues = torch.cat(
        [torch.randn(300, generator=torch.Generator().manual_seed(0)), torch.tensor([-15.0, 12.0, 30.0])]
    )
    matrix = matrix_of(eigenvalues)
    runs = [lanczos(matrix.mv, start(303, seed), 40) for seed in (1, 2)]
    true = torch.linalg.eigvalsh(matrix).numpy()
    for run in runs:
        distances = np.abs(run.values[:, None] - true).min(axis=1)
        assert (distances <= run.bounds + 1e-9).all()
        assert len(np.unique(run.values.round(6))) == 40  # without reorthogonalisation 30 comes many times
    values, bounds = extreme_eigenvalues(runs, 3)
    assert np.allclose(values, [30, -15, 12], atol=1e-8)
    assert (bounds < 1e-6).all()


def test_single_precision_keeps_directions_orthogonal() -> None:
    eigenvalues = torch.logspace(-4, 2, 200)
    matrix = matrix_of(eigenvalues).float()
    run = lanczos(matrix.mv, start(200).float(), 80)
    assert run.values[-1] == pytest.approx(100, rel=1e-5)
    assert len(np.unique(run.values[run.values > 1].round(2))) == (run.values > 1).sum()


def test_a_closed_space_ends_the_run() -> None:
    run = lanczos(matrix_of(torch.tensor([3.0] * 5 + [8.0] * 5)).mv, start(10), 9)
    assert np.allclose(run.values, [3, 8])
    assert np.allclose(run.bounds, 0)
    identity = lanczos(lambda v: 2 * v, start(10), 5)
    assert np.allclose(identity.values, [2])
    values, bounds = extreme_eigenvalues([run, identity], 4)
    assert values.shape == bounds.shape == (1,)


def test_the_density_of_a_known_spectrum() -> None:
    """A quarter of the eigenvalues near -1, the rest near 3: so are the areas, and moments are right."""
    eigenvalues = torch.cat([torch.full((100,), -1.0), torch.full((300,), 3.0)]) + torch.linspace(
        -0.1, 0.1, 400
    )
    matrix = matrix_of(eigenvalues)
    curve = density([lanczos(matrix.mv, start(400, seed), 30) for seed in range(20)], width=0.02)
    step = curve.positions[1] - curve.positions[0]
    assert curve.density.sum() * step == pytest.approx(1, abs=1e-3)
    left = curve.positions < 1
    area, error = (
        (curve.density[left]).sum() * step,
        np.sqrt((curve.errors[left].mean() * left.sum() * step) ** 2),
    )
    assert abs(area - 0.25) < 0.02
    assert 0 < error < 0.1
    assert (curve.density * curve.positions).sum() * step == pytest.approx(
        float(eigenvalues.mean()), abs=0.05
    )


def test_one_vector_has_no_error() -> None:
    single = Ritz(np.array([1.0]), np.array([1.0]), np.array([0.0]))
    curve = density([single], width=0.1)
    assert np.isnan(curve.errors).all()
    assert curve.positions[curve.density.argmax()] == pytest.approx(1, abs=0.01)
    assert math.isnan(mean_and_error([3.0]).error)
    assert mean_and_error([1.0, 3.0]) == (2.0, 1.0)


@pytest.mark.parametrize(("vector", "steps"), [(torch.zeros(3), 2), (torch.ones(3), 0)])
def test_impossible_starts_are_refused(vector: Tensor, steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps={steps} must be at least 1"):
        lanczos(lambda v: v, vector, steps)


def test_a_product_that_is_not_finite_is_told() -> None:
    with pytest.raises(ValueError, match=r"product 1 .* not finite"):
        lanczos(lambda v: v / 0, torch.ones(3), 2)
