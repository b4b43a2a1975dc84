"""Batch norms of a network folded into the linear maps before them, for inference.

In evaluation a batch norm is y = s x + t for each channel, with s = weight / sqrt(running_var + eps) and
t = bias - s running_mean. After a linear map it is another linear map: W becomes s W, and the bias b becomes
s b + t. Zero padding changes nothing, because the norm follows it. A norm stays where this algebra has no
place: before the functions of a layer (`input_norm`: f(s x + t) is another function than f, and the base
branch has the input without norm), before an activation in front of the next map (transitions of DenseKANet),
and where statistics are those of the input (layer, group, instance, min-max).
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .base import KANLayer
from .bottleneck import Bottleneck
from .edge_wavelet import EdgeWavelets
from .norm import TokenNorm
from .structure import change_structure, structural_change

__all__ = ["fuse_norms"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def fuse_norms(model: nn.Module) -> list[str]:
    """Fold batch norms into the KAN layers and convolutions before them.

    Outputs of evaluation are unchanged up to rounding. The changes are recorded with the model, so that
    checkpoints of the fused network can be loaded.

    Args:
        model: Network in evaluation mode, which is changed in place.

    Returns:
        Names of the batch norms that stay.

    Raises:
        ValueError: The model is in training mode, or a layer has adapters.
    """
    if model.training:
        raise ValueError("the norms of a network in training mode use its batches; call eval() first")
    for name in [name for name, module in model.named_modules() if _find_norms(module)]:
        change_structure(model, "fuse_norms", name)
    return [name for name, module in model.named_modules() if isinstance(module, _BatchNorm)]


@structural_change("fuse_norms")
def _fuse(model: nn.Module, layer: str) -> None:
    module = model.get_submodule(layer)
    pairs = _find_norms(module)
    if not pairs:
        raise ValueError(f"layer={layer!r} has no batch norm after a linear map")
    for target, name in pairs:
        _fold(target, _get_batch_norm(module.get_submodule(name)))
        module.set_submodule(name, nn.Identity())


def _find_norms(module: nn.Module) -> list[tuple[nn.Module, str]]:
    """Return the linear maps whose batch norms are children of a module, with the names of the norms."""
    pairs: list[tuple[nn.Module, str]] = []
    if isinstance(module, KANLayer) or (isinstance(module, Bottleneck) and not module.merged):
        pairs = [(module, "norm")]
    elif isinstance(module, nn.Sequential):
        children = list(module.named_children())
        pairs = [(before, name) for (_, before), (name, _) in pairwise(children)]
        pairs = [pair for pair in pairs if isinstance(pair[0], _CONVOLUTIONS)]
    elif getattr(module, "is_norm_after_conv", False):
        pairs = [(module.get_submodule("conv"), "norm")]
    return [pair for pair in pairs if _get_batch_norm(module.get_submodule(pair[1])) is not None]


def _get_batch_norm(norm: nn.Module) -> _BatchNorm | None:
    """Return the batch norm, or the one for tokens; None for other norms and for one without statistics."""
    inner = norm.norm if isinstance(norm, TokenNorm) else norm
    return inner if isinstance(inner, _BatchNorm) and inner.running_var is not None else None


@torch.no_grad()
def _fold(target: nn.Module, norm: _BatchNorm | None) -> None:
    """Scale and shift the outputs of a linear map, a KAN layer or a bottleneck layer as a norm does."""
    assert norm is not None
    mean, variance = cast(Tensor, norm.running_mean).double(), cast(Tensor, norm.running_var).double()
    scale = (variance + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -scale * mean if norm.bias is None else norm.bias.double() - scale * mean
    owner = target.expand if isinstance(target, Bottleneck) else target
    weights = [getattr(target, "base_weight", None), _get_weight(target, owner)]
    for weight in weights:
        if weight is not None:
            weight.copy_(weight.double() * scale.view(-1, *(1,) * (weight.ndim - 1)))
    if owner.bias is not None:
        shift = shift + scale * cast(Tensor, owner.bias).double()
    owner.bias = nn.Parameter(shift.to(cast(Tensor, weights[1]).dtype))


def _get_weight(target: nn.Module, owner: nn.Module) -> nn.Parameter:
    """Return the weights that make the outputs of the basis branch, or of a plain map."""
    if isinstance(target, EdgeWavelets):
        return target.mix_weight
    if isinstance(target, KANLayer):
        if type(target).edge_weight is not KANLayer.edge_weight:
            raise ValueError("this layer has adapters; call merge_adapters on it first")
        return target.basis_weight
    return cast(nn.Parameter, owner.weight)
