"""Linear KAN layer. Shapes: C channels (features), K basis functions, O outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch.nn.functional as F
from torch import Tensor

from kanvision.bases import Basis
from kanvision.expansion.contraction import Contraction, MatrixProduct

from .base import KANLayer
from .options import KANOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["KANLinear"]


class KANLinear(KANLayer):
    """Kolmogorov-Arnold layer on the last axis: a basis expansion of every feature and one matrix product.

    y_o = act(norm(sum_i base_weight[o, i] base_act(x_i) + sum_ij basis_weight[o, iK + j] phi_j(x_i) + b_o))

    Liu et al. 2024, "KAN: Kolmogorov-Arnold Networks" (arXiv 2404.19756), in the factorized form of
    efficient-kan.

    Args:
        in_features: Number of input features (size of the last axis), C.
        out_features: Number of output features, O.
        basis: Short name (a key of `kanvision.bases.BASES`) or a ready basis.
        **options: Branches, norms, activations, dropout, start values, memory: see `KANOptions` and
            `kanvision.layers.base.KANLayer`.

    Raises:
        ValueError: A size is not positive or a name is not known.
    """

    ndim = 0

    def __init__(
        self,
        in_features: int,
        out_features: int,
        basis: str | Basis = "bspline",
        **options: Unpack[KANOptions],
    ) -> None:
        for key, value in (("in_features", in_features), ("out_features", out_features)):
            if value < 1:
                raise ValueError(f"{key}={value} must be at least 1")
        super().__init__(
            in_features,
            out_features,
            basis,
            kernel_size=(),
            groups=1,
            **options,
        )
        self.in_features = in_features
        self.out_features = out_features

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., O).

        Raises:
            ValueError: The last axis of `x` does not have C entries.
        """
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(
                f"KANLinear has in_features={self.in_features}, got an input of shape {tuple(x.shape)}"
            )
        return self._transform(x)

    def _contraction(self, x: Tensor) -> Contraction:
        return MatrixProduct()

    def _linear_map(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    def _expand(self, z: Tensor) -> Tensor:
        drop = self.drop if self._drops("squashed") else None
        return cast(Tensor, self.basis(z, squashed=drop)).flatten(-2)  # (..., C K)

    def extra_repr(self) -> str:
        """Return the sizes for `repr`."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, init={self.init!r}"
