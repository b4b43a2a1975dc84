"""Base class of all bases: univariate functions applied to every channel.

Shapes: B batch, C channels, H W space, K basis functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, cast, final, get_args

import torch
from torch import Tensor, nn

from kanvision.expansion.autocast import without_autocast
from kanvision.expansion.define import Definition, compose
from kanvision.expansion.elementary import CLAMP, sigmoid_onto, tanh_onto
from kanvision.expansion.expand import expand
from kanvision.expansion.trace import trace_values

__all__ = ["Basis", "Squash"]

Squash = Literal["tanh", "sigmoid", "clamp"]
_SQUASHES: tuple[Squash, ...] = get_args(Squash)
_NUM_QUANTILES = 1024


class Basis(nn.Module):
    """K univariate functions phi_1 ... phi_K applied to every channel.

    A KAN layer is `sum_i sum_j w_ij phi_j(x_i)`: an expansion by a basis, then an ordinary linear map.
    A subclass sets `name`, passes `num_basis` and `domain` to this constructor and implements `define` (or
    `expand`).
    `forward` implements what is common to all bases:

    * **domain policy**: `squash` maps the real line onto `domain` element by element, with
      `tanh`: mid + half * tanh(x), `sigmoid`: lo + (hi - lo) / (1 + exp(-x)), `clamp`: min(max(x, lo), hi),
      where mid and half are center and half width. `None` keeps x; each class documents
      its functions outside the domain. Without a domain tanh maps to (-1, 1) and sigmoid to (0, 1).
    * **precision**: values are computed in float32 (or float64 for float64 inputs) with autocast off and then
      cast to the dtype of the input. Buffers (grids, knots, constants) are never in half precision, neither
      if a module is cast to it nor if it is torch's default: a rounded knot would move a function.
    * **cost**: `flops_per_input` counts the operations for one value (`expand_flops`);
    * **shape**: the axis of the K functions directly follows the channels, so that flattening the two returns
      channel-major maps (index `channel * K + j`), as grouped convolutions need them.

    Args:
        num_basis: Number of basis functions, K.
        domain: Domain of the functions; None is the whole real line.
        squash: Domain policy, one of None, "tanh", "sigmoid", "clamp".
        num_channels: Number of channels, C, each with a set of learnable parameters if the basis has any;
            None is one fixed set, shared by all channels.
    """

    name: ClassVar[str]
    learns_per_channel: ClassVar[bool] = False
    has_constant: ClassVar[bool] = False
    kan_parameters: tuple[str, ...] = ()
    num_basis: int
    domain: tuple[float, float] | None

    def __init__(
        self,
        *,
        num_basis: int,
        domain: tuple[float, float] | None,
        squash: Squash | None = None,
        num_channels: int | None = None,
    ) -> None:
        super().__init__()
        if squash is not None and squash not in _SQUASHES:
            raise ValueError(f"squash={squash!r} is not known; legal values: None, {', '.join(_SQUASHES)}")
        if squash == "clamp" and domain is None:
            raise ValueError(
                f"squash='clamp' needs a domain, and the functions of {type(self).__name__} live on the "
                "whole real line; legal values: None, tanh, sigmoid"
            )
        if domain is not None and not domain[0] < domain[1]:
            raise ValueError(f"the domain must be an increasing pair, got {domain}")
        if num_channels is not None and num_channels < 1:
            raise ValueError(f"num_channels={num_channels} must be None or at least 1")
        self.num_basis = num_basis
        self.domain = domain
        self.squash = squash
        self.num_channels = num_channels if self.learns_per_channel else None

    def define(self, constant: bool = True) -> tuple[Definition, tuple[Tensor, ...]] | None:
        """Return the definition of the functions at squashed values, and its inputs.

        Args:
            constant: False omits the constant first function of a class with `has_constant`.

        Returns:
            Definition, and constants and parameters, (C, n) or of any shape if all channels share them; None
            for a class that implements `expand` instead.
        """
        return None

    def expand(self, x: Tensor, dim: int) -> Tensor:
        """Evaluate the functions at squashed float32 or float64 values and insert K at axis `dim`.

        A class implements this one or `define`.
        """
        raise NotImplementedError

    def expand_flops(self) -> int:
        """Return the operations for one squashed value, those of the definition or one for each function.

        Elementary functions and comparisons count as one.
        """
        defined = self.define()
        return self.num_basis if defined is None else trace_values(defined[0]).num_operations

    @property
    def flops_per_input(self) -> int:
        """Return the operations that evaluate all functions at one value, domain policy included."""
        if self.squash is None:
            return self.expand_flops()
        if self.squash == "clamp":
            return 2 + self.expand_flops()
        usual = (0.0, 1.0) if self.squash == "sigmoid" else (-1.0, 1.0)
        moves = (self.domain or usual) != usual
        return 1 + 2 * moves + self.expand_flops()

    def reset_parameters(self) -> None:
        """Initialize learnable parameters and buffers, for instance after `to_empty`."""

    @final  # type: ignore[misc]  # torch declares forward as an attribute
    def forward(
        self,
        x: Tensor,
        channel_dim: int = -1,
        constant: bool = True,
        squashed: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Expand the channels of `x`.

        Args:
            x: floating-point tensor with the channels at axis `channel_dim`.
            channel_dim: Axis of the channels; the basis axis is inserted after it.
            constant: False omits the constant first function of a basis that has one (`has_constant`), for
                callers that add its contribution.
            squashed: Function applied between the domain policy and the basis functions (dropout, noise).

        Returns:
            (..., C) -> (..., C, K), and for `channel_dim=1` (B, C, H, W) -> (B, C, K, H, W); dtype of `x`.

        Raises:
            ValueError: if `x` is not floating point, `channel_dim` is out of range, or the number of channels
                differs from `num_channels`.
        """
        if not x.is_floating_point():
            raise ValueError(f"a basis expands floating-point tensors, got {x.dtype}")
        if not -x.ndim <= channel_dim < x.ndim:
            raise ValueError(f"channel_dim={channel_dim} is out of range for an input with {x.ndim} axes")
        dim = channel_dim % x.ndim
        if self.num_channels is not None and x.shape[dim] != self.num_channels:
            raise ValueError(
                f"{type(self).__name__} was made for num_channels={self.num_channels}, but axis "
                f"{channel_dim} of the input has {x.shape[dim]} channels"
            )
        if not constant and not self.has_constant:
            raise NotImplementedError(f"{type(self).__name__} has no constant function")
        with without_autocast(x.device.type):
            exact = x if x.dtype == torch.float64 else x.float()
            defined = self.define(constant)
            squash, ends = self.define_squash() if squashed is None else (None, ())
            if defined is None or squashed is not None:
                exact = self.apply_squash(exact)
            if squashed is not None:
                exact = squashed(exact)
            if defined is None:
                values = self.expand(exact, dim + 1)
            else:
                definition, inputs = defined
                values = expand(compose(definition, squash, definition.outer), (*inputs, *ends), exact, dim)
        return values.to(x.dtype)

    @torch.no_grad()
    def second_moment(
        self, transform: Callable[[Tensor], Tensor] | None = None, inputs: Tensor | None = None
    ) -> Tensor:
        """Return the mean squares E[phi_j(x)^2] for x ~ N(0, 1), for variance-preserving initialization.

        The expectation is over the (i + 1/2)/1024 quantiles of the normal distribution, without random
        numbers.

        Args:
            transform: Function applied to the values before they are squared (an activation on the basis).
            inputs: Points (M,) that replace the quantiles.

        Returns:
            Mean squares (K,), averaged over channels with different parameters.
        """
        x = normal_quantiles(self._device()) if inputs is None else inputs
        values = self(x.unsqueeze(-1).expand(-1, self.num_channels or 1))  # (M, C, K)
        if transform is not None:
            values = transform(values)
        return cast(Tensor, values.square().mean(dim=(0, 1)))

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters that weight decay would distort (timm's protocol)."""
        return set(self.kan_parameters)

    def _constant(self, name: str, *shape: int) -> None:
        """Register a buffer that `reset_parameters` fills."""
        dtype = torch.promote_types(torch.get_default_dtype(), torch.float32)
        self.register_buffer(name, torch.empty(shape, dtype=dtype))

    def _own(self, *names: str, size: int | None = None) -> None:
        """Register learnable parameters (C, size), or buffers (1, size) without `num_channels`.

        The size is K by default.
        """
        columns = self.num_basis if size is None else size
        for name in names:
            if self.num_channels is None:
                self._constant(name, 1, columns)
            else:
                values = torch.empty(self.num_channels, columns)
                self.register_parameter(name, nn.Parameter(values))
        if self.num_channels is not None:
            self.kan_parameters = names

    def _device(self) -> torch.device | None:
        for tensor in (*self.parameters(), *self.buffers()):
            return tensor.device
        return None

    def define_squash(self) -> tuple[Definition | None, tuple[Tensor, ...]]:
        """Return the domain policy, and its inputs."""
        if self.squash is None:
            return None, ()
        if self.squash == "sigmoid":
            return sigmoid_onto(*(self.domain or (0.0, 1.0))), ()
        if self.squash == "tanh":
            return tanh_onto(*(self.domain or (-1.0, 1.0))), ()
        assert self.domain is not None
        return CLAMP, (torch.tensor(self.domain, dtype=torch.float64, device=self._device()),)

    def apply_squash(self, x: Tensor) -> Tensor:
        """Apply the domain policy."""
        squash, inputs = self.define_squash()
        if squash is None:
            return x
        exact = x if x.dtype == torch.float64 else x.float()
        return expand(squash, inputs, exact, x.ndim - 1).squeeze(-1).to(x.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        # `module.half()` comes through here. Parameters follow the request; constants keep their digits.
        before = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for key, old in before.items():
            new = self._buffers[key]
            if old is None or new is None or not new.is_floating_point():
                continue
            if new.dtype.itemsize < 4 <= old.dtype.itemsize:
                self._buffers[key] = old.to(new.device)
        return self

    def extra_repr(self) -> str:
        """Return the differences between bases of one class for `repr`."""
        parts = [f"num_basis={self.num_basis}", f"domain={self.domain}", f"squash={self.squash!r}"]
        if self.num_channels is not None:
            parts.append(f"num_channels={self.num_channels}")
        return ", ".join(parts)


def normal_quantiles(device: torch.device | None = None) -> Tensor:
    """Return points (M,) whose mean of f is E[f(x)], x ~ N(0, 1): the midpoint quantiles."""
    levels = (torch.arange(_NUM_QUANTILES, device=device, dtype=torch.float32) + 0.5) / _NUM_QUANTILES
    quantiles: Tensor = torch.special.ndtri(levels)
    return quantiles
