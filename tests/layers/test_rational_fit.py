"""Fits of the rational to activations: how good they are, and what is refused."""

import pytest
import torch
import torch.nn.functional as F
from timm.layers import get_act_layer
from torch import nn

from kanvision.layers import RATIONAL_PRESETS, GroupRational, fit_rational
from kanvision.ops.rational import rational

# (activation, largest |F - f| / (.1 + |x|) for |x| <= 10, largest |F - f| for |x| <= 3)
ACTIVATIONS = {
    "gelu": (nn.GELU(), 2.6e-3, 7e-3),
    "gelu_tanh": (nn.GELU("tanh"), 2.6e-3, 7e-3),
    "silu": (nn.SiLU(), 4e-4, 1.2e-3),
    "quick_gelu": (get_act_layer("quick_gelu")(), 2.3e-3, 6e-3),
    "mish": (nn.Mish(), 3.5e-3, 8e-3),
    "tanh": (nn.Tanh(), 2.2e-4, 6e-4),
    "sigmoid": (nn.Sigmoid(), 5e-6, 1.5e-5),
    "softplus": (nn.Softplus(), 5e-4, 1.5e-3),
    "elu": (nn.ELU(), 2.2e-3, 7e-3),
    # functions with a kink, which the form has nowhere but at zero, and only together with its even part
    "relu": (nn.ReLU(inplace=True), 8e-2, 0.1),
    "leaky_relu": (nn.LeakyReLU(0.1), 7e-2, 0.1),
    "identity": (nn.Identity(), 1e-12, 1e-12),
    "rational": (lambda x: (1 + x + 2 * x**3) / (1 + x.abs() / 2 + x**2 + x**4 / 10), 1e-10, 1e-10),
}


def values(fit, x):
    numerator, denominator = (torch.tensor([row], dtype=torch.float64) for row in fit[:2])
    return rational(x[:, None], numerator, denominator)[:, 0]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_it_is_close_everywhere(name):
    function, relative, absolute = ACTIVATIONS[name]
    fit = fit_rational(function)
    x = torch.linspace(-10, 10, 4001, dtype=torch.float64)
    error = (values(fit, x) - function(x.clone())).abs()
    assert (error / (0.1 + x.abs())).max() <= relative
    assert error[x.abs() <= 3].max() <= absolute
    assert (error / (0.1 + x.abs())).max() <= 1.3 * fit.error + 1e-14  # between the points it is no worse
    assert min(fit.denominator) >= 0


def test_a_fit_holds_where_the_preset_does_not():
    """The preset is fitted on [-3, 3]; inputs of 6 are common in trained transformers."""
    x = torch.tensor([-6.0, 6.0], dtype=torch.float64)
    preset = (values(RATIONAL_PRESETS["gelu"], x) - F.gelu(x)).abs().max()
    fitted = (values(fit_rational(F.gelu), x) - F.gelu(x)).abs().max()
    assert preset > 0.2
    assert fitted < 0.01


def test_the_same_again_whatever_the_seed():
    torch.manual_seed(0)
    first = fit_rational(F.gelu)
    torch.manual_seed(1)
    assert fit_rational(F.gelu) == first


def test_a_short_interval_is_met_better():
    x = torch.linspace(-2, 2, 401, dtype=torch.float64)
    near, far = ((values(fit_rational(F.gelu, limit), x) - F.gelu(x)).abs().max() for limit in (2.0, 10.0))
    assert near < 0.5 * far


@pytest.mark.parametrize(
    ("function", "limit", "message"),
    [
        (nn.Softmax(dim=-1), 10.0, r"Softmax\(dim=-1\) is not elementwise"),
        (nn.GLU(), 10.0, r"GLU\(dim=-1\) does not take a vector of torch.float64 values: .* even"),
        (lambda x: x.sum(), 10.0, "is not elementwise"),
        (torch.log, 10.0, r"not finite between -10 and 10"),
        (F.gelu, 0.0, "limit=0.0 must be positive"),
        (F.gelu, float("nan"), "limit=nan must be positive"),
    ],
)
def test_refusals(function, limit, message):
    with pytest.raises(ValueError, match=message):
        fit_rational(function, limit)
    if limit == 10.0:
        layer = GroupRational(8)
        with pytest.raises(ValueError, match=message):
            layer.imitate(function)
        assert torch.equal(layer(torch.ones(1, 8)), torch.ones(1, 8))  # untouched
