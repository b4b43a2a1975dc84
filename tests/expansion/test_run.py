"""Linear maps of expanded inputs: layouts, blocks, memory, copies, derivatives."""

import copy
import pickle

import pytest
import torch
from torch import nn

from kanvision.bases import create_basis
from kanvision.expansion import branch, run
from kanvision.layers import KANConv2d, KANLinear


def step(layer, x):
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = layer(x)
    y.square().sum().backward()
    found = [y.detach(), x.grad, *(p.grad for p in layer.parameters())]
    layer.zero_grad()
    return found


LAYERS = {
    "conv": lambda basis: (
        KANConv2d(4, 6, 3, stride=2, padding=1, groups=2, basis=basis, bias=True),
        (5, 4, 6, 5),
    ),
    "conv_ungrouped": lambda basis: (KANConv2d(4, 6, 3, padding=1, basis=basis), (5, 4, 6, 5)),
    "linear": lambda basis: (KANLinear(4, 6, basis=basis, bias=True), (5, 3, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("basis", ["gram", "bspline", "wavelet"])
def test_blocks_and_layouts_change_nothing(name, basis, monkeypatch):
    """Blocks that mix up samples, or weights in the order of another layout."""
    torch.manual_seed(0)
    layer, shape = LAYERS[name](basis)
    x = torch.randn(shape)
    whole = step(layer, x)
    exact = [t.float() for t in step(copy.deepcopy(layer).double(), x.double())]
    monkeypatch.setattr(run, "_BLOCK_BYTES", 4)
    layouts = [x, x.transpose(-1, -2).contiguous().transpose(-1, -2)]
    if x.ndim == 4:
        layouts.append(x.to(memory_format=torch.channels_last))
    for other in layouts:
        for got, want, double in zip(step(layer, other), whole, exact, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5 * want.abs().max().item())
            torch.testing.assert_close(want, double, rtol=1e-4, atol=1e-5 * want.abs().max().item())


def test_modules_hold_no_libraries():
    """Pointers into a library cannot be copied: averages of weights, pickled models."""
    layer = KANConv2d(2, 2, 3, basis="gram")
    x = torch.randn(1, 2, 5, 5)
    want = layer(x)
    assert torch.equal(copy.deepcopy(layer)(x), want)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), want)


def test_statistics_and_dropout_are_not_run_again():
    """Only pure functions are computed again: another mask in the backward pass changes gradients."""
    torch.manual_seed(0)
    layer = KANConv2d(3, 3, 1, basis="gram", norm="batch", act="silu", input_norm="batch", drop_rate=0.5)
    x = torch.randn(4, 3, 5, 5, requires_grad=True)
    y = layer(x)
    torch.autograd.grad(y.sum(), x, retain_graph=True)
    y.sum().backward()
    for norm in layer.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.num_batches_tracked == 1


@pytest.mark.parametrize("kept", [torch.float32, torch.bfloat16])
def test_autocast(kept):
    layer = KANConv2d(3, 4, 3, padding=1, basis="gram")
    x = torch.randn(2, 3, 6, 6, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x.to(kept))
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in layer.parameters())
    torch.testing.assert_close(y.float(), layer(x), atol=0.05, rtol=0.05)


def test_an_input_changed_in_place_is_an_error():
    layer = KANLinear(3, 3, basis="rbf", base_act=None)
    x = torch.randn(4, 3, requires_grad=True) * 1
    y = layer(x)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_compiles_where_nothing_needs_a_gradient():
    """The first layer of a network: images need none, and most bases have no parameters."""
    torch._dynamo.reset()
    x = torch.randn(3, 4)
    for name in ("bspline", "legendre", "rbf"):
        basis = create_basis(name)
        torch.testing.assert_close(torch.compile(basis, backend="eager", fullgraph=True)(x), basis(x))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("basis", ["gram", "chebyshev", "bspline", "wavelet"])
@pytest.mark.parametrize("frozen", ["", "base_weight", "basis_weight"])
def test_small_branches_are_those_of_large_ones(name, basis, frozen, monkeypatch):
    """Weights joined in another order, a constant lost or counted twice, a gradient at another place."""
    torch.manual_seed(0)
    layer, shape = LAYERS[name](basis)
    if frozen:
        layer.get_parameter(frozen).requires_grad_(False)
    x = torch.randn(shape)
    merged = step(layer, x)
    assert count_branches(layer, x, monkeypatch) == [1]
    monkeypatch.setattr(branch, "_MERGE_UP_TO", 0)
    monkeypatch.setattr(branch, "_FOLD_FROM", 0)
    assert count_branches(layer, x, monkeypatch) == [2]
    for got, want in zip(merged, step(layer, x), strict=True):
        assert (got is None) == (want is None)
        if want is not None:
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5 * want.abs().max().item())


def count_branches(layer, x, monkeypatch):
    """Return the numbers of branches in one call."""
    counts = []
    walk = run._contract_blocks
    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(
            run, "_contract_blocks", lambda plan, *rest: counts.append(len(plan)) or walk(plan, *rest)
        )
        layer(x)
    return counts
