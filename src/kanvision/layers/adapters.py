"""KAN layers with frozen weights and small trainable additions.

Shapes: C channels, G groups, O outputs, K released basis functions, E extra ones, T chosen ones, R rank,
*k kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from kanvision.bases import GramBasis

from .base import KANLayer
from .conv import KANConv1d, KANConv2d, KANConv3d
from .linear import KANLinear

__all__ = [
    "ADAPTED",
    "AdaptedGramBasis",
    "AdaptedKANConv1d",
    "AdaptedKANConv2d",
    "AdaptedKANConv3d",
    "AdaptedKANLayer",
    "AdaptedKANLinear",
    "KANAdapter",
]


class KANAdapter(nn.Module):
    """Trainable additions to the frozen weights of one layer; zero at the start.

    W'_oij = W_oij + (up down)_o,ij + delta_ot (j the t-th chosen function),  W'_oi,K+t = extra_oit,
    V' = V + base_up base_down

    with W the basis weights as (O, C/G, K, *k), V the base weights, and both reshaped to matrices of O rows
    for the low-rank terms (Hu et al. 2021, "LoRA", arXiv 2106.09685; there with a constant factor, which only
    rescales the learning rate). One of two factors starts at U(-b, b), b = 1 / sqrt(columns), the other at 0.

    Args:
        layer: Layer with released weights.
        extra_degrees: Number of extra functions, E.
        degrees: Indices of the chosen functions, increasing.
        rank: Rank R of the term on the basis weights; 0 for none.
        base_rank: Rank R of the term on the base weights; 0 for none.
    """

    def __init__(
        self, layer: KANLayer, *, extra_degrees: int, degrees: Sequence[int], rank: int, base_rank: int
    ) -> None:
        super().__init__()
        self.num_basis = layer.basis.num_basis
        self.degrees = tuple(degrees)
        released = layer.basis_weight
        out, maps, *kernel = released.shape
        inputs = maps // self.num_basis
        self.delta = _zeros(released, out, inputs, len(degrees), *kernel)
        self.extra = _zeros(released, out, inputs, extra_degrees, *kernel)
        self.down = _zeros(released, rank, released[0].numel())
        self.up = _zeros(released, out, rank)
        fan = layer.base_weight[0].numel() if layer.base_weight is not None else 0
        self.base_down = _zeros(released, base_rank, fan)
        self.base_up = _zeros(released, out, base_rank)
        own = {"delta": self.delta, "extra": self.extra, "down": self.down, "up": self.up}
        self.kan_parameters = tuple(name for name, value in own.items() if value is not None)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialize the additions, so that outputs are those of the released layer."""
        for parameter in self.parameters():
            parameter.zero_()
        for down in (self.down, self.base_down):
            if down is not None:
                bound = down.shape[1] ** -0.5
                down.uniform_(-bound, bound)

    def basis_weight(self, released: Tensor) -> Tensor:
        """Map W, (O, C/G K, *k), to W', (O, C/G (K + E), *k)."""
        weight = _with_product(released, self.up, self.down)
        if self.delta is None and self.extra is None:
            return weight
        out, maps, *kernel = weight.shape
        weight = weight.reshape(out, maps // self.num_basis, self.num_basis, *kernel)  # (O, C/G, K, *k)
        if self.delta is not None:
            weight = _with_slices(weight, self.delta, self.degrees, 2)
        if self.extra is not None:
            weight = torch.cat([weight, self.extra], 2)  # (O, C/G, K + E, *k)
        return weight.flatten(1, 2)

    def base_weight(self, released: Tensor) -> Tensor:
        """Return V' from the released V, both (O, C/G, *k)."""
        return _with_product(released, self.base_up, self.base_down)

    def extra_repr(self) -> str:
        """Return the adapted parts for `repr`."""
        parts = [f"degrees={self.degrees}"] if self.degrees else []
        sizes = {
            "extra_degrees": None if self.extra is None else self.extra.shape[2],
            "rank": None if self.up is None else self.up.shape[1],
            "base_rank": None if self.base_up is None else self.base_up.shape[1],
        }
        return ", ".join(parts + [f"{key}={size}" for key, size in sizes.items() if size is not None])


class AdaptedKANLayer(KANLayer):
    """Mixin of adapted layers: the forward pass of the plain layer, with the effective weights.

    Padding, groups, dropout, recomputation and edge scales are those of the plain layer, because each branch
    has one weight, which every pass recomputes, and no second convolution. The frozen weights keep their
    names in the state dictionary.
    """

    adapter: KANAdapter
    frozen: tuple[str, ...]
    """Names of the parameters that were trainable before."""

    def edge_weight(self) -> Tensor:
        """Return the effective basis weights times the edge scales, (O, C/G (K + E), *k)."""
        weight = self.adapter.basis_weight(self.basis_weight)
        if self.edge_scale is None:
            return weight
        return (self._by_function(weight) * self.edge_scale.unsqueeze(2)).flatten(1, 2)

    def base_map(self) -> Tensor | None:
        """Return the effective base weights, (O, C/G, *k)."""
        return None if self.base_weight is None else self.adapter.base_weight(self.base_weight)

    def reset_parameters(self) -> None:
        """Initialize the adapters; released weights are kept."""
        self.adapter.reset_parameters()
        if isinstance(self.basis, AdaptedGramBasis):
            self.basis.reset_parameters()


class AdaptedKANLinear(KANLinear, AdaptedKANLayer):
    """`KANLinear` with a `KANAdapter`."""


class AdaptedKANConv1d(KANConv1d, AdaptedKANLayer):
    """`KANConv1d` with a `KANAdapter`."""


class AdaptedKANConv2d(KANConv2d, AdaptedKANLayer):
    """`KANConv2d` with a `KANAdapter`."""


class AdaptedKANConv3d(KANConv3d, AdaptedKANLayer):
    """`KANConv3d` with a `KANAdapter`."""


ADAPTED: dict[type[KANLayer], type[AdaptedKANLayer]] = {
    KANLinear: AdaptedKANLinear,
    KANConv1d: AdaptedKANConv1d,
    KANConv2d: AdaptedKANConv2d,
    KANConv3d: AdaptedKANConv3d,
}


class AdaptedGramBasis(GramBasis):
    """Gram polynomials whose learned recurrence is frozen except for chosen steps.

    p_{n+1} = x p_n - (beta_n + delta_n) C_n p_{n-1}, with delta_n = 0 at the start, for the steps n = i - 1
    that produce the adapted degrees i; all other delta_n are 0. The deltas are one vector indexed by the
    step, so that merging is an addition. (The published code uses the delta of degree i at step i and the
    last delta at the first extra step, and merging adds them at other indices.)
    """

    beta_delta: nn.Parameter
    steps: tuple[int, ...]

    @staticmethod
    def adapt(basis: GramBasis, steps: Sequence[int]) -> AdaptedGramBasis:
        """Return an adapted copy of a basis."""
        assert basis.beta is not None
        basis.__class__ = AdaptedGramBasis
        adapted = cast(AdaptedGramBasis, basis)
        adapted.steps = tuple(steps)
        adapted.beta_delta = nn.Parameter(torch.zeros_like(basis.beta[: len(steps)]))
        adapted.kan_parameters = ("beta_delta",)
        return adapted

    def factors(self) -> Tensor:
        """Return the factors of the steps n = 1 ... degree - 1."""
        released = super().factors()
        assert released is not None
        return _with_slices(released, self.beta_delta, [step - 1 for step in self.steps], 0)

    @torch.no_grad()
    def merged(self) -> GramBasis:
        """Return the plain basis that has the same values."""
        assert self.beta is not None
        indices = [step if self.parity else step - 1 for step in self.steps]
        self.beta = nn.Parameter(
            _with_slices(self.beta, self.beta_delta, indices, 0), self.beta.requires_grad
        )
        del self.beta_delta, self.steps
        self.__class__ = GramBasis  # type: ignore[assignment]
        self.kan_parameters = ("beta",)
        return self

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialize the deltas; the released beta is kept."""
        self._reset_recurrence()
        self.beta_delta.zero_()


def _zeros(like: Tensor, *shape: int) -> nn.Parameter | None:
    return nn.Parameter(like.detach().new_zeros(shape)) if 0 not in shape else None


def _with_product(weight: Tensor, up: Tensor | None, down: Tensor | None) -> Tensor:
    """Return a weight plus the product of two factors, in the shape of the weight."""
    if up is None or down is None:
        return weight
    return weight + (up @ down).view(weight.shape)  # (O, R) (R, columns)


def _with_slices(whole: Tensor, parts: Tensor, indices: Sequence[int], dim: int) -> Tensor:
    """Return a tensor with `parts` added at some indices of an axis, without an index on the device."""
    pieces, end = [], 0
    for number, index in enumerate(indices):
        pieces.append(whole.narrow(dim, end, index - end))
        pieces.append(whole.narrow(dim, index, 1) + parts.narrow(dim, number, 1))
        end = index + 1
    return torch.cat([*pieces, whole.narrow(dim, end, whole.shape[dim] - end)], dim)
