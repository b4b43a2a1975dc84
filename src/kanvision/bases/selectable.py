"""Pool of bases with learned gates, from which one is chosen. Shapes: C channels, K basis functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from kanvision.expansion.ordinary import is_ordinary

from .base import Basis, Squash
from .registry import SINGLE_BASES, build_basis

__all__ = ["DEFAULT_POOL", "Phase", "SelectableBasis"]

Phase = Literal["train", "select", "pruned"]
_PHASES: tuple[Phase, ...] = get_args(Phase)
DEFAULT_POOL = ("bspline", "rbf", "wavelet", "chebyshev")


class SelectableBasis(Basis):
    """Functions of all members of a pool, each scaled to the same size and multiplied by a learned gate.

    phi = (g_1 s_1 phi_1, ..., g_M s_M phi_M), s_m = 1 / sqrt(sum_j E[phi_mj(x)^2]) for x ~ N(0, 1),
    K = K_1 + ... + K_M.

    S-KAN, Yang, Zhang, Luo, Lu and Shen 2024, "Activation Space Selectable Kolmogorov-Arnold Networks" (arXiv
    2408.08338), trains all members, selects one of them by weights, and continues with the selected one. The
    computation of its gates is not published; here they are g = softmax(logits / temperature), and the scales
    s keep the largest member from dominating. Phases (`set_phase`):

    * "train": all gates are 1/M; the logits have a gradient of 0, because distributed training needs one. The
      first phase of a new basis;
    * "select": gates by the logits; a falling temperature moves them to 0 and 1;
    * "pruned": the gate of the largest logit is 1, the others are 0. `kanvision.layers.prune_selection`
      removes the others from the network.

    The phase is part of the state dict. All members have the channels of the layer.

    Args:
        pool: Short names of the members, each at most once.
        pool_kwargs: Arguments of members by name.
        squash: Domain policy before all members, in addition to those of the members; None, "tanh" or
            "sigmoid".
        num_channels: Number of channels, C, for members with learnable parameters.

    Raises:
        ValueError: The pool is empty, or a name is unknown, repeated, or has arguments but is not in the
            pool.
    """

    name = "selectable"
    learns_per_channel = True
    kan_parameters = ("logits",)
    scale: Tensor
    sharpness: Tensor
    hard: Tensor

    def __init__(
        self,
        pool: Sequence[str] = DEFAULT_POOL,
        pool_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        squash: Squash | None = None,
        num_channels: int | None = None,
    ) -> None:
        names = list(pool)
        arguments = dict(pool_kwargs or {})
        if not names or len(set(names)) < len(names):
            raise ValueError(f"pool={names} must name at least one basis, and each only once")
        if strangers := [name for name in arguments if name not in names]:
            raise ValueError(f"pool_kwargs: {', '.join(strangers)} not in pool={names}")
        members = {
            name: build_basis(
                SINGLE_BASES, name, {"num_channels": num_channels, **(arguments.get(name) or {})}
            )
            for name in names
        }
        super().__init__(
            num_basis=sum(member.num_basis for member in members.values()),
            domain=None,
            squash=squash,
            num_channels=num_channels,
        )
        self.members = nn.ModuleDict(members)
        self.logits = nn.Parameter(torch.empty(len(members)))
        self._constant("scale", len(members))
        self._constant("sharpness")  # 1 / temperature
        self.register_buffer("hard", torch.empty((), dtype=torch.bool))
        self._reset_own()

    @torch.no_grad()
    def _reset_own(self) -> None:
        self.logits.zero_()
        moments = [member.second_moment().sum() for member in self._members()]
        for index, moment in enumerate(moments):
            self.scale[index] = moment.to(self.scale.device).rsqrt()
        self.set_phase("train")

    def reset_parameters(self) -> None:
        """Initialize the members, their scales and the logits, and start with the first phase."""
        for member in self._members():
            member.reset_parameters()
        self._reset_own()

    @torch.no_grad()
    def set_phase(self, phase: Phase, temperature: float = 1.0) -> None:
        """Set the rule that turns logits into gates.

        Args:
            phase: "train", "select" or "pruned".
            temperature: Temperature of the second phase, above 0.

        Raises:
            ValueError: The phase is not known or the temperature not positive.
        """
        if phase not in _PHASES:
            raise ValueError(f"phase={phase!r} is not known; legal values: {', '.join(_PHASES)}")
        if not temperature > 0:
            raise ValueError(f"temperature={temperature} must be positive")
        self.sharpness.fill_(1 / temperature if phase == "select" else 0.0)
        self.hard.fill_(phase == "pruned")

    def expand_flops(self) -> int:
        """Count the operations of all members, and a factor for each function."""
        return sum(member.flops_per_input for member in self._members()) + self.num_basis

    @property
    def phase(self) -> Phase:
        """Return the current phase."""
        if bool(self.hard):
            return "pruned"
        return "select" if bool(self.sharpness) else "train"

    def gates(self) -> Tensor:
        """Return the gates of the members, (M,), which sum to 1."""
        logits = self.logits.to(torch.promote_types(self.logits.dtype, torch.float32))
        soft = torch.softmax(self.sharpness.to(logits.dtype) * logits, 0)
        best = torch.arange(logits.numel(), device=logits.device) == logits.argmax()
        return torch.where(self.hard, best.to(soft.dtype), soft)

    def entropy(self) -> Tensor:
        """Return the entropy of the gates from 0 (one member) to 1 (all equal), differentiable."""
        gates = self.gates()
        nats: Tensor = -torch.special.xlogy(gates, gates).sum()
        return nats / math.log(max(2, gates.numel()))

    def selection(self) -> tuple[str, dict[str, float]]:
        """Return the name of the member with the largest logit, and the gates by name."""
        names = list(self.members)
        gates = self.gates().detach().tolist()
        return names[int(self.logits.argmax())], dict(zip(names, gates, strict=True))

    @torch.no_grad()
    def get_member_map(self, member: str) -> Tensor:
        """Return the map (K', K) of weights of this basis to those of one member: its gate times its scale.

        Raises:
            ValueError: There is no such member.
        """
        if member not in self.members:
            raise ValueError(f"member={member!r} is not in the pool; legal names: {', '.join(self.members)}")
        index = list(self.members).index(member)
        sizes = [basis.num_basis for basis in self._members()]
        start = sum(sizes[:index])
        weights = torch.zeros(sizes[index], self.num_basis, dtype=torch.float64, device=self.scale.device)
        factor = (self.gates() * self.scale)[index].double()
        weights[:, start : start + sizes[index]].fill_diagonal_(1.0).mul_(factor)
        return weights

    def expand(self, x: Tensor, dim: int) -> Tensor:
        """Return the values of the functions of all members, in the order of the pool."""
        gates = self.gates()
        factors = (gates * self.scale.to(gates.dtype)).to(x.dtype).unbind(0)
        maps = [
            _gated(partial(member, channel_dim=dim - 1), x, factor)
            for factor, member in zip(factors, self._members(), strict=True)
        ]
        return torch.cat(maps, dim)

    def no_weight_decay(self) -> set[str]:
        """Return the logits and the learnable parameters of members."""
        inner = {
            f"members.{name}.{own}"
            for name, member in zip(self.members, self._members(), strict=True)
            for own in member.no_weight_decay()
        }
        return {*super().no_weight_decay(), *inner}

    def _members(self) -> list[Basis]:
        return [cast(Basis, member) for member in self.members.values()]

    def extra_repr(self) -> str:
        """Return the sizes for `repr`."""
        return f"pool={list(self.members)}, {super().extra_repr()}"


def _gated(function: Callable[[Tensor], Tensor], x: Tensor, factor: Tensor) -> Tensor:
    """Multiply a function of x by a factor; the gradient recomputes the values and keeps none."""
    if not torch.is_grad_enabled() or not is_ordinary([x, factor]):
        return factor * function(x)
    return cast(Tensor, _Gated.apply(function, function(x), x, factor))


class _Gated(torch.autograd.Function):
    """Autograd function of scaled values of x, whose gradient passes through them."""

    @staticmethod
    def forward(function: Callable[[Tensor], Tensor], values: Tensor, x: Tensor, factor: Tensor) -> Tensor:
        return values * factor

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.function, _, x, factor = inputs
        ctx.save_for_backward(x, factor)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, factor = ctx.saved_tensors
        to_factor = (grad * ctx.function(x)).sum() if ctx.needs_input_grad[3] else None
        return None, grad * factor, None, to_factor
