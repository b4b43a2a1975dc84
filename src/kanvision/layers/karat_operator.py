"""Operator of Kolmogorov-Arnold attention, which replaces the softmax.

Shapes: B batch, h heads, M queries, N keys, d channels of a head, r hidden units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

from kanvision.bases import FourierBasis
from kanvision.expansion.autocast import without_autocast
from kanvision.ops.karat import Series, fourier_attention
from kanvision.ops.karat_fused import fused_fourier_attention, get_fusion_obstacle
from kanvision.ops.simplex import project_simplex
from kanvision.spec.models import KARAT_OPTIONS, KArAtBaseAct

from .attention_units import AttentionUnits
from .token_grid import resample_tokens

__all__ = ["KArAtOperator"]

_STD = 0.02  # of W, as for timm's linear maps
_FAR = -1e9  # below any logit that a projection could let through


class KArAtOperator(nn.Module):
    """Learned row activation of attention: out = sigma(A) v, A = scale q k^T, no softmax.

    The rows of A are mapped to r hidden units of every head and back to the N keys:

    * `order="w_phi"` (published): H_ip = sum_q phi_pq(A_iq), sigma(A) = H W^T, phi from `AttentionUnits`.
    * `order="phi_w"`: H = A W^T, sigma(A)_iq = sum_p phi_qp(H_ip). No tensor of queries times keys is needed.
    * `order="phi_phi"`: units both times.

    sigma(A) has rank r at most, r + 1 with a bias, may be negative, and its rows do not sum to 1. Functions
    and weights belong to the absolute position of the key, so N, prefix tokens included, is fixed (`resize`
    interpolates to another N). (H W^T) v is computed as H (W^T v) wherever no operation is between the two,
    which also needs fewer operations.

    Initialization: `init="paper"` draws coefficients from N(0, 1); "scaled" from N(0, 1 / (N s)),
    s = sum_k E[f_k^2], so that a hidden unit has a mean square of 1 for any N and basis. Units that map to
    the keys have N(0, .02^2 / s), those of the full rank N(0, 1 / (N^2 s)). W ~ N(0, .02^2), truncated at two
    standard deviations (timm's rule; the paper does not specify it).

    Implementations, equal to rounding:

    * "naive": one unit at a time and all matrices, as in the formula; the test oracle.
    * "gemm": one product with the values of all functions, which are saved.
    * "recompute": nothing of the size of A is saved; closed-form derivatives for `w_phi` over Fourier series
      (`kanvision.ops.karat`), otherwise torch's checkpointing.
    * "triton": fused kernels for `w_phi` over Fourier series on a GPU.
    * "auto": triton for queries of 16 bits if possible, else recompute.

    Maity, Hitsman, Li and Dutta 2025, "Kolmogorov-Arnold Attention: Is Learnable Attention Better For Vision
    Transformers?" (arXiv 2503.10632).

    Args:
        num_heads: Number of heads, h, each with functions and weights.
        num_tokens: Number of tokens, N.
        rank: Rank r; None is the full N x N matrix of functions, without W (`w_phi` only).
        basis: Short name of the basis (a key of `kanvision.bases.BASES`).
        basis_kwargs: Arguments of the basis; `num_frequencies` (G) of "fourier" is 3 by default.
        order: One of the orders above.
        base_act: Activation added to each function: "zero", "identity", "silu" or "gelu".
        include_dc: Add the constant to the functions.
        unit_scales: Add two more factors for each unit, which the published parameter counts include.
        init: "scaled" or "paper".
        w_bias: Bias on the entries of sigma(A): "none", one for all heads ("layer") or for each ("head").
        project: Projection of rows onto the probability simplex: "none", "output" (of sigma(A)) or "hidden"
            (of H).
        implementation: One of the implementations of `kanvision.spec.models.KARAT_OPTIONS`.
        device: Device of the parameters.
        dtype: Data type of the parameters.

    Raises:
        ValueError: A value or a combination of values is not legal.
    """

    kan_parameters = ("weight", "bias")
    units: AttentionUnits
    units_out: AttentionUnits | None
    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(
        self,
        num_heads: int,
        num_tokens: int,
        rank: int | None = 12,
        *,
        basis: str = "fourier",
        basis_kwargs: Mapping[str, Any] | None = None,
        order: str = "w_phi",
        base_act: KArAtBaseAct = "zero",
        include_dc: bool = False,
        unit_scales: bool = False,
        init: str = "scaled",
        w_bias: str = "none",
        project: str = "none",
        implementation: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        choices = dict(order=order, init=init, w_bias=w_bias, project=project, implementation=implementation)
        for key, value in choices.items():
            if value not in KARAT_OPTIONS[key]:
                raise ValueError(
                    f"{key}={value!r} is not known; legal values: {', '.join(KARAT_OPTIONS[key])}"
                )
        for key, number in (("num_heads", num_heads), ("num_tokens", num_tokens), ("rank", rank)):
            if number is not None and number < 1:
                raise ValueError(f"{key}={number} must be at least 1")
        if rank is None and order != "w_phi":
            raise ValueError(f"rank=None has no hidden units, which order={order!r} needs; give a rank")
        if rank is None and project == "hidden":
            raise ValueError("rank=None has no hidden units to project; use project='output'")
        self.num_heads, self.num_tokens, self.rank = num_heads, num_tokens, rank
        self.order, self.init, self.project, self.implementation = order, init, project, implementation
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        if basis == "fourier":
            basis_kwargs = {"num_frequencies": 3, **(basis_kwargs or {})}
        make_units: Callable[..., AttentionUnits] = partial(
            AttentionUnits,
            num_heads,
            basis=basis,
            basis_kwargs=basis_kwargs,
            base_act=base_act,
            include_dc=include_dc,
            unit_scales=unit_scales,
            **where,
        )
        hidden = num_tokens if rank is None else rank
        sizes = (hidden, num_tokens) if order == "phi_w" else (num_tokens, hidden)
        self.units = make_units(*sizes)
        self.units_out = make_units(hidden, num_tokens) if order == "phi_phi" else None
        self.weight = self.bias = None
        if rank is not None and order != "phi_phi":
            self.weight = nn.Parameter(torch.empty(num_heads, num_tokens, rank, **where))  # W
        if w_bias != "none":
            rows = 1 if w_bias == "layer" else num_heads
            self.bias = nn.Parameter(torch.empty(rows, num_tokens, **where))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialize all parameters."""
        for units in (self.units, self.units_out):
            if units is None or units.coefficients.is_meta:
                continue
            units.basis.reset_parameters()
            std = 1.0
            if self.init == "scaled":
                if units is self._units_out():
                    size = _STD
                else:
                    size = 1 / self.num_tokens if self.rank is None else units.in_features**-0.5
                std = size / units.root_mean_square()
            units.reset_parameters(std)
        if self.weight is not None:
            nn.init.trunc_normal_(self.weight, std=_STD, a=-2 * _STD, b=2 * _STD)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        scale: float | None = None,
        logit_bias: Tensor | None = None,
        keep: Tensor | None = None,
        drop_rate: float = 0.0,
    ) -> Tensor:
        """Apply the attention to queries, keys and values.

        Args:
            q: Queries (B, h, M, d).
            k: Keys (B, h, N, d).
            v: Values (B, h, N, d).
            scale: Factor of q k^T; None is d^(-1/2).
            logit_bias: Summand of the logits, of a shape that broadcasts to (B, h, M, N).
            keep: Mask, False for masked keys, whose functions and values are excluded.
            drop_rate: Dropout rate of the entries of sigma(A), for training.

        Returns:
            Outputs (B, h, M, d).

        Raises:
            ValueError: The number of keys is not N, or "triton" is not available.
        """
        self._check(k)
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        by_the_formula = self.implementation in ("naive", "gemm")
        if not by_the_formula:
            fused = self._fused(q, k, v, scale, (logit_bias, keep), drop_rate)
            if fused is not None:
                return fused
        if by_the_formula or not torch.is_grad_enabled():
            return self._plain(q, k, v, scale, logit_bias, keep, drop_rate)
        again: Tensor = recomputed(
            self._plain, q, k, v, scale, logit_bias, keep, drop_rate, use_reentrant=False
        )
        return again

    def attention(
        self,
        q: Tensor,
        k: Tensor,
        scale: float | None = None,
        logit_bias: Tensor | None = None,
        keep: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the matrices A and sigma(A), (B, h, M, N) each, for inspection."""
        self._check(k)
        with without_autocast(q.device.type):
            s = self._logits(q, k, q.shape[-1] ** -0.5 if scale is None else scale, logit_bias)
            return s, self._activated(s, self._hidden(s, keep), keep)

    @property
    def series(self) -> Series | None:
        """Return the functions as a series of `kanvision.ops.karat`, or None for another basis."""
        basis = self.units.basis
        if not isinstance(basis, FourierBasis) or basis.squash is not None:
            return None
        return Series(basis.num_basis // 2, self.units.include_dc, self.units.base_act)

    def _fused(
        self, q: Tensor, k: Tensor, v: Tensor, scale: float, masks: Sequence[Tensor | None], drop_rate: float
    ) -> Tensor | None:
        """Return the result of the closed form, or None where it does not apply."""
        series, rank = self.series, self.rank
        obstacle = ""
        if series is None or self.order != "w_phi" or (rank is None and self.bias is not None):
            obstacle = "it is for order='w_phi' over Fourier series without squash, with a rank or no bias"
        elif self.project != "none" or drop_rate or any(mask is not None for mask in masks):
            obstacle = "projection, dropout, masks and biases of logits need the matrix"
        closed_form = None if obstacle else fourier_attention
        # In float32 the kernels spill registers, see docs/kernels.md.
        wants_kernels = self.implementation == "triton" or (
            self.implementation == "auto" and q.is_cuda and q.dtype != torch.float32
        )
        if series is not None and not obstacle and wants_kernels:
            obstacle = get_fusion_obstacle(q, series, rank)
            closed_form = closed_form if obstacle else fused_fourier_attention
        if self.implementation == "triton" and obstacle:
            raise ValueError(
                f"implementation='triton' is not possible: {obstacle}; use implementation='auto'."
            )
        if series is None or closed_form is None:
            return None
        return closed_form(q, k, v, self.units.folded(), self._weight_and_bias(), series, scale)

    def _weight_and_bias(self) -> Tensor | None:
        if self.weight is None or self.bias is None:
            return self.weight
        return torch.cat((self.weight, self.bias.expand(self.num_heads, -1).unsqueeze(-1)), -1)

    def _plain(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        scale: float,
        logit_bias: Tensor | None,
        keep: Tensor | None,
        drop_rate: float,
    ) -> Tensor:
        naive = self.implementation == "naive"
        with without_autocast(q.device.type):
            wide = v.to(torch.promote_types(v.dtype, torch.float32))
            if self.order == "phi_w" and not naive and logit_bias is None and keep is None:
                hidden = self._linear_hidden(q, k, scale)
                s = None
            else:
                s = self._logits(q, k, scale, logit_bias)
                hidden = self._hidden(s, keep, naive)
            if naive or keep is not None or drop_rate or self.project == "output":
                matrix = self._activated(s, hidden, keep, naive)
                return (nn.functional.dropout(matrix, drop_rate) @ wide).to(v.dtype)
            out = self._applied(hidden, wide)
            if self.bias is not None:
                out = out + self.bias.to(wide.dtype).unsqueeze(1) @ wide  # (h, 1, N) (B, h, N, d)
            return out.to(v.dtype)

    @staticmethod
    def _logits(q: Tensor, k: Tensor, scale: float, logit_bias: Tensor | None) -> Tensor:
        wide = torch.promote_types(q.dtype, torch.float32)
        s = scale * (q.to(wide) @ k.to(wide).mT)  # (B, h, M, N)
        return s if logit_bias is None else s + logit_bias.to(wide)

    def _linear_hidden(self, q: Tensor, k: Tensor, scale: float) -> Tensor:
        """Return H = A W of phi_w as scale q (k^T W)."""
        wide = torch.promote_types(q.dtype, torch.float32)
        assert self.weight is not None
        return self._projected(q.to(wide) @ (scale * (k.to(wide).mT @ self.weight.to(wide))))

    def _hidden(self, s: Tensor, keep: Tensor | None, naive: bool = False) -> Tensor:
        """Return H (B, h, M, r)."""
        if self.order == "phi_w":
            assert self.weight is not None
            return self._projected((s if keep is None else s * keep) @ self.weight.to(s.dtype))
        return self._projected(self.units.one_by_one(s, keep) if naive else self.units(s, keep))

    def _projected(self, hidden: Tensor) -> Tensor:
        return project_simplex(hidden) if self.project == "hidden" else hidden

    def _activated(
        self, s: Tensor | None, hidden: Tensor, keep: Tensor | None, naive: bool = False
    ) -> Tensor:
        """Return sigma(A) (B, h, M, N) from H."""
        if (out := self._units_out()) is not None:
            matrix = out.one_by_one(hidden) if naive else out(hidden)
        else:
            matrix = hidden if self.weight is None else hidden @ self.weight.to(hidden.dtype).mT
        if self.bias is not None:
            matrix = matrix + self.bias.to(matrix.dtype).unsqueeze(1)
        if self.project == "output":
            matrix = project_simplex(matrix if keep is None else matrix.masked_fill(~keep, _FAR))
        return matrix if keep is None else matrix * keep

    def _applied(self, hidden: Tensor, v: Tensor) -> Tensor:
        """Return sigma(A) v without computing sigma(A)."""
        if (out := self._units_out()) is not None:
            return out.through(hidden, v)
        return hidden @ (v if self.weight is None else self.weight.to(v.dtype).mT @ v)

    def _units_out(self) -> AttentionUnits | None:
        return self.units if self.order == "phi_w" else self.units_out

    def _check(self, k: Tensor) -> None:
        if k.shape[2] != self.num_tokens:
            raise ValueError(
                f"KArAtOperator was made for num_tokens={self.num_tokens}, as its functions belong to "
                f"positions; got {k.shape[2]} keys. Build the model for this image size, or let "
                "set_input_size of the model (resize of the operator) interpolate the functions."
            )

    @torch.no_grad()
    def resize(
        self, old_grid: tuple[int, int], new_grid: tuple[int, int], num_prefix_tokens: int = 0
    ) -> KArAtOperator:
        """Interpolate all parameters of keys to another grid of patches, in place.

        Interpolation is bicubic; prefix tokens are unchanged. Sums over patches then have another number of
        terms, so values are multiplied by the old over the new number of patches. The paper has one size.

        Args:
            old_grid: Current number of patches along each axis.
            new_grid: New number of patches along each axis.
            num_prefix_tokens: Number of tokens before those of the patches.

        Raises:
            ValueError: The old grid is not that of the operator.
        """
        old, new = (grid[0] * grid[1] + num_prefix_tokens for grid in (old_grid, new_grid))
        if old != self.num_tokens:
            raise ValueError(
                f"old_grid={old_grid} with {num_prefix_tokens} more tokens makes {old} tokens, "
                f"the operator has {self.num_tokens}."
            )
        grids = (old_grid, new_grid, num_prefix_tokens)
        for units in (self.units, self.units_out):
            if units is not None:
                out = units is self._units_out() or self.rank is None
                units.resize(out, units is self.units and self.order != "phi_w", *grids)
        if self.weight is not None:
            self.weight = resample_tokens(self.weight, 1, *grids)
        if self.bias is not None:
            self.bias = resample_tokens(self.bias, 1, *grids)
        self.num_tokens = new
        return self

    def basis_flops(self, q: Tensor, k: Tensor, *_: Any) -> int:
        """Return the operations of learned functions in a call with these queries and keys."""
        rows = q.shape[0] * q.shape[1] * q.shape[2]
        units = [self.units] if self.units_out is None else [self.units, self.units_out]
        return sum(rows * each.in_features * each.flops_per_value for each in units)

    def published_flops(self, num_queries: int) -> int:
        """Return the FLOPs of the activation for one image as the paper counts them, (3 G + 1) M N r h.

        Raises:
            ValueError: The functions are no Fourier series; the paper does not count other ones.
        """
        if (series := self.series) is None:
            raise ValueError("the paper counts FLOPs of Fourier series only")
        rank = self.num_tokens if self.rank is None else self.rank
        return (3 * series.num_frequencies + 1) * num_queries * self.num_tokens * rank * self.num_heads

    def extra_repr(self) -> str:
        """Return the options for `repr`."""
        names = ("num_heads", "num_tokens", "rank", "order", "init", "project", "implementation")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
