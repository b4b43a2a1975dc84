"""Units of Kolmogorov-Arnold attention: a matrix of learned univariate functions for every head.

Shapes: B batch, h heads, M rows, N inputs, O outputs, K functions of the basis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kanvision.bases import Basis, create_basis
from kanvision.ops.karat import BASE_ACTS
from kanvision.spec.models import KArAtBaseAct

from .functions import FunctionPlot
from .token_grid import resample_basis, resample_tokens

__all__ = ["AttentionUnits"]


class AttentionUnits(FunctionPlot, nn.Module):
    """Units y_ip = sum_q phi_pq(x_iq), phi_pq(x) = base_act(x) + sum_k c_pqk f_k(x), for every head.

    With `unit_scales`, phi_pq = scale_base_pq base_act + scale_basis_pq sum_k c_pqk f_k, as in pykan; the
    published parameter counts of KArAt include both. They are multiplied into the coefficients first, so they
    need no memory. Without a base activation `scale_base` has no effect and is frozen, so that distributed
    training does not wait for its gradient.

    All units share the functions f_k of one `Basis`; its learnable parameters (shifts, grids, denominators)
    belong to the head and the input, not to each unit.

    Args:
        num_heads: Number of heads, h.
        in_features: Number of input features, N.
        out_features: Number of output features, O.
        basis: Short name (a key of `kanvision.bases.BASES`).
        basis_kwargs: Arguments of the basis.
        base_act: "zero", "identity", "silu" or "gelu".
        include_dc: Add the constant 1 to the functions.
        unit_scales: Add two more learnable factors for each unit.
        device: Device of the parameters.
        dtype: Data type of the parameters.

    Raises:
        ValueError: A name or an argument of the basis is not known.
    """

    kan_parameters = ("coefficients", "scale_basis", "scale_base")
    scale_basis: nn.Parameter | None
    scale_base: nn.Parameter | None

    def __init__(
        self,
        num_heads: int,
        in_features: int,
        out_features: int,
        *,
        basis: str = "fourier",
        basis_kwargs: Mapping[str, Any] | None = None,
        base_act: KArAtBaseAct = "zero",
        include_dc: bool = False,
        unit_scales: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if base_act not in BASE_ACTS:
            raise ValueError(f"base_act={base_act!r} is not known; legal values: {', '.join(BASE_ACTS)}")
        self.num_heads = num_heads
        self.in_features = in_features
        self.out_features = out_features
        self.base_act = base_act
        self.include_dc = include_dc
        given = {"num_channels": num_heads * in_features, **(basis_kwargs or {})}
        self.basis: Basis = create_basis(basis, **given).to(device=device, dtype=dtype)
        shape = (num_heads, out_features, in_features)
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.coefficients = nn.Parameter(torch.empty(*shape, self.basis.num_basis + include_dc, **where))
        self.scale_basis = self.scale_base = None
        if unit_scales:
            self.scale_basis = nn.Parameter(torch.empty(shape, **where))
            self.scale_base = nn.Parameter(torch.empty(shape, **where), requires_grad=base_act != "zero")
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self, std: float = 1.0) -> None:
        """Draw the coefficients from N(0, std^2), set scales to 1 and reset the basis."""
        self.basis.reset_parameters()
        nn.init.normal_(self.coefficients, std=std)
        for scale in (self.scale_basis, self.scale_base):
            if scale is not None:
                nn.init.ones_(scale)

    def root_mean_square(self) -> float:
        """Return sqrt(sum_k E[f_k(x)^2]), x ~ N(0, 1): the size of a unit with coefficients from N(0, 1)."""
        return math.sqrt(float(self.basis.second_moment().sum()) + self.include_dc)

    def folded(self) -> Tensor:
        """Return the coefficients of all functions, base activation last: (h, O, N, K + constant + base)."""
        c: Tensor = self.coefficients
        if self.scale_basis is not None:
            c = c * self.scale_basis.unsqueeze(-1)
        if self.base_act == "zero":
            return c
        base = self.coefficients.new_ones(c.shape[:3]) if self.scale_base is None else self.scale_base
        return torch.cat((c, base.unsqueeze(-1)), dim=-1)

    def functions(self, x: Tensor) -> Tensor:
        """Return the values of all functions, base activation last: (B, h, M, N) -> (B, h, M, N, K + ...)."""
        values = self._expand(x)
        extra = [torch.ones_like(x)] if self.include_dc else []
        if (act := BASE_ACTS[self.base_act]) is not None:
            extra.append(act(x))
        return torch.cat((values, torch.stack(extra, -1)), -1) if extra else values

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (B, h, M, N) to (B, h, M, O) by one matrix product over all functions of all inputs.

        Args:
            x: Inputs.
            mask: Mask that broadcasts to (B, h, M, N); False excludes a pair of row and input.
        """
        values = self.functions(x)
        if mask is not None:
            values = values * mask.unsqueeze(-1)
        return values.flatten(-2) @ self.folded().to(x.dtype).flatten(-2).mT

    def one_by_one(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute `forward` one unit at a time, O values for each input: the test oracle."""
        values = self.functions(x)
        num_basis = self.coefficients.shape[-1]
        c = self.coefficients.to(x.dtype)
        units = torch.einsum("bhmnk,honk->bhomn", values[..., :num_basis], c)
        if self.scale_basis is not None:
            units = units * self.scale_basis.to(x.dtype).unsqueeze(2)  # (h, O, 1, N)
        if self.base_act != "zero":
            base = values[..., -1].unsqueeze(2)  # (B, h, 1, M, N)
            units = units + (base if self.scale_base is None else base * self.scale_base.unsqueeze(2))
        if mask is not None:
            units = units * mask.unsqueeze(-3)
        return units.sum(-1).transpose(2, 3)  # (B, h, M, O)

    def through(self, x: Tensor, v: Tensor) -> Tensor:
        """Apply the units of the keys to values without the matrix of queries and keys.

        sum_q (sum_p phi_qp(x_ip)) v_q = sum_p sum_k f_k(x_ip) (sum_q c_qpk v_q)

        Args:
            x: (B, h, M, N), N inputs of this layer.
            v: (B, h, O, d), one value for each of its outputs.
        """
        mixed = torch.einsum("honk,bhod->bhnkd", self.folded().to(v.dtype), v)
        out: Tensor = self.functions(x).flatten(-2) @ mixed.flatten(2, 3)
        return out

    def resize(
        self,
        out_axis: bool,
        in_axis: bool,
        old_grid: tuple[int, int],
        new_grid: tuple[int, int],
        num_prefix_tokens: int,
    ) -> None:
        """Interpolate the parameters along the tokens of a grid, see `KArAtOperator.resize`.

        Args:
            out_axis: Whether the outputs are tokens.
            in_axis: Whether the inputs are tokens.
            old_grid: Patches along each axis so far.
            new_grid: And from now on.
            num_prefix_tokens: Tokens in front of them.
        """
        grids = (old_grid, new_grid, num_prefix_tokens)
        for axis in (1,) * out_axis + (2,) * in_axis:
            self.coefficients = resample_tokens(self.coefficients, axis, *grids)
            for name in ("scale_basis", "scale_base"):
                if (scales := getattr(self, name)) is not None:
                    setattr(self, name, resample_tokens(scales, axis, *grids, keep_sums=False))
        if in_axis:
            resample_basis(self.basis, self.num_heads, *grids)
        _, self.out_features, self.in_features, _ = self.coefficients.shape

    def _expand(self, x: Tensor) -> Tensor:
        if self.basis.num_channels is None:
            values: Tensor = self.basis(x)
            return values
        batch, heads, rows, inputs = x.shape
        flat = x.transpose(1, 2).reshape(batch, rows, heads * inputs)
        values = self.basis(flat).reshape(batch, rows, heads, inputs, -1)  # (B, M, h, N, K)
        return values.transpose(1, 2)  # (B, h, M, N, K)

    @property
    def flops_per_value(self) -> int:
        """Return the operations that evaluate the functions at one input; a base activation counts as one."""
        return self.basis.flops_per_input + (self.base_act != "zero")

    def extra_repr(self) -> str:
        """Return sizes and options for `repr`."""
        return (
            f"{self.in_features} -> {self.out_features}, num_heads={self.num_heads}, "
            f"base_act={self.base_act!r}, include_dc={self.include_dc}, "
            f"unit_scales={self.scale_basis is not None}"
        )
