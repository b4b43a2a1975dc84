"""KAN feed-forward blocks with the constructor that timm expects of an `mlp_layer`.

Legend: B batch, N tokens, C features in, O features out, H W space.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from timm.layers.helpers import to_2tuple
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kanvision.bases import Basis

from .linear import KANLinear
from .rational import GroupRational

__all__ = ["GroupRationalMlp", "KANMlp"]


class GroupRationalMlp(nn.Module):
    """Two GR-KAN layers, the feed-forward block of "Kolmogorov-Arnold Transformer" (arXiv 2409.10594).

    y = drop3(fc2(norm(drop2(act2(fc1(drop1(act1(x))))))): the learned activation comes before each linear
    map, act1 starts as `act1_init` and act2 as `act_init`. drop3 is the identity except in a converted block.

    Args:
        in_features: Number of input features, C.
        hidden_features: Number of hidden features, H; C by default.
        out_features: Number of output features, O; C by default.
        act_layer: Ignored: timm's blocks pass it, but the activations are learned.
        norm_layer: Normalization of the hidden features just before fc2.
        bias: Bias of fc1 and fc2, or one value for each.
        drop: Dropout rate of drop1 and drop2, or one value for each.
        use_conv: Use 1x1 convolutions as linear maps, for inputs (B, C, H, W).
        act_init: Initial act2, a key of `RATIONAL_PRESETS`.
        act1_init: Initial act1, a key of `RATIONAL_PRESETS`.
        num_groups: Number of groups of both activations, or one number for each.
        share_numerator: Share one numerator between all groups.
        checkpoint: In training, recompute the activations in the backward pass: only their inputs are saved,
            C + H values a token instead of 2 C + 2 H. Not with dropout or a norm with running statistics.
        device: Device of the parameters.
        dtype: Data type of the parameters.

    Raises:
        ValueError: `num_groups` does not divide the widths, or a preset is not known.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        act_layer: Callable[..., nn.Module] | None = None,
        norm_layer: Callable[..., nn.Module] | None = None,
        bias: bool | tuple[bool, bool] = True,
        drop: float | tuple[float, float] = 0.0,
        use_conv: bool = False,
        act_init: str = "swish",
        act1_init: str = "identity",
        num_groups: int | tuple[int, int] = 8,
        share_numerator: bool = True,
        checkpoint: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        hidden_features = hidden_features or in_features
        out_features = out_features or in_features
        biases, rates, groups = to_2tuple(bias), to_2tuple(drop), to_2tuple(num_groups)
        channel_dim = 1 if use_conv else -1

        def act(width: int, count: int, init: str) -> GroupRational:
            return GroupRational(width, count, init, share_numerator, channel_dim, device=device, dtype=dtype)

        def linear(fan_in: int, fan_out: int, with_bias: bool) -> nn.Module:
            if use_conv:
                return nn.Conv2d(fan_in, fan_out, 1, bias=with_bias, device=device, dtype=dtype)
            return nn.Linear(fan_in, fan_out, bias=with_bias, device=device, dtype=dtype)

        self.act1 = act(in_features, groups[0], act1_init)
        self.drop1: nn.Module = nn.Dropout(rates[0])
        self.fc1 = linear(in_features, hidden_features, biases[0])
        self.act2 = act(hidden_features, groups[1], act_init)
        self.drop2 = nn.Dropout(rates[1])
        self.norm = norm_layer(hidden_features, device=device, dtype=dtype) if norm_layer else nn.Identity()
        self.fc2 = linear(hidden_features, out_features, biases[1])
        self.drop3: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, C) to (B, N, O), or any leading axes; with `use_conv` (B, C, H, W) -> (B, O, H, W)."""
        x = self._part(x, self.act1, self.drop1, self.fc1)
        return cast(Tensor, self.drop3(self._part(x, self.act2, self.drop2, self.norm, self.fc2)))

    def _part(self, x: Tensor, *modules: nn.Module) -> Tensor:
        def apply(x: Tensor) -> Tensor:
            for module in modules:
                x = module(x)
            return x

        # Twice is not once for random numbers and running statistics.
        once = any(getattr(module, "p", 0.0) > 0 or any(True for _ in module.buffers()) for module in modules)
        if once or not (self.checkpoint and self.training and torch.is_grad_enabled()):
            return apply(x)
        # Recomputation stops at the input of the linear map, so no product is computed twice.
        return checkpoint(apply, x, use_reentrant=False, preserve_rng_state=False)

    @torch.no_grad()
    def init_variance_preserving(self) -> None:
        """Draw the maps by the paper's rule, w ~ N(0, 1 / (fan_in E[act(x)^2])) with zero bias.

        For a unit Gaussian input the output of each map then has unit variance.
        """
        for act, linear in ((self.act1, self.fc1), (self.act2, self.fc2)):
            weight, bias = cast(Tensor, linear.weight), cast(Tensor | None, linear.bias)
            fan_in = weight[0].numel()
            weight.normal_(std=(fan_in * act.second_moment().mean().item()) ** -0.5)
            if bias is not None:
                bias.zero_()


class KANMlp(nn.Module):
    """Feed-forward block of two KAN layers over any basis.

    y = drop2(fc2(norm(drop1(fc1(x))))) with fc1 and fc2 of class `KANLinear`. There is no activation between
    them, because each layer begins with one.

    Args:
        in_features: Number of input features, C.
        hidden_features: Number of hidden features; C by default. A KAN needs fewer than the usual 4 C.
        out_features: Number of output features, O; C by default.
        act_layer: Ignored: timm's blocks pass it; see `base_act` of `KANLinear`.
        norm_layer: Normalization of the hidden features.
        bias: Bias of fc1 and fc2, or one value for each.
        drop: Dropout rate of drop1 and drop2, or one value for each.
        basis: Short name of the basis.
        basis_kwargs: Arguments of the basis.
        device: Device of the parameters.
        dtype: Data type of the parameters.
        **kan_kwargs: Further arguments of `KANLinear`.

    Raises:
        ValueError: A value is not legal for `KANLinear`.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        act_layer: Callable[..., nn.Module] | None = None,
        norm_layer: Callable[..., nn.Module] | None = None,
        bias: bool | tuple[bool, bool] = True,
        drop: float | tuple[float, float] = 0.0,
        basis: str | Basis = "bspline",
        basis_kwargs: Mapping[str, Any] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **kan_kwargs: Any,
    ) -> None:
        super().__init__()
        hidden_features = hidden_features or in_features
        out_features = out_features or in_features
        biases, rates = to_2tuple(bias), to_2tuple(drop)

        def layer(fan_in: int, fan_out: int, with_bias: bool) -> KANLinear:
            return KANLinear(
                fan_in,
                fan_out,
                basis,
                basis_kwargs=basis_kwargs,
                bias=with_bias,
                device=device,
                dtype=dtype,
                **kan_kwargs,
            )

        self.fc1 = layer(in_features, hidden_features, biases[0])
        self.drop1 = nn.Dropout(rates[0])
        self.norm = norm_layer(hidden_features, device=device, dtype=dtype) if norm_layer else nn.Identity()
        self.fc2 = layer(hidden_features, out_features, biases[1])
        self.drop2 = nn.Dropout(rates[1])

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., O)."""
        x = self.norm(self.drop1(self.fc1(x)))
        return cast(Tensor, self.drop2(self.fc2(x)))
