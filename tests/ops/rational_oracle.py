"""Coefficients, values and gradients of the group rational, and the size of their rounding errors."""

import torch

from kanvision.layers import RATIONAL_PRESETS


def coefficients(preset="swish", groups=2, shared=True, dtype=torch.float32, noise=0.0):
    a, b = (torch.tensor(c, dtype=dtype) for c in RATIONAL_PRESETS[preset])
    numerator = a.expand(1 if shared else groups, -1)
    denominator = b.expand(groups, -1)
    return tuple(c + noise * torch.randn(c.shape, dtype=dtype) for c in (numerator, denominator))


def value_and_grads(function, x, numerator, denominator, grad, dim=-1, form="kernel"):
    leaves = [t.detach().clone().requires_grad_() for t in (x, numerator, denominator)]
    y = function(*leaves, dim, form)
    return y.detach(), *torch.autograd.grad(y, leaves, grad)


def sums_of_magnitudes(x, grad, numerator, denominator):
    """Per coefficient, the sum of |terms| that its gradient adds up: what rounding errors are relative to."""
    x, grad, a, b = (t.double() for t in (x, grad, numerator, denominator))
    groups = max(len(a), len(b))
    x, grad = (t.reshape(-1, groups, t.shape[-1] // groups).abs() for t in (x, grad))
    q = 1 + sum(b[:, j, None].abs() * x ** (j + 1) for j in range(b.shape[1]))
    y = sum(a[:, i, None].abs() * x**i for i in range(a.shape[1])) / q
    da = torch.stack([(grad * x**i / q).sum((0, 2)) for i in range(a.shape[1])], -1)
    db = torch.stack([(grad * y * x ** (j + 1) / q).sum((0, 2)) for j in range(b.shape[1])], -1)
    return (da.sum(0, keepdim=True) if len(a) == 1 else da), db
