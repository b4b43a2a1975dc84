"""Linear KAN layer. Shapes: C channels (features), K basis functions, O outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from kanvision.bases import Basis

from .expansion import KANLayer

__all__ = ["KANLinear"]


class KANLinear(KANLayer):
    """Kolmogorov-Arnold layer on the last axis: a basis expansion of every feature and one matrix product.

    y_o = act(norm(sum_i base_weight[o, i] base_act(x_i) + sum_ij basis_weight[o, iK + j] phi_j(x_i) + b_o))

    Liu et al. 2024, "KAN: Kolmogorov-Arnold Networks" (arXiv 2404.19756), in the factorised form of
    efficient-kan. Start values are described at `kanvision.layers.expansion.KANLayer`.

    Args:
        in_features: C, size of the last axis of the input.
        out_features: O.
        basis: short name (a key of `kanvision.bases.BASES`) or a ready basis.
        basis_kwargs: arguments of the basis. Bases with learnable parameters get one set per input feature,
            unless `num_channels` is given here.
        base_act: activation of the base branch by timm's name; "identity" is a plain linear branch, None is
            no branch.
        input_norm: norm in front of the basis only: None, "batch", "instance", "layer", "minmax"
            (per sample).
        basis_act: activation on the basis values.
        norm: norm of the sum of the branches: None, "batch", "instance", "group", "layer".
        act: activation behind the norm.
        bias: add a learnable bias, zero at the start.
        init: "variance_preserving", "kaiming", "kaiming_joint" or "normal".
        norm_affine: give both norms a learnable scale and shift.
        device: where the parameters are made.
        dtype: of the parameters.

    Raises:
        ValueError: if a size is not positive or a name is not known.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        basis: str | Basis = "bspline",
        *,
        basis_kwargs: Mapping[str, Any] | None = None,
        base_act: str | None = "silu",
        input_norm: str | None = None,
        basis_act: str | None = None,
        norm: str | None = None,
        act: str | None = None,
        bias: bool = False,
        init: str = "variance_preserving",
        norm_affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        for key, value in (("in_features", in_features), ("out_features", out_features)):
            if value < 1:
                raise ValueError(f"{key}={value} must be at least 1")
        super().__init__(
            in_features,
            out_features,
            basis,
            ndim=0,
            kernel_size=(),
            groups=1,
            basis_kwargs=basis_kwargs,
            base_act=base_act,
            input_norm=input_norm,
            basis_act=basis_act,
            norm=norm,
            norm_affine=norm_affine,
            act=act,
            bias=bias,
            init=init,
            checkpointed=False,
            device=device,
            dtype=dtype,
        )
        self.in_features = in_features
        self.out_features = out_features

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., O).

        Raises:
            ValueError: if the last axis of `x` does not have C entries.
        """
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(
                f"KANLinear has in_features={self.in_features}, got an input of shape {tuple(x.shape)}"
            )
        return self._transform(x)

    def _linear_map(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    def _expand(self, z: Tensor) -> Tensor:
        return cast(Tensor, self.basis(z)).flatten(-2)  # (..., C K)

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, init={self.init!r}"
