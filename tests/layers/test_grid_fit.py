"""Functions on another grid stay what they were, whatever the data are."""

import copy
import math
from typing import Any

import pytest
import torch

from kanvision.layers.grid import move_grids
from kanvision.layers.grid_fit import map_functions
from kanvision.layers.grid_inputs import measure_share_outside
from tests.covering import cover, pairwise

from .grid_layers import DATA, GRIDS, LAYERS, build, learned, relative, sample


@pytest.mark.parametrize(
    ("kind", "grid", "domain", "state"),
    pairwise(list(DATA), ["bspline", "rbf"], [(-4.0, 4.0), (-1.0, 1.0)], ["learned", "random"]),
)
def test_a_move_keeps_the_function(kind: str, grid: str, domain: tuple[float, float], state: str) -> None:
    layer = build("conv2d", grid, domain, basis_kwargs={} if grid == "bspline" else {"width": None})
    if state == "learned":
        learned(layer)
    x = sample("conv2d", kind, 4000)
    before = layer(x)
    (move,) = move_grids(layer, x.split(50))
    assert relative(layer(x), before) < 0.01
    assert move.change <= 0.008
    assert move.new == pytest.approx(layer.basis.domain, abs=1e-5)
    if state == "learned" and domain == (-4.0, 4.0) and grid == "bspline" and kind != "smooth images":
        assert move.fraction == 1
        assert measure_share_outside(layer, x) <= 0.002


@pytest.mark.parametrize(("layer", "grid"), cover(list(LAYERS), list(GRIDS)))
def test_every_layer_and_grid(layer: str, grid: str) -> None:
    kan = learned(build(layer, grid))
    x = sample(layer, count=2000)
    before = kan(x)
    (move,) = move_grids(kan, [x])
    assert 0 < move.fraction <= 1
    assert relative(kan(x), before) < 0.01


@pytest.mark.parametrize("options", [
    {"edge_scale": True},
    {"edge_scale": True, "init": "efficient_kan", "base_act": "silu"},
    {"input_norm": "batch"},
    {"input_norm": "instance", "norm": "batch", "act": "silu", "bias": True},
    {"basis_act": "silu"},
    {"basis_act": "prelu"},
    {"pad_space": "input"},
    {"basis_kwargs": {"squash": "clamp"}},
    {"drop_rate": 0.5, "drop_position": "squashed"},
    {"dtype": torch.float64},
], ids=str)  # fmt: skip
def test_whatever_stands_around_the_functions(options: dict[str, Any]) -> None:
    """efficient-kan refits scaled functions and leaves the scale where it is: another function."""
    layer = learned(build("conv2d", **options)).train()
    x = sample("conv2d", count=4000).to(options.get("dtype", torch.float32))
    before, scale = layer.eval()(x), copy.deepcopy(layer.edge_scale)
    layer.train()
    (move,) = move_grids(layer, [x])
    assert move.fraction == 1
    assert relative(layer.eval()(x), before) < 0.01
    if scale is not None:
        assert torch.equal(layer.edge_scale, scale)
        twice = copy.deepcopy(layer)
        with torch.no_grad():  # what the published update does
            twice.basis_weight.copy_(layer.edge_weight())
        assert relative(twice(x) - layer(x), before) > 0.5


def test_the_fit_is_that_of_least_squares_on_the_samples() -> None:
    layer = build("linear", domain=(-1.0, 1.0)).double()
    x = sample("linear", count=3000).double()
    values = layer(x)
    old, edges = layer.basis, layer.basis_weight.detach().clone().view(5, 6, -1)
    functions = torch.einsum("nck,ock->nco", copy.deepcopy(old)(x), edges)
    (move,) = move_grids(layer, [x], max_change=None)
    assert move.fraction == 1
    best = 0.0
    for channel in range(6):
        phi = layer.basis(x[:, channel : channel + 1])[:, 0]
        solution = torch.linalg.lstsq(phi, functions[:, channel]).solution
        best += float((phi @ solution - functions[:, channel]).square().sum())
    ours = torch.einsum("nck,ock->nco", layer.basis(x), layer.basis_weight.detach().view(5, 6, -1))
    assert best <= float((ours - functions).square().sum()) <= 1.02 * best
    assert move.change == pytest.approx(relative(layer(x), values), rel=0.1)
    assert move.change > 0.1  # wider cells cannot stand for random functions, which max_change is for


DEGENERATE = {
    "constant channels": lambda: torch.tensor([0.5, -1.0, 0.0, 2.0, 1.0, 1.0]).expand(50, 6),
    "two samples": lambda: torch.randn(2, 6, generator=torch.Generator().manual_seed(0)),
    "one sample": lambda: torch.full((1, 6), 0.3),
    "zeros": lambda: torch.zeros(40, 6),
    "two values": lambda: torch.randn(40, 6, generator=torch.Generator().manual_seed(0)).sign(),
    "a dead channel": lambda: torch.randn(40, 6) * torch.tensor([1.0, 1, 0, 1, 0, 1]),
    "far away": lambda: 1e4 + torch.randn(40, 6),
    "an outlier": lambda: torch.cat([torch.randn(40, 6), torch.full((1, 6), 1e6)]),
    "with NaN": lambda: torch.where(torch.rand(40, 6) < 0.2, math.nan, torch.randn(40, 6)),
}


@pytest.mark.parametrize(
    ("kind", "grid", "max_change"), cover(list(DEGENERATE), ["bspline", "degree 6", "rbf"], [0.008, None])
)
def test_data_of_too_low_rank(kind: str, grid: str, max_change: float | None) -> None:
    """lstsq raises LinAlgError or returns NaN on these."""
    layer = learned(build("linear", grid))
    x = DEGENERATE[kind]()
    before = layer(x)
    (move,) = move_grids(layer, [x], max_change=max_change)
    assert layer.basis_weight.isfinite().all()
    assert layer.basis_weight.abs().max() < (1e6 if kind == "an outlier" else 100)
    assert all(math.isfinite(end) for end in layer.basis.domain)
    rows = x.isfinite().all(1)
    if max_change is not None or kind in ("zeros", "constant channels"):
        assert float((layer(x) - before)[rows].norm()) <= 0.01 * float(before[rows].norm())
    assert math.isfinite(move.change)


def test_where_there_are_no_data_the_function_stays() -> None:
    layer = learned(build("linear", domain=(-3.0, 3.0))).double()
    x = torch.rand(500, 6, dtype=torch.float64)
    x[0], x[1] = -2.9, 2.9  # but channel 0 is seen on [0, 1] only
    x[:2, 0] = 0.5
    before = copy.deepcopy(layer)
    move_grids(layer, [x], quantile=0.0, max_change=None)
    assert layer.basis.domain != before.basis.domain
    unseen = torch.zeros(300, 6, dtype=torch.float64)
    unseen[:, 0] = torch.linspace(-2.9, 2.9, 300)
    assert relative(layer(unseen), before(unseen)) < 0.01


def test_the_map_of_weights_by_loops() -> None:
    matrix = torch.randn(4, 3, 2)
    weight = torch.randn(6, 2 * 2, 3, 1)  # two groups of two channels, two functions
    mapped = map_functions(weight, matrix, 2).view(6, 2, 3, 3, 1)
    for output in range(6):
        for channel in range(2):
            kernel = weight.view(6, 2, 2, 3, 1)[output, channel].flatten(1)
            expected = matrix[output // 3 * 2 + channel] @ kernel
            torch.testing.assert_close(mapped[output, channel].flatten(1), expected)
