"""Grids that move, grow and get finer: what stays the same, and what a state dict brings back."""

import copy
import math
from typing import Any

import pytest
import torch

from kanvision.bases import BASES, Basis, create_basis
from kanvision.bases.grid import GridBasis
from tests.ops.splines import cox_de_boor

SIZE = {"bspline": "grid_size"}  # of the others: num_centers
GRIDS = sorted(name for name, cls in BASES.items() if issubclass(cls, GridBasis))


def make(name: str, size: int = 6, **kwargs: Any) -> GridBasis:
    basis = create_basis(name, **{SIZE.get(name, "num_centers"): size}, **kwargs)
    assert isinstance(basis, GridBasis)
    return basis


def values(basis: Basis, x: torch.Tensor) -> torch.Tensor:
    return basis(x.unsqueeze(-1)).squeeze(-2)  # (N, K)


def line(low: float, high: float, count: int = 501) -> torch.Tensor:
    return torch.linspace(low, high, count, dtype=torch.float64)


def test_which_bases_have_a_grid() -> None:
    assert GRIDS == ["bspline", "rbf", "rswaf"]


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("squash", [None, "clamp", "tanh"])
def test_moving_stretches_the_line(name: str, squash: Any) -> None:
    basis = make(name, grid_range=(-1.0, 1.0), squash=squash).double()
    moved = copy.deepcopy(basis)
    moved.move(-0.5, 3.5)
    assert moved.domain == pytest.approx((-0.5, 3.5), abs=1e-6)
    assert moved.num_basis == basis.num_basis
    x = line(-1.5, 1.5)
    if squash == "tanh":  # the squash follows the domain
        torch.testing.assert_close(values(moved, x), values(basis, x), atol=1e-6, rtol=0)
    else:
        torch.testing.assert_close(values(moved, 1.5 + 2 * x), values(basis, x), atol=1e-6, rtol=0)
    assert moved.step == pytest.approx(2 * basis.step)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("squash", [None, "clamp"])
def test_a_state_dict_brings_the_grid_back(name: str, squash: Any) -> None:
    """Published code kept the grid outside of the state dict, or the limits of a clamp in it."""
    basis = make(name, squash=squash)
    basis.move(-0.3, 5.1)
    fresh = make(name, squash=squash)
    before = fresh.domain
    fresh.load_state_dict(basis.state_dict())
    x = torch.linspace(-9, 9, 301)
    assert fresh.domain == basis.domain != before
    assert (fresh.step, fresh.support) == (basis.step, basis.support)
    assert torch.equal(values(fresh, x), values(basis, x))
    fresh.reset_parameters()  # fills constants, also after `to_empty`
    assert torch.equal(values(fresh, x), values(basis, x))


@pytest.mark.parametrize("name", GRIDS)
def test_loading_an_unmoved_grid_keeps_every_digit_of_the_domain(name: str) -> None:
    basis = make(name, grid_range=(-0.3, 0.7))
    basis.load_state_dict(make(name, grid_range=(-0.3, 0.7)).state_dict())
    assert basis.domain == (-0.3, 0.7)


@pytest.mark.parametrize("name", GRIDS)
def test_extension_changes_nothing(name: str) -> None:
    basis = make(name, grid_range=(-1.0, 1.0)).double()
    wide = copy.deepcopy(basis)
    weights = wide.extend(2, 3)
    low, high = basis.domain
    assert wide.num_basis == basis.num_basis + 5
    assert wide.domain == pytest.approx((low - 2 * basis.step, high + 3 * basis.step), abs=1e-6)
    x = line(-6, 6)
    torch.testing.assert_close(values(wide, x) @ weights, values(basis, x), atol=1e-7, rtol=0)


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 5, 10])
@pytest.mark.parametrize("factor", [2, 3])
def test_refinement_is_exact_on_the_domain(degree: int, factor: int) -> None:
    basis = make("bspline", 5, degree=degree, grid_range=(-1.3, 0.9)).double()
    fine = copy.deepcopy(basis)
    weights = fine.refine(factor)
    assert fine.num_basis == 5 * factor + degree
    assert fine.domain == pytest.approx(basis.domain, abs=1e-6)
    x = line(-1.2999, 0.8999)
    torch.testing.assert_close(values(fine, x) @ weights, values(basis, x), atol=1e-12, rtol=0)
    torch.testing.assert_close(weights.sum(1), torch.ones(fine.num_basis, dtype=torch.float64))


def test_the_rows_of_cubic_doubling() -> None:
    weights = make("bspline", 5).refine(2)
    assert weights[1, :3].tolist() == [0.125, 0.75, 0.125]
    assert weights[0, :3].tolist() == [0.5, 0.5, 0.0]


def test_beside_the_domain_refinement_halves_the_tail() -> None:
    basis = make("bspline", 5).double()
    fine = copy.deepcopy(basis)
    fine.refine(2)
    assert basis.support == pytest.approx((-1 - 3 * 0.4, 1 + 3 * 0.4))
    assert fine.support == pytest.approx((-1 - 3 * 0.2, 1 + 3 * 0.2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_changed_grid_keeps_its_precision(dtype: torch.dtype) -> None:
    basis = make("bspline").to(dtype)
    basis.move(-0.3, 0.7)
    basis.refine(2)
    assert basis.knots.dtype == torch.float32
    assert basis(torch.zeros(3, 1, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("uniform", [True, False])
def test_values_belong_to_the_knots_in_the_buffer(uniform: bool) -> None:
    """MatrixKAN goes on with the uniform matrix after an update has made the knots uneven."""
    knots = None if uniform else [-3.0, -2, -1, 0, 0.2, 1.0, 2, 3, 5]
    basis = make("bspline", degree=2, knots=knots).double()
    basis.move(-0.7, 2.3)
    x = line(-1, 3)
    torch.testing.assert_close(values(basis, x), cox_de_boor(x, basis.knots, 2, 1), atol=1e-6, rtol=0)


def test_uneven_knots_do_not_load_into_closed_forms() -> None:
    basis = make("bspline", 6)
    state = {"knots": basis.knots.clone()}
    state["knots"][5] += 0.1
    with pytest.raises(RuntimeError, match=r"not equidistant.*knots="):
        basis.load_state_dict(state)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_narrow_grids_far_from_zero_load(scale: float) -> None:
    basis, fresh = make("bspline", 6), make("bspline", 6)
    basis.move(100 * scale, 101 * scale)
    fresh.load_state_dict(basis.state_dict())
    assert fresh.domain == basis.domain


@pytest.mark.parametrize("change", [lambda b: b.refine(2), lambda b: b.extend(1, 1)])
def test_a_grid_without_values_changes_its_shape(change: Any) -> None:
    basis = make("bspline").to("meta")
    real = make("bspline")
    change(basis), change(real)
    assert basis.knots.shape == real.knots.shape
    assert basis.domain == pytest.approx(real.domain)


@pytest.mark.parametrize("squash", [None, "clamp"])
def test_a_single_function_moves_and_comes_back(squash: Any) -> None:
    basis, fresh = (make("rbf", 1, width=0.5, grid_range=(-1.0, 1.0), squash=squash) for _ in range(2))
    basis.move(1.0, 5.0)
    fresh.load_state_dict(basis.state_dict())
    assert (fresh.domain, fresh.width) == (basis.domain, basis.width) == ((1.0, 5.0), 1.0)


@pytest.mark.parametrize("name", ["rbf", "rswaf"])
def test_radial_functions_are_not_refined(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' cannot be refined.*extended"):
        make(name).refine(2)


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: make("bspline").refine(1), "factor=1 must be at least 2"),
        (lambda: make("bspline").move(1.0, 1.0), "increasing pair"),
        (lambda: make("bspline").move(0.0, math.nan), "increasing pair"),
        (lambda: make("bspline").extend(-1, 0), "left=-1"),
        (lambda: make("bspline", squash="clamp").extend(1, 0), "squash='clamp'"),
        (lambda: make("rbf", 1, width=0.5).extend(1, 0), "no neighbors"),
        (lambda: make("bspline", degree=1, knots=[0.0, 1, 2, 4]).refine(2), "equidistant knots"),
    ],
)
def test_what_cannot_be_done_is_refused(make_it: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_it()
