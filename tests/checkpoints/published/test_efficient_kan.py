"""Weights of efficient-kan, loaded, against its equation with B-splines of scipy."""

import pytest
import torch
import torch.nn.functional as F
from scipy.interpolate import BSpline

from kanvision.checkpoints import CheckpointError, load_official
from kanvision.layers import KANLinear

SOURCE = "efficient-kan"


def random_layer(inputs=4, outputs=3, cells=5, order=3, low=-1.0, high=1.0, scaler=True):
    step = (high - low) / cells
    knots = torch.arange(-order, cells + order + 1) * step + low  # in single precision, as there
    state = {
        "grid": knots.expand(inputs, -1).contiguous(),
        "base_weight": torch.randn(outputs, inputs),
        "spline_weight": torch.randn(outputs, inputs, cells + order),
    }
    return state | ({"spline_scaler": torch.randn(outputs, inputs)} if scaler else {})


def published(state, x, base=F.silu):
    grid, weight = state["grid"].double(), state["spline_weight"].double()
    degree = grid.shape[1] - 1 - weight.shape[2]
    points = x.double()
    y = base(points) @ state["base_weight"].double().T
    for i, knots in enumerate(grid):
        for j in range(weight.shape[2]):
            spline = BSpline.basis_element(knots[j : j + degree + 2].numpy(), extrapolate=False)
            value = torch.from_numpy(spline(points[:, i].numpy())).nan_to_num()
            scale = state["spline_scaler"][:, i].double() if "spline_scaler" in state else 1.0
            y = y + value.unsqueeze(1) * weight[:, i, j] * scale
    return y


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("scaler", [True, False])
@pytest.mark.parametrize(("cells", "order"), [(5, 3), (10, 3), (3, 2), (20, 1)])
@pytest.mark.parametrize("span", [(-1.0, 1.0), (0.0, 1.0), (-3.0, 0.5)])
def test_layers(span, cells, order, scaler):
    state = random_layer(cells=cells, order=order, low=span[0], high=span[1], scaler=scaler)
    layer = load_official(state, source=SOURCE)
    assert isinstance(layer, KANLinear)
    assert (layer.basis.num_cells, layer.basis.degree, layer.basis.uniform) == (cells, order, True)
    x = torch.linspace(-4, 4, 160).view(40, 4)
    with torch.no_grad():
        torch.testing.assert_close(layer(x).double(), published(state, x), atol=2e-5, rtol=1e-5)
        # double precision from here on, of knots that single precision has rounded
        exact = {name: value.double() for name, value in state.items()}
        y = load_official(exact, source=SOURCE)(x.double())
        torch.testing.assert_close(y, published(state, x), atol=2e-5, rtol=1e-5)


def test_stacks_and_other_activations():
    first, second = random_layer(4, 5), random_layer(5, 2)
    state = {f"layers.0.{k}": v for k, v in first.items()} | {f"layers.1.{k}": v for k, v in second.items()}
    x = torch.randn(6, 4)
    with torch.no_grad():
        want = published(second, published(first, x))
        torch.testing.assert_close(
            load_official(state, source=SOURCE)(x).double(), want, atol=2e-4, rtol=1e-4
        )
        y = load_official(first, source=SOURCE, base_act="gelu")(x).double()
        torch.testing.assert_close(y, published(first, x, F.gelu), atol=2e-5, rtol=1e-5)


def test_knots_that_are_not_equidistant():
    state = {name: value.double() for name, value in random_layer().items()}
    knots = torch.tensor(
        [-2.0, -1.7, -1.2, -1.0, -0.5, -0.4, 0.1, 0.7, 1.0, 1.1, 1.5, 2.1], dtype=torch.float64
    )
    state["grid"] = knots.expand(4, -1).contiguous()
    layer = load_official(state, source=SOURCE)
    assert not layer.basis.uniform
    x = torch.linspace(-2.5, 2.5, 160, dtype=torch.float64).view(40, 4)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), published(state, x), atol=1e-9, rtol=1e-9)


def test_knots_of_their_own_are_refused():
    state = random_layer()
    state["grid"] = state["grid"].clone()
    state["grid"][2] += 0.1
    with pytest.raises(
        CheckpointError, match=r"layers.0.grid: 1 of 4 features have other knots.*update_grid"
    ):
        load_official({f"layers.0.{name}": value for name, value in state.items()}, source=SOURCE)


def test_damage_is_refused_with_every_name():
    first, second = random_layer(4, 5), random_layer(5, 2)
    state = {f"layers.0.{k}": v for k, v in first.items()} | {f"layers.1.{k}": v for k, v in second.items()}
    del state["layers.0.base_weight"]
    state |= {
        "layers.1.spline_scaler": torch.zeros(2),
        "layers.1.alien": torch.zeros(2),
        "stranger": torch.zeros(2),
    }
    with pytest.raises(CheckpointError) as refusal:
        load_official(state, source=SOURCE)
    message = str(refusal.value)
    assert "1 missing: layers.0.base_weight" in message
    assert "2 unexpected: layers.1.alien, stranger" in message
    assert "1 of another shape: layers.1.spline_scaler (2,), not (2, 5)" in message


@pytest.mark.parametrize("name", ["grid", "base_weight", "spline_weight", "spline_scaler"])
def test_no_tensor_of_an_odd_shape_passes(name):
    for shape in [(), (0,), (1,), (7,), (2, 2), (4, 11), (3, 4, 13), (2, 1, 1, 5)]:
        with pytest.raises(CheckpointError):
            load_official(random_layer() | {name: torch.zeros(shape)}, source=SOURCE)
    with pytest.raises(ValueError, match=r"grid_size=5: source='efficient-kan' has the options base_act"):
        load_official(random_layer(), source=SOURCE, grid_size=5)
