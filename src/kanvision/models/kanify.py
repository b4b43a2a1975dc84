"""Conversion of parts of any timm model to KAN layers that compute the same function at the start.

Legend: C channels in, H hidden width, O channels out, G groups.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from functools import partial
from math import gcd
from typing import Any, cast

import torch
from timm.layers import Attention
from timm.layers.mlp import ConvMlp, GlobalResponseNormMlp, Mlp
from timm.models.convit import MHSA
from timm.models.swin_transformer import WindowAttention
from torch import nn

from kanvision.bases import BASES
from kanvision.layers import (
    RATIONAL_PRESETS,
    GroupRationalMlp,
    KANConv1d,
    KANConv2d,
    KANConv3d,
    KArAttention,
    KArAtWindowAttention,
)

__all__ = ["ATTENTIONS", "MLPS", "kanify"]

MLPS = ("group_rational",)
"""Legal conversions of feed-forward blocks."""
ATTENTIONS = ("karat",)
"""Legal conversions of self-attention."""
_KAN_CONV: dict[type[nn.Module], Callable[..., Any]] = {
    nn.Conv1d: KANConv1d,
    nn.Conv2d: KANConv2d,
    nn.Conv3d: KANConv3d,
}
Conversion = Callable[[nn.Module], nn.Module | None]
"""Function that returns the replacement of a module, or None if it does not apply to the module."""


def kanify(
    model: nn.Module,
    *,
    mlp: str | None = None,
    attention: str | None = None,
    conv: str | None = None,
    attention_kwargs: Mapping[str, Any] | None = None,
    act_init: str | None = None,
    num_groups: int = 8,
    share_numerator: bool = True,
    match: str | None = None,
) -> nn.Module:
    """Convert feed-forward blocks, attention or convolutions of a network to KAN layers, keeping all weights.

    * `mlp="group_rational"`: timm's Mlp, ConvMlp and GlobalResponseNormMlp become `GroupRationalMlp`: a
      rational that starts as the identity, fc1, a rational that replaces the activation, fc2. The second
      rational starts as the best fit of the block's activation (GELU: error within 0.005 for |x| <= 6), so
      the function of the network is nearly unchanged; with `act_init` it starts as a preset. A ViT then has
      the parameter names of `kat_*`.
    * `conv=<basis>`: convolutions with kernels larger than 1 become KAN convolutions with the same geometry
      and groups. The weights move to the base branch, which has no activation, and the basis branch starts at
      zero, so the function is unchanged.
    * `attention="karat"`: timm's Attention, ConViT's plain attention and Swin's window attention become
      `KArAttention` with the same linear maps. The learned functions that replace the softmax are
      initialized, so the function changes.

    Blocks and convolutions of other classes (gated, weight-standardized) are not converted.

    Args:
        model: Network, which is changed in place.
        mlp: One of `MLPS`; None for no conversion.
        attention: One of `ATTENTIONS`, for a model with a fixed number of tokens; None for no conversion.
        conv: Short name of a basis (a key of `kanvision.bases.BASES`); None for no conversion.
        attention_kwargs: Arguments of `kanvision.layers.KArAtOperator`.
        act_init: Initial second rational, a key of `kanvision.layers.RATIONAL_PRESETS`; None for a fit.
        num_groups: Number of groups of each rational. If it does not divide a width, their greatest common
            divisor is used (4 for the 196 tokens of Mixer).
        share_numerator: Share one numerator between all groups of a rational.
        match: Regular expression; only modules whose name contains a match are converted.

    Returns:
        The given model.

    Raises:
        ValueError: A value is not legal, there is nothing to convert, or an activation is not elementwise.
    """
    for key, value, legal in (
        ("mlp", mlp, (None, *MLPS)),
        ("attention", attention, (None, *ATTENTIONS)),
        ("conv", conv, (None, *BASES)),
        ("act_init", act_init, (None, *RATIONAL_PRESETS)),
    ):
        if value not in legal:
            raise ValueError(f"{key}={value!r} is not known; legal values: {', '.join(map(str, legal))}")
    if num_groups < 1:
        raise ValueError(f"num_groups={num_groups} must be at least 1")
    if mlp is None and conv is None and attention is None:
        raise ValueError(
            "nothing to convert; set mlp='group_rational', attention='karat', conv=<basis>, or several"
        )
    pattern = re.compile(match or "")
    if mlp is not None:
        to_rational = partial(
            _rational_mlp, act_init=act_init, num_groups=num_groups, share_numerator=share_numerator
        )
        if not _convert(model, to_rational, pattern):
            raise ValueError(_nothing_found(model, f"mlp={mlp!r}", "Mlp", match))
    if attention is not None:
        to_karat = partial(_karat, num_tokens=_num_tokens(model), options=dict(attention_kwargs or {}))
        if not _convert(model, to_karat, pattern):
            raise ValueError(_nothing_found(model, f"attention={attention!r}", "Att", match))
    if conv is not None and not _convert(model, partial(_kan_conv, basis=conv), pattern):
        raise ValueError(_nothing_found(model, f"conv={conv!r} (kernels larger than 1)", "Conv", match))
    return model


def _convert(model: nn.Module, conversion: Conversion, pattern: re.Pattern[str]) -> int:
    """Replace all modules that the conversion accepts, and return their number."""
    # A shared module is converted once and stays shared.
    converted: dict[nn.Module, nn.Module] = {}
    for name, module in list(model.named_modules()):
        if name and pattern.search(name) and (new := conversion(module)) is not None:
            converted[module] = new.train(module.training)
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # named_children skips shared modules
            if child is not None and child in converted:
                setattr(parent, name, converted[child])
    return len(converted)


def _rational_mlp(
    module: nn.Module, act_init: str | None, num_groups: int, share_numerator: bool
) -> GroupRationalMlp | None:
    """Return a block with two rationals around the linear maps, dropouts and norm of an MLP."""
    parts = cast(Any, module)
    if type(module) is Mlp:
        drops, norm = (parts.drop1, parts.drop2), parts.norm
    elif type(module) is GlobalResponseNormMlp:
        drops, norm = (parts.drop1, parts.drop2), parts.grn
    elif type(module) is ConvMlp and isinstance(parts.norm, nn.Identity):  # else a norm before the activation
        drops, norm = (parts.drop, nn.Identity()), parts.norm
    else:
        return None
    weight = parts.fc1.weight
    hidden, width = weight.shape[:2]
    new = GroupRationalMlp(
        width,
        hidden,
        parts.fc2.weight.shape[0],
        use_conv=isinstance(parts.fc1, nn.Conv2d),
        act_init=act_init or "identity",
        num_groups=(gcd(num_groups, width), gcd(num_groups, hidden)),
        share_numerator=share_numerator,
        device="meta",
        dtype=weight.dtype,
    )
    for act in (new.act1, new.act2):
        act.to_empty(device=weight.device).reset_parameters()
    if act_init is None:
        new.act2.imitate(copy.deepcopy(parts.act).to("cpu", torch.float64))
    new.drop1, (new.drop2, new.drop3), new.norm = nn.Identity(), drops, norm
    new.fc1, new.fc2 = parts.fc1, parts.fc2
    return new


def _kan_conv(module: nn.Module, basis: str) -> nn.Module | None:
    """Return a KAN convolution with a convolution's weights in its base branch and zeros in the other."""
    conv = cast(Any, module)
    if type(module) not in _KAN_CONV or max(conv.kernel_size) == 1:
        return None
    new = _KAN_CONV[type(module)](
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
        conv.padding_mode,
        basis,
        base_act="identity",
        bias=conv.bias is not None,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
    )
    nn.init.zeros_(new.basis_weight)
    new.base_weight, new.bias = conv.weight, conv.bias
    return cast(nn.Module, new)


def _karat(module: nn.Module, num_tokens: int | None, options: dict[str, Any]) -> nn.Module | None:
    """Return Kolmogorov-Arnold attention with the linear maps of an attention."""
    if type(module) is WindowAttention:
        return KArAtWindowAttention(module, **options)
    if type(module) not in (Attention, MHSA):
        return None
    if num_tokens is None:
        raise ValueError(
            "attention='karat' needs a fixed number of tokens: a model with patch_embed.num_patches and "
            "num_prefix_tokens, built without dynamic_img_size"
        )
    return KArAttention.from_attention(module, num_tokens, options=options)


def _num_tokens(model: nn.Module) -> int | None:
    """Return the number of tokens of a transformer, prefix tokens included; None if it varies."""
    patches = getattr(getattr(model, "patch_embed", None), "num_patches", None)
    if patches is None or getattr(model, "dynamic_img_size", False):
        return None
    return int(patches) + int(getattr(model, "num_prefix_tokens", 0))


def _nothing_found(model: nn.Module, given: str, word: str, match: str | None) -> str:
    there = sorted({type(module).__name__ for module in model.modules() if word in type(module).__name__})
    where = "" if match is None else f" with a name that contains {match!r}"
    return (
        f"{given}: {type(model).__name__} has nothing to convert{where}; similar modules: "
        f"{', '.join(there) or 'none'}"
    )
