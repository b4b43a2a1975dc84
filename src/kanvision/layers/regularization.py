"""Penalties on the weights and the outputs of KAN layers, as terms of the training loss.

Shapes: B batch, O outputs, C input channels of a group, K basis functions, *k kernel. An edge is one
(output, input, tap) with its K coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .auxiliary_loss import add_auxiliary
from .base import KANLayer
from .bottleneck import BottleneckKANConvNd, BottleneckKANLinear
from .moe import MoEKANConvNd

__all__ = ["KANPenalty", "entropy", "group_lasso", "smoothness", "weight_l1", "weight_l2"]

_BOTTLENECKS = (BottleneckKANConvNd, BottleneckKANLinear)
_LAYERS = (KANLayer, *_BOTTLENECKS, MoEKANConvNd)


def weight_l1(model: nn.Module) -> Tensor:
    """Return the sum of |w| over base and basis weights of KAN layers and over projections of bottlenecks."""
    return _sum(model, (w.abs().sum() for w in _weights(model)))


def weight_l2(model: nn.Module) -> Tensor:
    """Return the sum of w^2 over the weights of `weight_l1`."""
    return _sum(model, (w.square().sum() for w in _weights(model)))


def entropy(model: nn.Module) -> Tensor:
    """Return the sum over layers of -sum_e p_e log p_e, p_e = m_e / sum m, m_e the mean |w| of edge e.

    The weight-only surrogate of efficient-kan for the entropy of Liu et al. 2024 (arXiv 2404.19756): little
    for few strong edges. Edges and layers that are exactly zero count as 0.
    """
    return _sum(model, (_entropy(edges) for edges in _edges(model)))


def group_lasso(model: nn.Module) -> Tensor:
    """Return the sum over edges of sqrt(sum_j w_j^2), which drives whole edges to zero."""
    return _sum(model, (torch.linalg.vector_norm(edges, dim=2).sum() for edges in _edges(model)))


def smoothness(model: nn.Module) -> Tensor:
    """Return the sum over edges of sum_j (w_{j+1} - 2 w_j + w_{j-1})^2, for bases with ordered functions.

    That is splines and radial functions. Of polynomials it compares coefficients that mean different things.
    """
    bends = (edges.diff(n=2, dim=2) for edges in _edges(model) if edges.shape[2] > 2)
    return _sum(model, (bend.square().sum() for bend in bends))


_TERMS: dict[str, Callable[[nn.Module], Tensor]] = {
    "weight_l1": weight_l1,
    "weight_l2": weight_l2,
    "entropy": entropy,
    "group_lasso": group_lasso,
    "smoothness": smoothness,
}


class KANPenalty:
    """Weighted sum of penalties of a model.

    A call returns the weight terms. Activation terms are computed in the forward pass, in training only, and
    passed to `kanvision.layers.add_auxiliary`: means over samples and positions of |y| and y^2 of the output
    y of every KAN layer (of a bottleneck or a mixture as a whole), summed over layers, so that they do not
    depend on the batch size. No outputs are saved, and with both coefficients 0 there are no hooks::

        penalty = KANPenalty(model, weight_l1=1e-5, activation_l1=1e-6)
        with collect_auxiliary() as auxiliary:
            loss = criterion(model(images), target)
        loss = loss + sum(auxiliary) + penalty()

    The published L1 penalty (Drokin 2024, arXiv 2407.01092) has no effect, because it adds to missing
    gradients; the published activation penalties grow with the batch.

    Args:
        model: Network.
        weight_l1: Coefficient of the function `weight_l1`.
        weight_l2: Coefficient of the function `weight_l2`.
        entropy: Coefficient of the function `entropy`.
        group_lasso: Coefficient of the function `group_lasso`.
        smoothness: Coefficient of the function `smoothness`.
        activation_l1: Coefficient of the mean |y|.
        activation_l2: Coefficient of the mean y^2.

    Raises:
        ValueError: A coefficient is negative or not finite, or not 0 and the model has no KAN layers.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        weight_l1: float = 0.0,
        weight_l2: float = 0.0,
        entropy: float = 0.0,
        group_lasso: float = 0.0,
        smoothness: float = 0.0,
        activation_l1: float = 0.0,
        activation_l2: float = 0.0,
    ) -> None:
        weights = {
            "weight_l1": weight_l1,
            "weight_l2": weight_l2,
            "entropy": entropy,
            "group_lasso": group_lasso,
            "smoothness": smoothness,
        }
        activations = {"activation_l1": activation_l1, "activation_l2": activation_l2}
        layers = list({id(layer): layer for layer in _outermost(model)}.values())  # each once
        for key, value in {**weights, **activations}.items():
            if not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{key}={value} must be a number of at least 0")
            if value and not layers:
                raise ValueError(f"{key}={value}: {type(model).__name__} has no KAN layers; legal: 0")
        self.model = model
        self.coefficients = {name: value for name, value in weights.items() if value}
        self._handles = []
        if activation_l1 or activation_l2:
            hook = _ActivationPenalty(activation_l1, activation_l2)
            self._handles = [layer.register_forward_hook(hook) for layer in layers]

    def __call__(self) -> Tensor:
        """Return the sum of the weight penalties, a scalar."""
        terms = (value * _TERMS[name](self.model) for name, value in self.coefficients.items())
        return _sum(self.model, terms)

    def remove(self) -> None:
        """Remove the activation penalties from the model."""
        for handle in self._handles:
            handle.remove()
        self._handles = []


class _ActivationPenalty:
    """Forward hook without state, which copies of a model can share."""

    def __init__(self, l1: float, l2: float) -> None:
        self.l1 = l1
        self.l2 = l2

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> None:
        # Also without a collector: a second pass of activation checkpointing must repeat the first one.
        if not module.training or not torch.is_grad_enabled() or not output.numel():
            return
        y = _exact(output)
        loss = y.new_zeros(())
        if self.l1:
            loss = loss + self.l1 * y.abs().mean()
        if self.l2:
            loss = loss + self.l2 * y.square().mean()
        add_auxiliary(loss)


def _outermost(module: nn.Module) -> Iterator[nn.Module]:
    """Return the KAN layers that are not part of another KAN layer."""
    if isinstance(module, _LAYERS):
        yield module
        return
    for child in module.children():
        yield from _outermost(child)


def _weights(model: nn.Module) -> Iterator[Tensor]:
    """Return the weights of the linear maps of all KAN layers."""
    for module in model.modules():
        tensors: list[Tensor | None] = []
        if isinstance(module, KANLayer):
            tensors = [module.edge_weight(), module.base_map()]
        elif isinstance(module, _BOTTLENECKS):
            tensors = [module.base_weight]
            tensors += [getattr(part, "weight", None) for part in (module.squeeze, module.expand)]
        yield from (_exact(tensor) for tensor in tensors if tensor is not None)


def _edges(model: nn.Module) -> Iterator[Tensor]:
    """Return the basis weights (O, C, K, *k) of each layer."""
    for module in model.modules():
        if isinstance(module, KANLayer):
            yield _exact(module._by_function(module.edge_weight()))


def _entropy(edges: Tensor) -> Tensor:
    size = edges.abs().mean(2)
    total = size.sum()
    share = size / (total + (total == 0))
    # At p = 0 the derivative of p log p is infinite and that of |w| is 0; the floor makes their product 0.
    minus: Tensor = torch.special.xlogy(share, share.clamp_min(torch.finfo(share.dtype).tiny)).sum()
    return -minus


def _exact(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _sum(model: nn.Module, terms: Iterator[Tensor]) -> Tensor:
    summands = list(terms)
    if summands:
        return torch.stack(summands).sum()
    return next((parameter.new_zeros(()) for parameter in model.parameters()), torch.zeros(()))
