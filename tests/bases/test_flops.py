"""What a basis says that it costs, against the arithmetic that torch is asked for, and written numbers."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kanvision.bases import BASES, create_basis
from kanvision.layers import EdgeWaveletConv2d, GroupRational

# they move numbers
NO_ARITHMETIC = {
    *("empty", "new_empty", "zeros_like", "ones_like", "new_zeros", "full_like", "fill_", "copy_"),
    *("_to_copy", "stack", "cat", "clone", "scatter_add_", "masked_fill", "where", "unbind", "view"),
    *("unsqueeze", "select", "expand", "alias", "detach", "split", "permute", "narrow", "slice", "squeeze"),
}
CASES = [
    *((name, {}) for name in BASES),
    *(("bspline", {"evaluation": way}) for way in ("folded", "local", "matrix", "cox_de_boor")),
    *(("wavelet", {"kind": kind}) for kind in ("morlet", "dog", "meyer", "shannon")),
    ("bspline", {"grid_size": 30}),
    ("bspline", {"degree": 5, "squash": "tanh", "grid_range": (-2.0, 2.0)}),
    ("chebyshev", {"degree": 9}),
    ("gram", {"degree": 0}),
    ("rational", {"squash": "sigmoid"}),
]


class Arithmetic(TorchDispatchMode):
    """Counts elements that elementwise operations put out as floating-point numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.__name__.partition(".")[0]
        if isinstance(result, torch.Tensor) and result.is_floating_point() and name not in NO_ARITHMETIC:
            self.count += result.numel()
        return result


@pytest.mark.parametrize(("name", "kwargs"), CASES)
def test_operations_are_those_that_run(name, kwargs):
    basis = create_basis(name, num_channels=4, **kwargs)
    x = torch.randn(500, 4)
    with torch.no_grad(), Arithmetic() as arithmetic:
        basis(x, channel_dim=1)
    counted = arithmetic.count / x.numel()
    assert isinstance(basis.flops_per_input, int)
    assert basis.flops_per_input == pytest.approx(counted, rel=0.45, abs=0.5)


def test_written_numbers_of_cubic_splines():
    """The usual grid of five cells: 7 operations a function by recursion, 13 by folded powers."""
    found = {
        way: create_basis("bspline", evaluation=way).flops_per_input for way in ("folded", "cox_de_boor")
    }
    assert found == {"folded": 2 + 8 * 13, "cox_de_boor": 202}
    assert create_basis("bspline").flops_per_input == found["folded"]
    knots = [float(i) for i in range(12)]
    assert create_basis("bspline", knots=knots).flops_per_input == found["cox_de_boor"]


@pytest.mark.parametrize(("squash", "more"), [("tanh", 3), ("sigmoid", 3), ("clamp", 2), (None, 0)])
def test_the_domain_policy_counts(squash, more):
    plain = create_basis("rbf").flops_per_input
    assert create_basis("rbf", squash=squash).flops_per_input == plain + more


def test_layers_with_functions_of_their_own():
    assert GroupRational(8).flops_per_input == 2 * 5 + 2 * 4 + 2
    layer = EdgeWaveletConv2d(4, 6, 3, groups=2)
    assert layer.flops_per_input == 3 * create_basis("wavelet").flops_per_input
