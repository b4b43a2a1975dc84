"""What KAN layers of every shape share: two branches, their start values, norms and activations.

Shapes: B batch, C channels, K basis functions, O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, cast

import torch
import torch.utils.checkpoint
from torch import Tensor, nn

from kanvision.bases import Basis, create_basis
from kanvision.bases.base import normal_quantiles

from .activation import create_activation
from .norm import INPUT_NORMS, MinMaxNorm, create_norm

__all__ = ["INITS", "KANLayer"]

_MIN_MOMENT = 1e-4
INITS = ("variance_preserving", "kaiming", "kaiming_joint", "normal")


class KANLayer(nn.Module):
    """Base of `KANLinear` and `KANConv{1,2,3}d`.

    y = act(norm(base_weight . base_act(x) + basis_weight . basis_act(phi(input_norm(x))) + bias))

    where phi expands every channel by K functions and `.` is the linear map of the subclass (a matrix product
    or a convolution), which implements `_linear_map` and `_expand`.

    Start values (`init`), with fan = inputs per output (C/groups times the taps of the kernel):

    * `variance_preserving`: for x ~ N(0, 1) every present branch gives an equal share of a unit mean square:
      Var(base_weight) = share / (fan E[base_act(x)^2]),
      Var(basis_weight) = share / (fan sum_j E[phi_j(x)^2]).
    * `kaiming`: U(-b, b) with b = sqrt(3 / fan) for the base and sqrt(3 / (fan K)) for the basis weights.
    * `kaiming_joint`: as `kaiming`, but b = sqrt(3 / (O/groups fan K)) for the basis weights; the published
      Legendre, Gram and Bernstein layers start like this: their weight tensor counts outputs as inputs.
    * `normal`: base as `kaiming`, basis weights ~ N(0, s^2) with s = 1 / (groups fan K), as published for
      Chebyshev and Jacobi layers.
    """

    kan_parameters: tuple[str, ...] = ("basis_weight",)
    base_weight: nn.Parameter | None
    bias: nn.Parameter | None
    base_act: nn.Module | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        basis: str | Basis,
        *,
        ndim: int,
        kernel_size: tuple[int, ...],
        groups: int,
        basis_kwargs: Mapping[str, Any] | None,
        base_act: str | None,
        input_norm: str | None,
        basis_act: str | None,
        norm: str | None,
        norm_affine: bool,
        act: str | None,
        bias: bool,
        init: str,
        checkpointed: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        if init not in INITS:
            raise ValueError(f"init={init!r} is not known; legal values: {', '.join(INITS)}")
        self.groups = groups
        self.init = init
        self.checkpoint = checkpointed
        with nullcontext() if device is None else torch.device(device):
            self.basis = _basis_for(basis, in_channels, basis_kwargs)
            # The base branch exists exactly when it has an activation; "identity" is one.
            self.base_act = None if base_act is None else create_activation(base_act, key="base_act")
            self.basis_act = create_activation(basis_act, key="basis_act")
            self.input_norm = create_norm(
                input_norm, in_channels, ndim, affine=norm_affine, key="input_norm", legal=INPUT_NORMS
            )
            self.norm = create_norm(norm, out_channels, ndim, affine=norm_affine)
            self.act = create_activation(act)
            fan_channels = in_channels // groups
            if self.base_act is None:
                self.register_parameter("base_weight", None)
            else:
                self.base_weight = nn.Parameter(torch.empty(out_channels, fan_channels, *kernel_size))
            num_maps = fan_channels * self.basis.num_basis
            self.basis_weight = nn.Parameter(torch.empty(out_channels, num_maps, *kernel_size))
            self.register_parameter("bias", nn.Parameter(torch.empty(out_channels)) if bias else None)
        if dtype is not None:
            self.to(dtype=dtype)
        self._reset_weights()

    def _linear_map(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The linear map of a branch; `x` holds inputs or their expansion in the order of the weights."""
        raise NotImplementedError

    def _expand(self, z: Tensor) -> Tensor:
        """The basis maps, channel-major in the place of the channels."""
        raise NotImplementedError

    def _drop(self, z: Tensor) -> Tensor:
        return z

    def _basis_branch(self, z: Tensor) -> Tensor:
        return self._linear_map(self.basis_act(self._expand(z)), self.basis_weight, self.bias)

    def _transform(self, x: Tensor) -> Tensor:
        """Everything but the preparation of the input."""
        z = self.input_norm(x)
        if self.checkpoint and torch.is_grad_enabled():
            # Norms stay outside: recomputing them would update running statistics twice.
            y = torch.utils.checkpoint.checkpoint(self._branches, x, z, use_reentrant=False)
        else:
            y = self._branches(x, z)
        return cast(Tensor, self.act(self.norm(y)))

    def _branches(self, x: Tensor, z: Tensor) -> Tensor:
        y = self._basis_branch(self._drop(z))
        if self.base_act is None:
            return y
        assert self.base_weight is not None
        return y + self._linear_map(self.base_act(x), self.base_weight, None)

    def reset_parameters(self) -> None:
        """Start anew: weights, bias, norms and the parameters and constants of the basis."""
        for module in self.modules():
            reset = getattr(module, "reset_parameters", None)
            if module is not self and callable(reset):
                reset()
        self._reset_weights()

    @torch.no_grad()
    def _reset_weights(self) -> None:
        weight = self.basis_weight
        fan = math.prod(weight.shape[1:]) // self.basis.num_basis
        fan_basis = fan * self.basis.num_basis
        base_scale, basis_scale = fan**-0.5, fan_basis**-0.5
        if self.init == "variance_preserving":
            self._reset_preserving(fan)
        else:
            if self.base_weight is not None:
                _uniform(self.base_weight, base_scale)
            if self.init == "normal":
                weight.normal_(0.0, 1.0 / (fan_basis * self.groups))
            else:
                joint = weight.shape[0] // self.groups if self.init == "kaiming_joint" else 1
                _uniform(weight, basis_scale * joint**-0.5)
        if self.bias is not None:
            self.bias.zero_()

    def _reset_preserving(self, fan: int) -> None:
        dtype = self.basis_weight.dtype
        x = normal_quantiles(self.basis_weight.device)
        # Min-max is the only input norm that moves standard normal inputs elsewhere.
        z = self.input_norm(x.unsqueeze(0)).squeeze(0) if isinstance(self.input_norm, MinMaxNorm) else x
        share = 1.0 if self.base_act is None else 0.5
        moment = self.basis.second_moment(lambda values: self.basis_act(values.to(dtype)).float(), z).sum()
        _uniform(self.basis_weight, _preserving_std(share, fan, moment))
        if self.base_act is not None:
            assert self.base_weight is not None
            moment = self.base_act(x.to(dtype)).float().square().mean()
            _uniform(self.base_weight, _preserving_std(share, fan, moment))

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay would pull away from their meaning (timm's protocol)."""
        return {f"basis.{name}" for name in self.basis.no_weight_decay()}


def _preserving_std(share: float, fan: int, moment: Tensor) -> Tensor:
    # The floor keeps functions that see (almost) no input from getting unbounded weights.
    return (share / (fan * moment.clamp_min(_MIN_MOMENT))).sqrt()


def _uniform(weight: Tensor, std: float | Tensor) -> None:
    weight.uniform_(-1.0, 1.0).mul_(math.sqrt(3.0) * std)


def _basis_for(basis: str | Basis, num_channels: int, kwargs: Mapping[str, Any] | None) -> Basis:
    if isinstance(basis, Basis):
        built = create_basis(basis, **(kwargs or {}))
        if built.num_channels not in (None, num_channels):
            raise ValueError(
                f"the basis has parameters for num_channels={built.num_channels}, "
                f"the layer has {num_channels} inputs"
            )
        return built
    return create_basis(basis, **{"num_channels": num_channels, **(kwargs or {})})
