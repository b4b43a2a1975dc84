"""Moving, extending and refining the grids of layers and networks."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from kanvision.bases import create_basis
from kanvision.layers import (
    KANConv2d,
    KANLinear,
    change_structure,
    restore_structure,
    structure_changes,
)
from kanvision.layers.grid import extend_grid, init_grids, move_grids, refine_grid
from kanvision.layers.grid_inputs import grid_sites, measure_share_outside
from kanvision.layers.peft import add_adapters
from kanvision.models import create_model
from tests.ops.splines import cox_de_boor

from .grid_layers import GRIDS, LAYERS, build, learned, relative, sample


def test_a_limited_move_goes_on_with_the_next_one() -> None:
    layer = build("linear", domain=(-3.0, 3.0))
    x = sample("linear", count=3000)
    first, second = (move_grids(layer, [x])[0] for _ in range(2))
    assert 0 < first.fraction < 1
    assert second.old == layer.basis.domain or second.fraction > 0
    assert (second.new[1] - second.new[0]) >= (first.new[1] - first.new[0]) - 1e-6


def test_it_cannot_be_moved_within_the_limit() -> None:
    layer = build("linear", domain=(-1.0, 1.0))
    before = copy.deepcopy(layer.state_dict())
    (move,) = move_grids(layer, [sample("linear")], max_change=1e-9)
    assert (move.fraction, move.change, move.new) == (0.0, 0.0, move.old)
    for name, tensor in layer.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_layers_that_see_nothing_finite_are_left_alone() -> None:
    layer = build()
    before = copy.deepcopy(layer.state_dict())
    assert move_grids(layer, [torch.full((5, 6), math.nan)]) == []
    assert init_grids(layer, [torch.full((5, 6), math.nan)]) == {}
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())


def test_knots_and_values_stay_together() -> None:
    """Uneven knots in a closed form for even ones: an error of the size of the function."""
    layer = learned(build("linear")).double()
    x = sample("linear").double()
    move_grids(layer, [x])
    basis = layer.basis
    widths = basis.knots.diff()
    torch.testing.assert_close(widths, widths.mean().expand_as(widths))
    expected = cox_de_boor(x, basis.knots, basis.degree, 2)
    torch.testing.assert_close(basis(x), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("squash", [None, "clamp"])
def test_a_moved_layer_loads(squash: Any) -> None:
    layer, fresh = (build("linear", basis_kwargs={"squash": squash}) for _ in range(2))
    move_grids(learned(layer), [sample("linear", "shifted")])
    x = sample("linear", "shifted") * 3
    fresh.load_state_dict(layer.state_dict())
    assert fresh.basis.domain == layer.basis.domain != (-4.0, 4.0)
    assert torch.equal(fresh(x), layer(x))


def test_layers_on_one_basis_move_together() -> None:
    basis = create_basis("bspline", grid_size=8, grid_range=(-4.0, 4.0))
    model = nn.ModuleDict({name: learned(KANLinear(6, 3, basis, base_act=None)) for name in "qkv"})
    model.forward = lambda x: sum(layer(x) for layer in model.values())  # type: ignore[assignment, misc]
    x = sample("linear", "shifted")
    before = [layer(x) for layer in model.values()]
    (move,) = move_grids(model, [x])
    assert set(move.weights) == {"q", "k", "v"}
    for layer, y in zip(model.values(), before, strict=True):
        assert relative(layer(x), y) < 0.01


@pytest.mark.parametrize("basis", ["bspline", "rbf"])
def test_a_network(basis: str) -> None:
    torch.manual_seed(0)
    model = create_model(
        "convkan_4", basis=basis, basis_kwargs={"grid_range": (-4.0, 4.0)}, width_scale=0.25, num_classes=5
    )
    for site in grid_sites(model):
        for layer in site.layers.values():
            learned(layer)
    x = torch.randn(8, 3, 16, 16)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    model.train()(x)  # running statistics as after some training
    before = model.eval()(x)
    moves = move_grids(model.train(), [x])
    assert [move.site for move in moves] == ["stages.0.0", "stages.1.0", "stages.2.0", "stages.2.1"]
    assert relative(model.eval()(x), before) < 0.02


def test_placing_stretches_the_functions() -> None:
    layer = build("linear", domain=(-1.0, 1.0))
    weight = layer.basis_weight.clone()
    x = sample("linear", "shifted", 2000)
    assert measure_share_outside(layer, x) > 0.9
    domains = init_grids(layer, [x])
    assert domains == {"": layer.basis.domain}
    assert torch.equal(layer.basis_weight, weight)
    assert measure_share_outside(layer, x) <= 0.002
    low, high = layer.basis.domain
    assert low == pytest.approx(float(x.quantile(0.001)), abs=0.3)
    assert high == pytest.approx(float(x.quantile(0.999)), abs=0.3)


@pytest.mark.parametrize(
    "options", [{"quantile": 0.5}, {"quantile": -0.1}, {"margin": -1.0}, {"margin": math.nan}]
)
def test_illegal_shares(options: dict[str, float]) -> None:
    (key,) = options
    for change in (move_grids, init_grids):
        with pytest.raises(ValueError, match=f"{key}="):
            change(build(), [sample("linear")], **options)


@pytest.mark.parametrize("layer", list(LAYERS))
@pytest.mark.parametrize("options", [{}, {"edge_scale": True, "bias": True, "base_act": "silu"}])
@pytest.mark.parametrize("factor", [2, 3])
def test_refinement_is_exact(layer: str, options: dict[str, Any], factor: int) -> None:
    kan = learned(build(layer, **options)).double()
    x = sample(layer, count=100).double().clamp(-3.99, 3.99)
    before = kan(x)
    matrix = refine_grid(kan, factor=factor)
    assert kan.basis.num_basis == 8 * factor + 3 == matrix.shape[0]
    torch.testing.assert_close(kan(x), before, atol=1e-12, rtol=1e-12)
    kan(x).sum().backward()
    assert kan.basis_weight.grad.shape == kan.basis_weight.shape


@pytest.mark.parametrize("grid", list(GRIDS))
def test_extension_is_exact_everywhere(grid: str) -> None:
    kan = build("conv2d", grid, domain=(-1.0, 1.0))
    x = 3 * sample("conv2d")
    before, num_basis = kan(x), kan.basis.num_basis
    extend_grid(kan, left=2, right=3)
    assert kan.basis.num_basis == num_basis + 5
    torch.testing.assert_close(kan(x), before, atol=2e-5, rtol=1e-5)


def test_refinement_in_half_precision() -> None:
    kan = build("linear", dtype=torch.bfloat16)
    kan.basis_weight.requires_grad_(False)
    refine_grid(kan)
    assert kan.basis_weight.dtype == torch.bfloat16
    assert not kan.basis_weight.requires_grad
    assert kan.basis.knots.dtype == torch.float32


def test_what_cannot_be_refined_is_refused_and_stays() -> None:
    cases = [
        (KANLinear(6, 2, "rbf"), "cannot be refined"),
        (KANLinear(6, 2, "gram"), "not a KAN layer over a grid"),
        (nn.Linear(6, 2), "not a KAN layer over a grid"),
        (build(basis_act="silu"), "basis_act"),
        (add_adapters(build(), adapter_rank=1), "adapters"),
    ]
    for layer, message in cases:
        before = {name: tensor.shape for name, tensor in layer.state_dict().items()}
        with pytest.raises(ValueError, match=message):
            refine_grid(layer)
        assert {name: tensor.shape for name, tensor in layer.state_dict().items()} == before


def test_recorded_changes_load_into_a_new_network() -> None:
    def network() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(build("conv2d"), nn.ReLU(), KANConv2d(4, 2, 3, basis_kwargs={"grid_size": 4}))

    model, x = network(), 2 * sample("conv2d")
    move_grids(model, [x])
    change_structure(model, "refine_grid", "2", factor=2)
    change_structure(model, "extend_grid", "0", left=1, right=2)
    change_structure(model, "refine_grid", "2", factor=3)
    fresh = network()
    restore_structure(fresh, structure_changes(model))
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(x), model(x))
    assert [layer.basis.domain for layer in (fresh[0], fresh[2])] == [
        layer.basis.domain for layer in (model[0], model[2])
    ]


def test_one_refinement_for_layers_on_one_basis() -> None:
    basis = create_basis("bspline")
    model = nn.ModuleList(KANLinear(6, 3, basis) for _ in range(2))
    change_structure(model, "refine_grid", "1", factor=2)
    assert [layer.basis_weight.shape[1] for layer in model] == [6 * 13, 6 * 13]
    assert model[0](torch.randn(2, 6)).shape == (2, 3)
