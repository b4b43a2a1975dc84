"""Moving, extending and refining the grids of layers: functions stay, whatever the data are."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kanvision.bases import create_basis
from kanvision.layers import (
    KANConv1d,
    KANConv2d,
    KANConv3d,
    KANLinear,
    change_structure,
    restore_structure,
    structure_of,
)
from kanvision.layers.expansion import KANLayer
from kanvision.layers.grid import extend_grid, map_functions, move_grids, place_grids, refine_grid
from kanvision.layers.grid_inputs import grid_sites, measure_inputs, share_outside
from kanvision.layers.peft import add_adapters
from kanvision.models import create_model
from kanvision.ops.bspline import cox_de_boor

DATA = {
    "normal": lambda x: x,
    "shifted": lambda x: 2 + 0.5 * x,
    "narrow": lambda x: 0.2 * x,
    "relu": torch.relu,
    "channels of many sizes": lambda x: (
        x * torch.logspace(-2, 0.3, x.shape[1]).view(1, -1, *[1] * (x.ndim - 2))
    ),
    "smooth images": lambda x: x.cumsum(-1) / x.shape[-1] ** 0.5,
}
LAYERS: dict[str, Any] = {
    "linear": lambda **kw: KANLinear(6, 5, **kw),
    "conv1d": lambda **kw: KANConv1d(6, 4, 3, padding=1, **kw),
    "conv2d": lambda **kw: KANConv2d(6, 4, 3, padding=1, groups=2, **kw),
    "strided": lambda **kw: KANConv2d(6, 4, 3, padding=1, stride=2, dilation=2, **kw),
    "reflected": lambda **kw: KANConv2d(6, 4, 3, padding=1, padding_mode="reflect", **kw),
    "depthwise": lambda **kw: KANConv2d(6, 6, 3, padding=1, groups=6, **kw),
    "conv3d": lambda **kw: KANConv3d(6, 2, (1, 2, 3), **kw),
}
GRIDS: dict[str, dict[str, Any]] = {
    "bspline": {"basis": "bspline", "basis_kwargs": {"grid_size": 8}},
    "linear splines": {"basis": "bspline", "basis_kwargs": {"grid_size": 12, "degree": 1}},
    "degree 6": {"basis": "bspline", "basis_kwargs": {"grid_size": 8, "degree": 6}},
    "rbf": {"basis": "rbf", "basis_kwargs": {"num_centers": 10, "width": 0.9}},
    "rswaf": {"basis": "rswaf", "basis_kwargs": {"num_centers": 10, "width": 0.9}},
}


def build(
    layer: str = "linear", grid: str = "bspline", domain: tuple[float, float] = (-4.0, 4.0), **kw: Any
) -> Any:
    torch.manual_seed(0)
    given = copy.deepcopy(GRIDS[grid])
    given["basis_kwargs"] |= {"grid_range": domain, **kw.pop("basis_kwargs", {})}
    built = LAYERS[layer](**{"base_act": None, **given, **kw})
    return built


def learned(layer: KANLayer) -> Any:
    """Weights of smooth functions, as training leaves them."""
    out, maps, *kernel = layer.basis_weight.shape
    num_basis = layer.basis.num_basis
    place = torch.linspace(-1, 1, num_basis).view(-1, *[1] * len(kernel))
    rate, phase = (torch.rand(out, maps // num_basis, 1, *kernel) for _ in range(2))
    with torch.no_grad():
        layer.basis_weight.copy_((2.5 * rate * place + 6 * phase).sin().flatten(1, 2))
        if layer.edge_scale is not None:
            layer.edge_scale.uniform_(-2, 2)
    return layer


def sample(layer: str, kind: str = "normal", count: int = 300) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    space = {"linear": (), "conv1d": (9,), "conv3d": (2, 3, 4)}.get(layer, (6, 6))
    return DATA[kind](
        torch.randn(
            max(2, count // max(1, math.prod(space))) if space else count, 6, *space, generator=generator
        )
    )


def relative(after: Tensor, before: Tensor) -> float:
    return float(((after - before).norm() / before.norm()).detach())


# --- moving


@pytest.mark.parametrize("kind", list(DATA))
@pytest.mark.parametrize("grid", ["bspline", "rbf"])
@pytest.mark.parametrize("domain", [(-4.0, 4.0), (-1.0, 1.0)])
@pytest.mark.parametrize("state", ["learned", "random"])
def test_a_move_keeps_the_function(kind: str, grid: str, domain: tuple[float, float], state: str) -> None:
    layer = build("conv2d", grid, domain, basis_kwargs={} if grid == "bspline" else {"width": None})
    if state == "learned":
        learned(layer)
    x = sample("conv2d", kind, 4000)
    before = layer(x)
    (move,) = move_grids(layer, x.split(50))
    assert relative(layer(x), before) < 0.01
    assert move.change <= 0.01
    assert move.new == pytest.approx(layer.basis.domain, abs=1e-5)
    if state == "learned" and domain == (-4.0, 4.0) and grid == "bspline" and kind != "smooth images":
        assert move.fraction == 1
        assert share_outside(layer, x) <= 0.002


@pytest.mark.parametrize("layer", list(LAYERS))
@pytest.mark.parametrize("grid", list(GRIDS))
def test_every_layer_and_grid(layer: str, grid: str) -> None:
    kan = learned(build(layer, grid))
    x = sample(layer, count=2000)
    before = kan(x)
    (move,) = move_grids(kan, [x])
    assert 0 < move.fraction <= 1
    assert relative(kan(x), before) < 0.012


@pytest.mark.parametrize("options", [
    {"edge_scale": True},
    {"edge_scale": True, "init": "efficient_kan", "base_act": "silu"},
    {"input_norm": "batch"},
    {"input_norm": "instance", "norm": "batch", "act": "silu", "bias": True},
    {"basis_act": "silu"},
    {"basis_act": "prelu"},
    {"pad_space": "input"},
    {"basis_kwargs": {"squash": "clamp"}},
    {"drop_rate": 0.5, "drop_place": "squashed"},
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


@pytest.mark.parametrize("kind", list(DEGENERATE))
@pytest.mark.parametrize("grid", ["bspline", "degree 6", "rbf"])
@pytest.mark.parametrize("max_change", [0.01, None])
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
        assert float((layer(x) - before)[rows].norm()) <= 0.012 * float(before[rows].norm())
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


def test_layers_that_see_nothing_finite_are_left_alone() -> None:
    layer = build()
    before = copy.deepcopy(layer.state_dict())
    assert move_grids(layer, [torch.full((5, 6), math.nan)]) == []
    assert place_grids(layer, [torch.full((5, 6), math.nan)]) == {}
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


def test_moving_leaves_no_other_trace() -> None:
    model = nn.Sequential(
        KANConv2d(3, 4, 3, norm="batch"), nn.Dropout(0.5), KANConv2d(4, 2, 3, input_norm="batch")
    )
    model[1].eval()
    x = torch.randn(4, 3, 8, 8)
    buffers = {name: tensor.clone() for name, tensor in model.named_buffers() if "knots" not in name}
    state = torch.get_rng_state()
    assert len(move_grids(model, [x])) == 2
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(model.get_buffer(name), tensor) for name, tensor in buffers.items())
    assert [module.training for module in model] == [True, False, True]
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert model[0].norm.track_running_stats


def test_compiled_code_is_looked_into() -> None:
    model = nn.Sequential(nn.ReLU(), build("linear"))
    model.compile(backend="eager")
    x = sample("linear")
    model(x)
    assert measure_inputs(model, [x])["1"].num_values == x.numel()
    compiled = model._compiled_call_impl
    assert compiled is not None
    assert len(move_grids(model, [x])) == 1
    assert model._compiled_call_impl is compiled


def test_batch_norms_of_a_new_network_use_the_batch() -> None:
    """Their running statistics, 0 and 1, say nothing yet."""
    model = nn.Sequential(nn.BatchNorm1d(6), build("linear"))
    seen = measure_inputs(model, [5 + 10 * torch.randn(500, 6)])["1"]
    assert seen.ends == pytest.approx((-3.2, 3.2), abs=1)


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
    assert share_outside(layer, x) > 0.9
    placed = place_grids(layer, [x])
    assert placed == {"": layer.basis.domain}
    assert torch.equal(layer.basis_weight, weight)
    assert share_outside(layer, x) <= 0.002
    low, high = layer.basis.domain
    assert low == pytest.approx(float(x.quantile(0.001)), abs=0.3)
    assert high == pytest.approx(float(x.quantile(0.999)), abs=0.3)


@pytest.mark.parametrize(
    "options", [{"quantile": 0.5}, {"quantile": -0.1}, {"margin": -1.0}, {"margin": math.nan}]
)
def test_illegal_shares(options: dict[str, float]) -> None:
    (key,) = options
    for change in (move_grids, place_grids):
        with pytest.raises(ValueError, match=f"{key}="):
            change(build(), [sample("linear")], **options)


# --- where inputs lie


def test_share_outside_of_one_layer() -> None:
    x = sample("linear", count=4000)
    assert share_outside(build(domain=(-1.0, 1.0)), x) == pytest.approx(float((x.abs() > 1).float().mean()))
    assert share_outside(build(domain=(-1.0, 1.0), basis_kwargs={"squash": "clamp"}), x) > 0.3
    assert share_outside(build(domain=(-1.0, 1.0), input_norm="minmax"), x) == 0
    with pytest.raises(ValueError, match="whole line"):
        share_outside(KANLinear(6, 2, "wavelet"), x)


def test_sites_are_where_there_is_an_outside() -> None:
    model = nn.ModuleDict(
        {
            "spline": build(),
            "clamped": build(basis_kwargs={"squash": "clamp"}),
            "squashed": build(basis_kwargs={"squash": "tanh"}),
            "relu": KANLinear(6, 2, "relu"),
            "wavelet": KANLinear(6, 2, "wavelet"),
            "plain": nn.Linear(6, 2),
            "adapted": add_adapters(build(), adapter_rank=1),
        }
    )
    assert {site.name: site.movable for site in grid_sites(model)} == {
        "spline": True,
        "clamped": True,
        "relu": False,
        "adapted": False,
    }


# --- more functions


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


def test_the_map_of_weights_by_loops() -> None:
    matrix = torch.randn(4, 3, 2)
    weight = torch.randn(6, 2 * 2, 3, 1)  # two groups of two channels, two functions
    mapped = map_functions(weight, matrix, 2).view(6, 2, 3, 3, 1)
    for output in range(6):
        for channel in range(2):
            kernel = weight.view(6, 2, 2, 3, 1)[output, channel].flatten(1)
            expected = matrix[output // 3 * 2 + channel] @ kernel
            torch.testing.assert_close(mapped[output, channel].flatten(1), expected)


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
    restore_structure(fresh, structure_of(model))
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
