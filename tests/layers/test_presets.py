"""Published layers: storage and forward equations."""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy.interpolate import BSpline

from kanvision.layers import (
    PRESETS,
    KANConv1d,
    KANConv2d,
    KANConv3d,
    KANLinear,
    find_default_preset,
    get_preset,
)

C, OUT, SIDE, DEGREE = 6, 4, 3, 3


def weights(k, n):
    return k**n * C * OUT


# Parameters without norms, from the formulas of the published layers at one group.
COUNTS = {
    "kan": lambda k, n: (1 + 5 + 3) * weights(k, n) + 1,
    "efficient_kan": lambda k, n: (2 + 5 + 3) * weights(k, n),
    "fastkan": lambda k, n: (1 + 8) * weights(k, n),
    "kaln": lambda k, n: (DEGREE + 2) * weights(k, n),
    "kajn": lambda k, n: (DEGREE + 2) * weights(k, n),
    "kabn": lambda k, n: (DEGREE + 2) * weights(k, n),
    "kacn": lambda k, n: (DEGREE + 1) * weights(k, n),
    "kagn": lambda k, n: (DEGREE + 2) * weights(k, n) + DEGREE + 1,
    "relukan": lambda k, n: (1 + 5 + 3) * weights(k, n) + 2 * C * (5 + 3),
    "wavkan": lambda k, n: 2 * weights(k, n) + 2 * C,
}


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize(("cls", "ndim"), [(KANConv1d, 1), (KANConv2d, 2), (KANConv3d, 3)])
def test_parameter_counts(name, cls, ndim):
    layer = cls(C, OUT, SIDE, **get_preset(name))
    own = [value for key, value in layer.named_parameters() if not key.startswith(("norm.", "input_norm."))]
    assert sum(value.numel() for value in own) == COUNTS[name](SIDE, ndim)
    assert all(value.requires_grad for value in own)


def instance_norm(y):
    flat = y.flatten(2)
    mean, var = flat.mean(2), flat.var(2, unbiased=False)
    return (y - mean[..., None, None]) / (var + 1e-5).sqrt()[..., None, None]


def prelu(y):
    return torch.where(y > 0, y, 0.25 * y)


def gelu(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def stack(*maps):
    return torch.stack(maps, 2)  # (B, C, K, H, W)


def splines(x):
    t = [-2.2 + 0.4 * i for i in range(12)]
    elements = [BSpline.basis_element(t[j : j + 5], extrapolate=False) for j in range(8)]
    return stack(*(torch.from_numpy(e(x.detach().numpy())).nan_to_num() for e in elements))


def minmax(x):
    low, high = (f(x.flatten(1), 1).view(-1, 1, 1, 1) for f in (torch.amin, torch.amax))
    return 2 * (x - low) / (high - low) - 1


def published(name, layer, x):
    """The layer's equation, written out; `base` and `maps` are what the two weights see."""
    z = torch.tanh(x)
    if name == "kan":
        return gelu(x), splines(x), lambda y: prelu(instance_norm(y))
    if name == "efficient_kan":
        return F.silu(x), splines(x), lambda y: y
    if name.startswith("fastkan"):
        c = torch.linspace(-2, 2, 8, dtype=x.dtype).view(1, 1, 8, 1, 1)
        u = instance_norm(x) if name == "fastkan" else x
        return F.silu(x), torch.exp(-(((u.unsqueeze(2) - c) / (4 / 7)) ** 2)), lambda y: y
    if name == "kaln":
        u = minmax(x)
        maps = stack(u**0, u, (3 * u**2 - 1) / 2, (5 * u**3 - 3 * u) / 2)
        return x, maps, lambda y: F.silu(instance_norm(y))
    if name == "kacn":
        return None, stack(*(torch.cos(j * torch.acos(z)) for j in range(4))), instance_norm
    if name == "kagn":
        b2, b3 = layer.basis.beta.detach()[1:-1] * torch.tensor([2.25, 300 / 9], dtype=x.dtype)
        p2 = z * z - b2
        return F.silu(x), F.silu(stack(z**0, z, p2, z * p2 - b3 * z)), lambda y: F.silu(instance_norm(y))
    if name == "kajn":
        p2 = (15 * z**2 - 3) / 4
        return x, stack(z**0, 2 * z, p2, 7 * z**3 - 3 * z), lambda y: F.silu(instance_norm(y))
    if name == "kabn":
        s = torch.sigmoid(x)
        return (
            x,
            stack(*(math.comb(3, j) * s**j * (1 - s) ** (3 - j) for j in range(4))),
            lambda y: F.silu(instance_norm(y)),
        )
    if name == "wavkan":
        wave = 2 / (math.sqrt(3) * math.pi**0.25) * (x**2 - 1) * torch.exp(-(x**2) / 2)
        return (
            F.silu(x),
            stack(wave),
            lambda y: (
                (y - y.mean((0, 2, 3), True)) / (y.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
            ),
        )
    low = [(j - 3) / 5 for j in range(8)]
    maps = stack(*((25 / 4 * F.relu(x - a) * F.relu(a + 0.8 - x)) ** 2 for a in low))
    return F.silu(x), maps, lambda y: F.silu(instance_norm(y))


@pytest.mark.parametrize("name", PRESETS)
def test_forward_equation(name):
    torch.manual_seed(0)
    layer = KANConv2d(C, OUT, 3, padding=1, stride=2, **get_preset(name)).double()
    x = torch.randn(3, C, 7, 7, dtype=torch.float64)
    base, maps, finish = published(name, layer, x)
    weight = layer.basis_weight
    if layer.edge_scale is not None:
        weight = weight * layer.edge_scale.repeat_interleave(8, dim=1)
    y = F.conv2d(maps.flatten(1, 2), weight, stride=2, padding=1)
    if base is not None:
        y = y + F.conv2d(base, layer.base_weight, stride=2, padding=1)
    # Constants such as knots are kept in float32.
    torch.testing.assert_close(layer(x), finish(y), atol=5e-6, rtol=5e-6)


def layer_norm(y):
    return (y - y.mean(1, True)) / (y.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()


def batch_norm(y):
    return (y - y.mean(0)) / (y.var(0, unbiased=False) + 1e-5).sqrt()


# Activation of the base branch and what follows the sum, of the published fully connected layers.
LINEAR = {
    "kan": (gelu, lambda y: prelu(layer_norm(y))),
    "efficient_kan": (F.silu, lambda y: y),
    "fastkan": (F.silu, lambda y: y),
    "kacn": (None, lambda y: y),
    "wavkan": (F.silu, batch_norm),
    "relukan": (None, lambda y: y),
} | {name: (F.silu, lambda y: F.silu(layer_norm(y))) for name in ("kaln", "kagn", "kajn", "kabn")}


@pytest.mark.parametrize("name", PRESETS)
def test_linear_equation_and_training(name):
    torch.manual_seed(0)
    layer = KANLinear(C, OUT, **get_preset(name, linear=True)).double()
    x = torch.randn(5, C, dtype=torch.float64)
    base, finish = LINEAR[name]
    seen = layer_norm(x) if name == "fastkan" else x
    form = "fastkan without norm" if name == "fastkan" else name
    _, maps, _ = published(form, layer, seen[..., None, None])
    scale = 1 if layer.edge_scale is None else layer.edge_scale.repeat_interleave(8, dim=1)
    y = maps.flatten(1) @ (layer.basis_weight * scale).T
    if base is not None:
        y = y + base(x) @ layer.base_weight.T
    if layer.bias is not None:
        with torch.no_grad():
            layer.bias.normal_()
        y = y + layer.bias
    assert (layer.bias is not None) == (name in {"fastkan", "relukan"})
    got = layer(x)
    torch.testing.assert_close(got, finish(y), atol=5e-6, rtol=5e-6)
    got.square().sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


@pytest.mark.parametrize("name", PRESETS)
def test_linear_outputs_do_not_depend_on_batch_mates(name):
    torch.manual_seed(0)
    layer = KANLinear(C, OUT, **get_preset(name, linear=True)).eval()
    x = torch.randn(4, 3, C)
    torch.testing.assert_close(layer(x)[:1], layer(x[:1]))


@pytest.mark.parametrize("name", PRESETS)
def test_outputs_do_not_depend_on_batch_mates(name):
    torch.manual_seed(0)
    layer = KANConv2d(C, OUT, 3, **get_preset(name)).eval()
    x = torch.randn(4, C, 6, 6)
    torch.testing.assert_close(layer(x)[:1], layer(x[:1]))


def test_preset_overrides():
    options = get_preset("kagn", norm="batch", basis_kwargs={"degree": 5})
    assert options["norm"] == "batch"
    assert options["basis_kwargs"] == {"degree": 5, "parity": True}
    options["basis_kwargs"]["degree"] = 7
    assert PRESETS["kagn"]["basis_kwargs"]["degree"] == 3
    other = get_preset("kagn", basis="rbf")
    assert other["basis_kwargs"] == {}
    assert other["act"] == "silu"
    assert get_preset("kagn", basis="rbf", basis_kwargs={"num_centers": 4})["basis_kwargs"] == {
        "num_centers": 4
    }
    with pytest.raises(ValueError, match=r"preset='kann'.*kan, fastkan"):
        get_preset("kann")
    assert find_default_preset("gram") == "kagn"
    assert find_default_preset("fourier") is None
