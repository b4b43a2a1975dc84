"""Contract of a basis."""

from __future__ import annotations

import torch

from kanvision.bases import BASES, create_basis
from kanvision.layers import KANConv2d, KANLinear


def test_shapes_and_types(basis_name: str) -> None:
    """Values have the functions after the channels, the type of the input, and are finite."""
    basis = create_basis(basis_name)
    assert BASES[basis_name].name == basis_name
    for dtype in (torch.float32, torch.float64):
        values = basis(torch.linspace(-1, 1, 24, dtype=dtype).reshape(2, 3, 4), channel_dim=1)
        assert values.shape == (2, 3, basis.num_basis, 4)
        assert values.dtype == dtype
        assert values.isfinite().all()


def test_gradients(basis_name: str) -> None:
    """Derivatives are those of the values, in float64."""
    basis = create_basis(basis_name).double()
    low, high = basis.domain or (-1.0, 1.0)
    generator = torch.Generator().manual_seed(0)
    x = low + (high - low) * (0.05 + 0.9 * torch.rand(2, 5, dtype=torch.float64, generator=generator))
    assert torch.autograd.gradcheck(basis, (x.requires_grad_(),))


def test_state_and_reset(basis_name: str) -> None:
    """A basis that is built without memory is filled by `reset_parameters`, and its state can be loaded."""
    basis, other = create_basis(basis_name), create_basis(basis_name)
    x = torch.linspace(-1, 1, 7)[:, None]
    with torch.device("meta"):
        empty = create_basis(basis_name)
    empty = empty.to_empty(device="cpu")
    empty.reset_parameters()
    assert all(value.isfinite().all() for value in empty.state_dict().values())
    other.load_state_dict(basis.state_dict())
    torch.testing.assert_close(other(x), basis(x))


def test_layers(basis_name: str) -> None:
    """Layers over the basis train."""
    for layer, x in (
        (KANLinear(4, 3, basis=basis_name), torch.randn(5, 4)),
        (KANConv2d(4, 3, 3, padding=1, basis=basis_name), torch.randn(2, 4, 6, 6)),
    ):
        layer(x).square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
