"""Small layers for the tests of adapters, and a training that moves everything far from its start."""

import itertools

import torch

from kanvision.layers import KANConv1d, KANConv2d, KANConv3d, KANLinear

LAYERS = {"linear": KANLinear, "1d": KANConv1d, "2d": KANConv2d, "3d": KANConv3d}
# The setups that were compared on HAM10000, on layers of degree 5.
SETUPS = list(itertools.product([0, 1, 2], [(), (5,), (4, 5), (2,), (3,)], [False, True]))
POLYNOMIALS = {
    "gram": {"degree": 5, "beta_std": 0.5},
    "chebyshev": {"degree": 5},
    "legendre": {"degree": 5},
    "jacobi": {"degree": 5, "alpha": 0.5},
}
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def make(kind="2d", basis="gram", groups=1, parity=False, **options):
    torch.manual_seed(0)
    kwargs = dict(POLYNOMIALS.get(basis, {}))
    if parity:  # large constants: a small beta, as published
        kwargs.update(parity=True, beta_std=0.01)
    options = {"basis_kwargs": kwargs, "basis_act": "silu", "dtype": torch.float64, **options}
    if kind == "linear":
        return KANLinear(4, 6, basis, **options)
    return LAYERS[kind](4, 6, 3, padding=1, groups=groups, basis=basis, **options)


def inputs(kind):
    torch.manual_seed(1)
    return torch.randn(2, 4, *[3] * (0 if kind == "linear" else int(kind[0])), dtype=torch.float64)


def train(model, x, steps=2):
    """Large steps, so that nothing is near its start."""
    torch.manual_seed(2)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        return
    optimizer = torch.optim.Adam(parameters, lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        y = model(x)
        (y * torch.randn_like(y)).sum().backward()
        for name, parameter in model.named_parameters():
            assert (parameter.grad is not None) is parameter.requires_grad, name
        optimizer.step()
