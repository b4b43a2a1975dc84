"""What is common to all operations that keep their inputs only."""

import torch

from kanvision.bases import create_basis


def test_compiles_where_nothing_needs_a_gradient():
    """The first layer of a network: images need none, and most bases have no parameters."""
    torch._dynamo.reset()
    x = torch.randn(3, 4)
    for name in ("bspline", "legendre", "rbf"):
        basis = create_basis(name)
        torch.testing.assert_close(torch.compile(basis, backend="eager", fullgraph=True)(x), basis(x))
