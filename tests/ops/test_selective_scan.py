"""The scan against the recurrence token by token, its derivatives, and what it keeps for them."""

import pytest
import torch

from kanvision.ops.selective_scan import selective_scan


def oracle(x, step, decay, write, read):
    """The formula as it is written: token after token, feature after feature, state after state."""
    batch, tokens, width = x.shape
    y = torch.zeros_like(x)
    for b in range(batch):
        for d in range(width):
            for s in range(decay.shape[1]):
                h = torch.zeros((), dtype=x.dtype)
                for n in range(tokens):
                    h = (
                        torch.exp(step[b, n, d] * decay[d, s]) * h
                        + step[b, n, d] * x[b, n, d] * write[b, n, s]
                    )
                    y[b, n, d] = y[b, n, d] + h * read[b, n, s]
    return y


def arguments(tokens=7, dtype=torch.float64, batch=2, width=3, states=2, seed=0):
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=draw, dtype=dtype)

    x, write, read = (
        normal(batch, tokens, width),
        normal(batch, tokens, states),
        normal(batch, tokens, states),
    )
    step, decay = normal(batch, tokens, width).exp(), -normal(width, states).exp()
    return tuple(tensor.requires_grad_() for tensor in (x, step, decay, write, read))


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 5, 64])
@pytest.mark.parametrize("tokens", [1, 2, 6, 11])
def test_values_are_those_of_the_recurrence(tokens, chunk_size):
    given = arguments(tokens)
    torch.testing.assert_close(selective_scan(*given, chunk_size=chunk_size), oracle(*given))


@pytest.mark.parametrize("chunk_size", [2, 64])
def test_derivatives_of_first_and_second_order(chunk_size):
    given = arguments(5, batch=1, width=2)

    def scan(*tensors):
        return selective_scan(*tensors, chunk_size=chunk_size)

    assert torch.autograd.gradcheck(scan, given)
    assert torch.autograd.gradgradcheck(scan, arguments(3, batch=1, width=1))


def test_gradients_are_those_of_the_recurrence():
    given = arguments(6)
    outputs = (selective_scan(*given, chunk_size=4), oracle(*given))
    ours, expected = (torch.autograd.grad(y.square().sum(), given) for y in outputs)
    for gradient, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(gradient, other)


def test_states_that_forget_at_once_and_never_do_not_overflow():
    """A quotient of cumulated products, the other way to do many tokens at once, is 0 / 0 here."""
    x, step, decay, write, read = (tensor.detach() for tensor in arguments(300, torch.float32))
    for far in (decay * 1e4, decay * 0):
        y = selective_scan(x, step, far, write, read)
        exact = selective_scan(*(tensor.double() for tensor in (x, step, far, write, read)), chunk_size=7)
        assert y.dtype == torch.float32
        torch.testing.assert_close(y.double(), exact, rtol=1e-4, atol=1e-3)


def test_half_types_are_computed_in_single_precision():
    given = [tensor.detach().to(torch.bfloat16) for tensor in arguments(100)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = selective_scan(*given)
    assert y.dtype == torch.bfloat16
    exact = selective_scan(*(tensor.float() for tensor in given))
    torch.testing.assert_close(y, exact.to(torch.bfloat16), rtol=0, atol=0)


def test_the_backward_pass_keeps_states_of_ends_of_chunks_only():
    def kept(chunk_size):
        sizes: dict[int, int] = {}
        given = arguments(256, torch.float32, batch=1, width=4, states=16)
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda t: sizes.update({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()}) or t,
            lambda t: t,
        )
        with hooks:
            y = selective_scan(*given, chunk_size=chunk_size)
        assert y.requires_grad
        return sum(sizes.values())

    assert kept(32) < kept(256) / 10


def test_an_empty_chunk_is_refused():
    with pytest.raises(ValueError, match="chunk_size=0 must be at least 1"):
        selective_scan(*arguments(2), chunk_size=0)
