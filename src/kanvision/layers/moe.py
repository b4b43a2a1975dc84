"""Mixtures of KAN convolutions.

Shapes: B batch, C channels, *S space, K basis functions, O outputs, G groups, c = C/G, E experts, k chosen.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from .base import KANLayer
from .bottleneck import BottleneckKANConvNd
from .composite import KAN_CONVS, CompositeLayer
from .conv import KANConvNd
from .linear import KANLinear
from .moe_gate import Routing, TopKGate
from .norm import MinMaxNorm

__all__ = [
    "EVALUATIONS",
    "MoEBottleneckKANConv1d",
    "MoEBottleneckKANConv2d",
    "MoEBottleneckKANConv3d",
    "MoEBottleneckKANConvNd",
    "MoEKANConv1d",
    "MoEKANConv2d",
    "MoEKANConv3d",
    "MoEKANConvNd",
]

EVALUATIONS = ("auto", "loop", "joint", "sparse")
# Measured on a CPU: above these limits, copying weights for each sample takes longer than skipping experts
# saves.
_SPARSE_WEIGHTS = 2**20
_SPARSE_POSITIONS = 64


class MoEKANConvNd(CompositeLayer):
    """Mixture of KAN convolutions of one input: y = sum_e g_e expert_e(x), with k nonzero g_e.

    The input of the gate is the mean over space of x, see `kanvision.layers.moe_gate.TopKGate`. Drokin 2024
    (arXiv 2407.01092).

    All experts are part of every step, those that are not chosen with a zero gate: shapes do not depend on
    the choice, there is no wait for the device, and every parameter has a gradient in distributed training.
    Values of `evaluation`:

    * "loop": one expert after the other; E times the work of one. Experts of any kind.
    * "joint": one convolution with E times the groups; the work of "loop" in fewer launches.
    * "sparse": for each sample the maps and weights of the chosen experts, gathered into one convolution with
      B times the groups; k times the work of one expert, and B k copies of weights.
    * "auto": "loop" if necessary; else "sparse" for one sample (and on the CPU for several samples where that
      was measured to be faster), otherwise "joint".

    "joint" and "sparse" need experts that are KAN convolutions without base branch, norm and activation, as
    inside `MoEBottleneckKANConvNd`; with "loop" a norm is applied to all samples. Experts with different
    bases (`prune_selection`) are evaluated by "loop".

    Args:
        in_channels: Number of input channels, C.
        out_channels: Number of output channels, O.
        kernel_size: An int or one per space axis.
        *geometry: Arguments of the experts, from `stride` on.
        num_experts: Number of experts, E.
        k: Number of experts for each sample.
        noisy: Noise on the gate's logits in training.
        loss_coef: Factor of the gate's penalty on unequal load.
        pregate: Add a KAN layer C -> C before the gate, with the basis of the experts.
        copies: Initialize all experts as copies of the first, as published; the noise of the gate separates
            them.
        evaluation: One of `EVALUATIONS`.
        expert: Class of the experts; None is `KANConv{1,2,3}d`.
        **options: Further arguments of the experts.

    Raises:
        ValueError: An argument is not legal, or the evaluation does not fit the experts.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        *geometry: Any,
        num_experts: int = 8,
        k: int = 2,
        noisy: bool = True,
        loss_coef: float = 1e-2,
        pregate: bool = False,
        copies: bool = True,
        evaluation: str = "auto",
        expert: Callable[..., nn.Module] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if evaluation not in EVALUATIONS:
            raise ValueError(
                f"evaluation={evaluation!r} is not known; legal values: {', '.join(EVALUATIONS)}"
            )
        where = {key: options.get(key) for key in ("device", "dtype")}
        self.gate = TopKGate(in_channels, num_experts, k, noisy=noisy, loss_coef=loss_coef, **where)
        make = KAN_CONVS[self.ndim] if expert is None else expert
        self.experts = nn.ModuleList(
            make(in_channels, out_channels, kernel_size, *geometry, **options) for _ in range(num_experts)
        )
        self.pregate: nn.Module | None = None
        if pregate:
            self.pregate = _pregate(self.experts[0], in_channels, options)
        self.in_channels = in_channels
        self.copies = copies
        self.evaluation = evaluation
        self._reset_own()
        if evaluation in ("joint", "sparse") and not self._factorizes():
            raise ValueError(
                f"evaluation={evaluation!r} needs experts with neither base branch nor norm nor activation; "
                "legal values for these experts: auto, loop"
            )

    def _reset_own(self) -> None:
        if self.copies:
            state = self.experts[0].state_dict()
            for expert in self.experts[1:]:
                expert.load_state_dict(state)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, *S) to (B, O, *S').

        Raises:
            ValueError: if `x` does not have C channels and the right number of space axes.
        """
        self._check_map(x, self.in_channels)
        q = x.flatten(2).mean(2)  # (B, C)
        routing = cast(Routing, self.gate(q if self.pregate is None else self.pregate(q)))
        evaluation = self.evaluation
        if evaluation == "auto":
            evaluation = self._choose(x)
        if evaluation == "loop" or not self._alike():
            return self._loop(x, routing)
        # An empty batch has nothing to gather.
        return self._sparse(x, routing) if evaluation == "sparse" and x.shape[0] else self._joint(x, routing)

    def _alike(self) -> bool:
        """Return True if all experts have the same functions; `prune_selection` may make them differ."""
        kinds = {(type(expert.basis), expert.basis_weight.shape) for expert in self.experts}
        return len(kinds) == 1

    def _factorizes(self) -> bool:
        """Return True if experts are only basis maps and a convolution, without hooks."""
        return all(
            type(expert) is KAN_CONVS[self.ndim]
            and expert.base_act is None
            and isinstance(expert.norm, nn.Identity)
            and isinstance(expert.act, nn.Identity)
            and isinstance(expert.input_norm, nn.Identity | MinMaxNorm)
            and not (expert.drop_rate and expert.drop_position == "output")
            and not (expert._forward_hooks or expert._forward_pre_hooks)
            for expert in self.experts
        )

    def _choose(self, x: Tensor) -> str:
        if not self._factorizes():
            return "loop"
        if torch.compiler.is_exporting():  # a choice by batch size would be fixed in the program
            return "joint"
        if x.shape[0] == 1:
            return "sparse"
        expert = cast(KANConvNd, self.experts[0])
        moved = x.shape[0] * self.gate.k * expert.basis_weight.numel()
        pays = moved <= _SPARSE_WEIGHTS and math.prod(x.shape[2:]) >= _SPARSE_POSITIONS
        return "sparse" if pays and x.device.type == "cpu" else "joint"

    def _loop(self, x: Tensor, routing: Routing) -> Tensor:
        y: Tensor | None = None
        for index, expert in enumerate(self.experts):
            part = expert(x)
            part = part * routing.gates[:, index].to(part.dtype).view(-1, 1, *(1,) * self.ndim)
            y = part if y is None else y + part
        assert y is not None
        return y

    def _parts(self, x: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor | None]:
        """Return maps (B, G c K, *S) and weights (O, c K, *k) by expert, and summands (E, O, *S')."""
        maps, weights, offsets = [], [], []
        for expert in cast(Sequence[KANConvNd], self.experts):
            z = expert.input_norm(expert._dropped("branch", expert._dropped("input", x)))
            values, weight, offset = expert._basis_parts(expert._padded(z))
            maps.append(values)
            weights.append(weight)
            if offset is not None:
                offsets.append(offset)
        bias = [expert.bias for expert in self.experts if expert.bias is not None]
        summand = torch.cat(offsets) if offsets else None  # (E, O, *S')
        if bias:
            shift = torch.stack(cast(list[Tensor], bias)).view(len(bias), -1, *(1,) * self.ndim)
            summand = shift if summand is None else summand + shift
        return maps, weights, summand

    def _joint(self, x: Tensor, routing: Routing) -> Tensor:
        first = cast(KANConvNd, self.experts[0])

        def convolve(x: Tensor) -> Tensor:
            maps, weights, summand = self._parts(x)
            num_experts, outputs = len(weights), weights[0].shape[0]
            y = first._convolve(torch.cat(maps, 1), torch.cat(weights), None, num_experts * first.groups)
            y = y.reshape(x.shape[0], num_experts, outputs, *y.shape[2:])  # (B, E, O, *S')
            return y if summand is None else y + summand

        y = first._recompute(convolve, x)
        return torch.einsum("be,beo...->bo...", routing.gates.to(y.dtype), y)

    def _sparse(self, x: Tensor, routing: Routing) -> Tensor:
        first = cast(KANConvNd, self.experts[0])
        count, groups = x.shape[0], first.groups
        num_experts, k = self.gate.num_experts, self.gate.k
        rows = torch.arange(count, device=x.device).unsqueeze(1) * num_experts + routing.indices  # (B, k)

        def convolve(x: Tensor) -> Tensor:
            maps, weights, summand = self._parts(x)
            chosen = torch.stack(maps, 1).flatten(0, 1).index_select(0, rows.flatten())  # (B k, G c K, *S)
            chosen = chosen * routing.values.to(chosen.dtype).view(-1, 1, *(1,) * self.ndim)
            per_group, space = chosen.shape[1] // groups, chosen.shape[2:]
            chosen = chosen.reshape(count, k, groups, per_group, *space).transpose(1, 2)  # (B, G, k, c K, *S)
            weight = torch.stack(weights).index_select(0, routing.indices.flatten())  # (B k, O, c K, *k)
            weight = weight.reshape(count, k, *weights[0].shape).transpose(1, 2)  # (B, O, k, c K, *k)
            inputs, weight = chosen.reshape(1, -1, *space), weight.flatten(2, 3).flatten(0, 1)
            y = first._convolve(inputs, weight, None, count * groups)  # (1, B O, *S')
            y = y.reshape(count, weights[0].shape[0], *y.shape[2:])  # (B, O, *S')
            if summand is None:
                return y
            return y + torch.einsum("be,eo...->bo...", routing.gates.to(y.dtype), summand.to(y.dtype))

        return first._recompute(convolve, x)

    def extra_repr(self) -> str:
        """Return the evaluation of experts for `repr`."""
        return f"copies={self.copies}, evaluation={self.evaluation!r}"


class MoEKANConv1d(MoEKANConvNd):
    """Mixture of KAN convolutions (B, C, L) -> (B, O, L') with the arguments of `MoEKANConvNd`."""

    ndim = 1


class MoEKANConv2d(MoEKANConvNd):
    """Mixture of KAN convolutions (B, C, H, W) -> (B, O, H', W') with the arguments of `MoEKANConvNd`."""

    ndim = 2


class MoEKANConv3d(MoEKANConvNd):
    """Mixture of KAN convolutions (B, C, D, H, W) -> (B, O, D', H', W'); see `MoEKANConvNd`."""

    ndim = 3


class MoEBottleneckKANConvNd(BottleneckKANConvNd):
    """Bottleneck KAN convolution with a mixture inside; base, squeeze, expand and norm are shared.

    y = act(norm(conv(base_act(x), base_weight) + expand(sum_e g_e inner_e(squeeze(x)))))

    Each expert has its own weights, start values and basis parameters; the input of the gate is the mean over
    space of squeeze(x). Compared with `BottleneckKANConvNd` it has E - 1 times the inner weights more, and 2
    M E for the gate. Drokin 2024 (arXiv 2407.01092), with the Gram basis; published networks count 2 M E more
    for each layer, an unused second gate.

    Args:
        in_channels: Number of input channels, C.
        out_channels: Number of output channels, O.
        kernel_size: An int or one per space axis.
        *geometry: Arguments of `BottleneckKANConvNd`, from `stride` on.
        num_experts: Number of experts, E.
        k: Number of experts for each sample.
        noisy: Noise on the gate's logits in training.
        loss_coef: Factor of the gate's penalty on unequal load.
        pregate: Add a KAN layer M -> M before the gate.
        evaluation: Evaluation of the experts, see `MoEKANConvNd`.
        **options: As in `BottleneckKANConvNd`; `drop_position` is "basis" by default, as published.

    Raises:
        ValueError: An argument is not legal.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        *geometry: Any,
        num_experts: int = 8,
        k: int = 2,
        noisy: bool = True,
        loss_coef: float = 1e-2,
        pregate: bool = False,
        evaluation: str = "auto",
        **options: Any,
    ) -> None:
        mixture = {
            "num_experts": num_experts,
            "k": k,
            "noisy": noisy,
            "loss_coef": loss_coef,
            "pregate": pregate,
            "evaluation": evaluation,
            "copies": False,
        }
        # Arguments that the bottleneck does not use are passed to `_make_inner`.
        options = {"drop_position": "basis", **options, **mixture}
        super().__init__(in_channels, out_channels, kernel_size, *geometry, **options)

    def _make_inner(self, width: int, *geometry: Any, **options: Any) -> nn.Module:
        return _MIXTURES[self.ndim](width, width, *geometry, **options)

    def _cores(self) -> list[KANLayer]:
        return list(cast(Sequence[KANLayer], cast(MoEKANConvNd, self.inner).experts))


class MoEBottleneckKANConv1d(MoEBottleneckKANConvNd):
    """Bottleneck with a mixture inside, (B, C, L) -> (B, O, L'); see `MoEBottleneckKANConvNd`."""

    ndim = 1


class MoEBottleneckKANConv2d(MoEBottleneckKANConvNd):
    """Bottleneck with a mixture inside, (B, C, H, W) -> (B, O, H', W'); see `MoEBottleneckKANConvNd`."""

    ndim = 2


class MoEBottleneckKANConv3d(MoEBottleneckKANConvNd):
    """Bottleneck with a mixture, (B, C, D, H, W) -> (B, O, D', H', W'); see `MoEBottleneckKANConvNd`."""

    ndim = 3


_MIXTURES: dict[int, type[MoEKANConvNd]] = {1: MoEKANConv1d, 2: MoEKANConv2d, 3: MoEKANConv3d}


def _pregate(expert: nn.Module, channels: int, options: dict[str, Any]) -> nn.Module:
    if not isinstance(expert, KANLayer):
        raise ValueError(
            f"pregate=True takes its basis from the experts, and {type(expert).__name__} has none"
        )
    layer = KANLinear(
        channels,
        channels,
        copy.deepcopy(expert.basis),
        basis_act=options.get("basis_act"),
        norm="layer",
        act="silu",
        init="kaiming",
        device=options.get("device"),
        dtype=options.get("dtype"),
    )
    layer.reset_parameters()
    return layer
