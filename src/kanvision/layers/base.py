"""Base of all KAN layers: two branches, their initialization, norms, activations and dropout.

Shapes: B batch, C channels, K basis functions, O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from kanvision.bases import Basis, create_basis
from kanvision.bases.base import normal_quantiles
from kanvision.expansion.branch import Branch, compute_level
from kanvision.expansion.contraction import Contraction
from kanvision.expansion.define import compose
from kanvision.expansion.run import contract
from kanvision.spec.models import DROP_POSITIONS, INNER_DROP_POSITIONS

from .activation import create_activation, define_activation
from .dropout import create_dropout
from .functions import FunctionPlot
from .norm import INPUT_NORMS, MinMaxNorm, create_norm
from .recompute import recompute

__all__ = ["INITS", "KANLayer"]

Term: TypeAlias = tuple[Branch, tuple[Tensor | None, ...]]
"""Branch and its tensors: points, weights, factors of the edges, inputs of the definition."""

_MIN_MOMENT = 1e-4
INITS = ("variance_preserving", "kaiming", "kaiming_joint", "normal", "efficient_kan")


class KANLayer(FunctionPlot, nn.Module):
    """Base class of `KANLinear` and `KANConv{1,2,3}d`.

    y = act(norm(base_weight . base_act(x) + basis_weight . basis_act(phi(input_norm(x))) + bias))

    where phi expands every channel by K functions and `.` is the linear map of the subclass (a matrix product
    or a convolution), which implements `_linear_map` and `_expand`.

    Initialization (`init`), with fan = inputs per output (C/groups times the taps of the kernel):

    * `variance_preserving`: for x ~ N(0, 1) every branch contributes an equal share of a unit mean square:
      Var(base_weight) = share / (fan E[base_act(x)^2]),
      Var(basis_weight) = share / (fan sum_j E[phi_j(x)^2]).
    * `kaiming`: U(-b, b) with b = sqrt(3 / fan) for the base and sqrt(3 / (fan K)) for the basis weights.
    * `kaiming_joint`: as `kaiming`, but b = sqrt(3 / (O/groups fan K)) for the basis weights; the published
      Legendre, Gram and Bernstein layers start like this: their weight tensor counts outputs as inputs.
    * `normal`: base as `kaiming`, basis weights ~ N(0, s^2) with s = 1 / (groups fan K), as published for
      Chebyshev and Jacobi layers.
    * `efficient_kan`: base weights and edge scales U(-b, b) with b = 1 / sqrt(n), n the inputs of one kernel
      (its taps; of a linear layer all features); basis weights fit noise, U(-1/2, 1/2) init_noise / G at
      G + 1 points of the domain, G = K - 3, so that the layer starts close to its base branch.

    Args:
        in_channels: Number of input channels, C.
        out_channels: Number of output channels, O.
        basis: Short name (a key of `kanvision.bases.BASES`) or a ready basis.
        kernel_size: Taps along each space axis.
        groups: Number of independent groups of channels.
        basis_kwargs: Arguments of the basis. Bases with learnable parameters get one set per input channel,
            unless `num_channels` is given.
        base_act: Activation of the base branch by timm's name; "identity" is a plain linear branch, None is
            no branch.
        input_norm: Norm in front of the basis only: None, "batch", "instance", "layer", "minmax"
            (per sample).
        basis_act: Activation on the basis values.
        norm: Norm of the sum of the branches: None, "batch", "instance", "group", "layer".
        norm_affine: Give both norms a learnable scale and shift.
        act: Activation after the norm.
        bias: Add a learnable bias, zero at the start.
        init: Initialization, one of `INITS`.
        init_noise: Size of the noise of `efficient_kan`.
        edge_scale: Add a learnable factor for the K basis weights of each edge (output, input, tap), the
            "standalone spline scaler" of efficient-kan.
        drop_rate: Rate of dropout or noise in training.
        drop_kind: "channel", "element" or "noise", see `kanvision.layers.dropout`.
        drop_position: "input" (of both branches), "branch" (input of the basis branch), "squashed" (between
            the domain policy of the basis and its functions), "basis" (the basis values) or "output".
        checkpoint: In training, compute norm and activation again in the backward pass, which keeps the
            output of the linear maps instead of two tensors of its size. The expansion, K times the input, is
            never kept.
        device: Device of the parameters.
        dtype: Data type of the parameters.

    Raises:
        ValueError: A name, a rate or a combination of them is not legal.
    """

    ndim: ClassVar[int]
    """Number of space axes; 0 for channels-last features."""
    kan_parameters: tuple[str, ...] = ("basis_weight",)
    base_weight: nn.Parameter | None
    edge_scale: nn.Parameter | None
    bias: nn.Parameter | None
    base_act: nn.Module | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        basis: str | Basis,
        *,
        kernel_size: tuple[int, ...],
        groups: int,
        basis_kwargs: Mapping[str, Any] | None = None,
        base_act: str | None = "silu",
        input_norm: str | None = None,
        basis_act: str | None = None,
        norm: str | None = None,
        norm_affine: bool = True,
        act: str | None = None,
        bias: bool = False,
        init: str = "variance_preserving",
        init_noise: float = 0.1,
        edge_scale: bool = False,
        drop_rate: float = 0.0,
        drop_kind: str = "channel",
        drop_position: str = "branch",
        checkpoint: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if init not in INITS:
            raise ValueError(f"init={init!r} is not known; legal values: {', '.join(INITS)}")
        if drop_position not in DROP_POSITIONS:
            raise ValueError(
                f"drop_position={drop_position!r} is not known; legal values: {', '.join(DROP_POSITIONS)}"
            )
        self.groups = groups
        self.init = init
        self.init_noise = init_noise
        self.drop_rate = drop_rate
        self.drop_position = drop_position
        self.checkpoint = checkpoint
        with nullcontext() if device is None else torch.device(device):
            self.basis = _resolve_basis(basis, in_channels, basis_kwargs)
            # The base branch exists if and only if it has an activation; "identity" is one.
            self.base_act = None if base_act is None else create_activation(base_act, key="base_act")
            self.basis_act = create_activation(basis_act, key="basis_act")
            self.input_norm = create_norm(
                input_norm, in_channels, self.ndim, affine=norm_affine, key="input_norm", legal=INPUT_NORMS
            )
            self.norm = create_norm(norm, out_channels, self.ndim, affine=norm_affine)
            self.act = create_activation(act)
            self.drop = create_dropout(drop_kind, drop_rate, self.ndim)
            per_edge = (out_channels, in_channels // groups, *kernel_size)
            num_maps = per_edge[1] * self.basis.num_basis
            self.basis_weight = nn.Parameter(torch.empty(out_channels, num_maps, *kernel_size))
            self._optional("base_weight", per_edge if self.base_act is not None else None)
            self._optional("edge_scale", per_edge if edge_scale else None)
            self._optional("bias", (out_channels,) if bias else None)
        if edge_scale:
            self.kan_parameters = (*self.kan_parameters, "edge_scale")
        if dtype is not None:
            self.to(dtype=dtype)
        self._reset_weights()

    def _optional(self, name: str, shape: tuple[int, ...] | None) -> None:
        self.register_parameter(name, None if shape is None else nn.Parameter(torch.empty(shape)))

    def _linear_map(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Apply the linear map of a branch to inputs or their expansion, in the order of the weights."""
        raise NotImplementedError

    def _expand(self, z: Tensor) -> Tensor:
        """Return the basis maps, channel-major, along the axis of the channels."""
        raise NotImplementedError

    def edge_weight(self) -> Tensor:
        """Return the basis weights times the edge scales, (O, C/groups K, *kernel)."""
        if self.edge_scale is None:
            return self.basis_weight
        return (self._by_function(self.basis_weight) * self.edge_scale.unsqueeze(2)).flatten(1, 2)

    def base_map(self) -> Tensor | None:
        """Return the effective base weights, (O, C/groups, *kernel), or None without a base branch."""
        return self.base_weight

    def _by_function(self, weight: Tensor) -> Tensor:
        """Map (O, C/groups K, *kernel) to (O, C/groups, K, *kernel)."""
        out, maps, *kernel = weight.shape
        num_basis = self.basis.num_basis
        return weight.reshape(out, maps // num_basis, num_basis, *kernel)

    def _contraction(self, x: Tensor) -> Contraction | None:
        """Return the linear map for inputs in this memory layout, or None if only `_linear_map` has it."""
        raise NotImplementedError

    def _basis_term(self, z: Tensor) -> Term | None:
        """Return the branch of the basis for `contract`; None where its maps must exist one by one."""
        basis = self.basis
        if basis._forward_hooks or basis._forward_pre_hooks or self._drops("basis"):
            return None
        activation = None
        if not isinstance(self.basis_act, nn.Identity):
            activation = define_activation(self.basis_act)
            if activation is None:
                return None
        contraction = self._contraction(z)
        folds = basis.has_constant and basis.num_basis > 1
        defined = basis.define(not folds)
        if defined is None or contraction is None:
            return None
        definition, inputs = defined
        squash = None
        if self._drops("squashed"):
            z = self.drop(basis.apply_squash(z))
        else:
            squash, ends = basis.define_squash()
            inputs = (*inputs, *ends)
        definition = compose(definition, squash, activation)
        level = compute_level(activation) if folds else None
        is_own = type(self).edge_weight is KANLayer.edge_weight  # adapters change the product
        weights = (self.basis_weight, self.edge_scale) if is_own else (self.edge_weight(), None)
        return Branch(definition, contraction, level), (z, *weights, *inputs)

    def _activation_term(self, activation: nn.Module, weight: Tensor, x: Tensor) -> Term | None:
        """Return the branch of an activation for `contract`; None for one without a definition."""
        definition, contraction = define_activation(activation), self._contraction(x)
        if definition is None or contraction is None:
            return None
        return Branch(definition, contraction), (x, weight, None)

    def _map_activation(self, activation: nn.Module, weight: Tensor, x: Tensor) -> Tensor:
        """Apply an activation and the linear map, and keep only x if the activation has a definition."""
        term = self._activation_term(activation, weight, x)
        if term is None:
            return self._linear_map(activation(x), weight, None)
        return contract([term[0]], [term[1]], None)

    def _basis_branch(self, z: Tensor) -> Tensor:
        term = self._basis_term(z)
        return self._expand_and_map(z) if term is None else contract([term[0]], [term[1]], self.bias)

    def _expand_and_map(self, z: Tensor) -> Tensor:
        """Compute the basis branch by its maps, which the backward pass computes again."""

        def function(z: Tensor) -> Tensor:
            maps = self._dropped("basis", self.basis_act(self._expand(z)))
            return self._linear_map(maps, self.edge_weight(), self.bias)

        return self._recompute(function, z)

    def _base_branch(self, x: Tensor) -> Tensor:
        weight = self.base_map()
        assert self.base_act is not None
        assert weight is not None
        return self._map_activation(self.base_act, weight, x)

    def _sum_branches(self, z: Tensor, x: Tensor) -> Tensor:
        """Return the sum of the basis branch of z and the base branch of x."""
        weight = self.base_map()
        if self.base_act is None or weight is None:
            return self._basis_branch(z)
        basis, base = self._basis_term(z), self._activation_term(self.base_act, weight, x)
        if basis is None or base is None:
            return self._basis_branch(z) + self._base_branch(x)
        return contract([basis[0], base[0]], [basis[1], base[1]], self.bias)

    def _transform(self, x: Tensor) -> Tensor:
        """Compute the forward pass without the check of the input."""
        x = self._dropped("input", x)
        y = self._sum_branches(self.input_norm(self._dropped("branch", x)), x)
        return self._dropped("output", self._finish(y, self.norm, self.act))

    def _finish(self, y: Tensor, norm: nn.Module, act: nn.Module) -> Tensor:
        """Apply norm and activation; with `checkpoint`, the backward pass computes them again."""

        def function(y: Tensor) -> Tensor:
            return act(norm(y))  # type: ignore[no-any-return]

        # A norm alone saves only its input.
        if not self.checkpoint or isinstance(act, nn.Identity):
            return function(y)
        return self._recompute(function, y, norm)

    @property
    def keeps_activations(self) -> bool:
        """Return True if `checkpoint` saves memory: an activation keeps a tensor."""
        return not isinstance(self.act, nn.Identity)

    def _recompute(
        self, function: Callable[[Tensor], Tensor], x: Tensor, norm: nn.Module | None = None
    ) -> Tensor:
        """Apply a function; in training, keep only `x` for its backward pass; `norm` is inside of it."""
        if not self.training:
            return function(x)
        is_random = self.drop_rate > 0 and self.drop_position in INNER_DROP_POSITIONS
        return recompute(function, x, part=norm, is_random=is_random)

    def _dropped(self, position: str, x: Tensor) -> Tensor:
        return self.drop(x) if self._drops(position) else x

    def _drops(self, position: str) -> bool:
        return self.training and self.drop_rate > 0 and self.drop_position == position

    def reset_parameters(self) -> None:
        """Initialize weights, bias, norms, and the parameters and constants of the basis."""
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
        if self.edge_scale is not None:
            self.edge_scale.fill_(1.0)
        if self.bias is not None:
            self.bias.zero_()
        if self.init == "variance_preserving":
            self._reset_preserving(fan)
            return
        if self.init == "efficient_kan":
            self._reset_efficient(fan)
            return
        if self.base_weight is not None:
            _uniform(self.base_weight, fan**-0.5)
        if self.init == "normal":
            weight.normal_(0.0, 1.0 / (fan_basis * self.groups))
        else:
            joint = weight.shape[0] // self.groups if self.init == "kaiming_joint" else 1
            _uniform(weight, (fan_basis * joint) ** -0.5)

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

    def _reset_efficient(self, fan: int) -> None:
        kernel = self.basis_weight.shape[2:]
        bound = (math.prod(kernel) if self.ndim else fan) ** -0.5
        for tensor in (self.base_weight, self.edge_scale):
            if tensor is not None:
                tensor.uniform_(-bound, bound)
        weight = self.basis_weight
        num_basis = self.basis.num_basis
        cells = max(1, num_basis - 3)
        low, high = self.basis.domain or (-1.0, 1.0)
        points = torch.linspace(low, high, cells + 1, device=weight.device)
        channels = self.basis.num_channels or 1
        values = self.basis(points.unsqueeze(1).expand(-1, channels))[:, 0]  # (G + 1, K)
        noise = weight.new_empty(*self._by_function(weight).movedim(2, -1).shape[:-1], cells + 1)
        noise.uniform_(-0.5, 0.5).mul_(self.init_noise / cells)  # (O, C/g, *k, G + 1)
        fitted = noise.float() @ torch.linalg.pinv(values.double()).float().T  # (O, C/g, *k, K)
        weight.copy_(fitted.movedim(-1, 2).flatten(1, 2))

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters that weight decay would distort (timm's protocol)."""
        return {f"basis.{name}" for name in self.basis.no_weight_decay()}


def _preserving_std(share: float, fan: int, moment: Tensor) -> Tensor:
    # The floor bounds the weights of functions with (almost) no input.
    return (share / (fan * moment.clamp_min(_MIN_MOMENT))).sqrt()


def _uniform(weight: Tensor, std: float | Tensor) -> None:
    weight.uniform_(-1.0, 1.0).mul_(math.sqrt(3.0) * std)


def _resolve_basis(basis: str | Basis, num_channels: int, kwargs: Mapping[str, Any] | None) -> Basis:
    if isinstance(basis, Basis):
        built = create_basis(basis, **(kwargs or {}))
        if built.num_channels not in (None, num_channels):
            raise ValueError(
                f"the basis has parameters for num_channels={built.num_channels}, "
                f"the layer has {num_channels} inputs"
            )
        return built
    return create_basis(basis, **{"num_channels": num_channels, **(kwargs or {})})
