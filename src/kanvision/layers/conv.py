"""Convolutional KAN layers in one, two and three dimensions.

Shapes: B batch, C channels, *S space, K basis functions, O output channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import torch.nn.functional as F
from torch import Tensor

from kanvision.bases import Basis
from kanvision.expansion.contraction import Contraction, Convolution

from .base import KANLayer
from .options import KANOptions, check_channels

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["KANConv1d", "KANConv2d", "KANConv3d", "KANConvNd"]

CONV: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_PADDING_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}
_PAD_SPACES = ("basis", "input")


class KANConvNd(KANLayer):
    """Kolmogorov-Arnold convolution: a basis expansion of every channel and one convolution of the maps.

    y = act(norm(conv(base_act(x), base_weight) + conv(basis_act(phi(input_norm(x))), basis_weight) + bias))

    Drokin 2024, "Kolmogorov-Arnold Convolutions" (arXiv 2407.01092). The published layers are in
    `kanvision.layers.PRESETS`.

    Args:
        in_channels: Number of input channels, C.
        out_channels: Number of output channels, O.
        kernel_size: An int or one per space axis, as are stride, padding and dilation.
        stride: Stride of the kernel.
        padding: Padding on both sides of every axis, "same" (stride 1 only) or "valid".
        dilation: Dilation of the kernel.
        groups: Number of independent groups of channels; divides C and O.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        basis: Short name (a key of `kanvision.bases.BASES`) or a ready basis.
        pad_space: Meaning of zero padding. "basis" pads the maps of both branches with 0, as published, so
            that a constant basis function (P_0 = 1) marks the inside of the image. "input" pads `x` and the
            input of the basis with 0, so that the border has the values phi_j(0). Other padding modes copy
            inputs from inside, for which both are equivalent.
        **options: Options of branches, norms, activations, dropout, initialization and memory, see
            `KANOptions` and `kanvision.layers.base.KANLayer`.

    Raises:
        ValueError: A size, a name or a combination of them is not legal.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        basis: str | Basis = "bspline",
        *,
        pad_space: str = "basis",
        **options: Unpack[KANOptions],
    ) -> None:
        check_channels(in_channels, out_channels, groups)
        if padding_mode not in _PADDING_MODES:
            raise ValueError(
                f"padding_mode={padding_mode!r} is not known; legal values: {', '.join(_PADDING_MODES)}"
            )
        if pad_space not in _PAD_SPACES:
            raise ValueError(f"pad_space={pad_space!r} is not known; legal values: {', '.join(_PAD_SPACES)}")
        kernel = self._per_axis("kernel_size", kernel_size, minimum=1)
        super().__init__(
            in_channels,
            out_channels,
            basis,
            kernel_size=kernel,
            groups=groups,
            **options,
        )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel
        self.stride = self._per_axis("stride", stride, minimum=1)
        self.dilation = self._per_axis("dilation", dilation, minimum=1)
        self.padding_mode = padding_mode
        self.pad_space = pad_space
        self.padding = self._pad_sides(padding)

    @classmethod
    def _per_axis(cls, key: str, value: int | Sequence[int], *, minimum: int) -> tuple[int, ...]:
        entries = tuple(value) if isinstance(value, Sequence) else (value,) * cls.ndim
        if len(entries) != cls.ndim or any(
            not isinstance(entry, int) or entry < minimum for entry in entries
        ):
            raise ValueError(f"{key}={value!r} must be an int or {cls.ndim} of them, each at least {minimum}")
        return entries

    def _pad_sides(self, padding: int | Sequence[int] | str) -> tuple[tuple[int, int], ...]:
        """Return the padding (before, after) of every space axis."""
        if not isinstance(padding, str):
            return tuple((cells, cells) for cells in self._per_axis("padding", padding, minimum=0))
        if padding == "valid":
            return ((0, 0),) * self.ndim
        if padding != "same":
            raise ValueError(
                f"padding={padding!r} is not known; legal values: an int, a tuple of ints, 'same', 'valid'"
            )
        if any(step != 1 for step in self.stride):
            raise ValueError(f"padding='same' needs stride=1, got stride={self.stride}")
        totals = [reach * (taps - 1) for reach, taps in zip(self.dilation, self.kernel_size, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, *S) to (B, O, *S').

        Raises:
            ValueError: if `x` does not have C channels and the right number of space axes.
        """
        if x.ndim != self.ndim + 2 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"{type(self).__name__} takes (B, {self.in_channels}, {self.ndim} space axes), "
                f"got an input of shape {tuple(x.shape)}"
            )
        return self._transform(x)

    @property
    def _pads_input(self) -> bool:
        return self.padding_mode != "zeros" or self.pad_space == "input"

    def _pad(self, x: Tensor, mode: str) -> Tensor:
        # F.pad counts axes from the last one.
        sides = [cells for pair in reversed(self.padding) for cells in pair]
        return F.pad(x, sides, mode=mode) if any(sides) else x

    def _padded(self, x: Tensor) -> Tensor:
        """Pad inputs where the convolution itself cannot."""
        return self._pad(x, _PADDING_MODES[self.padding_mode]) if self._pads_input else x

    def _expand(self, z: Tensor, constant: bool = True) -> Tensor:
        drop = self.drop if self._drops("squashed") else None
        if z.shape[1] > 1 and z.stride(1) == 1:
            # channels_last: expanding the innermost axis keeps the memory layout for the convolution.
            last = None if drop is None else lambda y: self.drop(y.movedim(-1, 1)).movedim(1, -1)
            return cast(Tensor, self.basis(z.movedim(1, -1), -1, constant, last)).flatten(-2).movedim(-1, 1)
        return cast(Tensor, self.basis(z, 1, constant, drop)).flatten(1, 2)  # (B, C K, *S)

    def _contraction(self, x: Tensor) -> Contraction | None:
        if self._pads_input:
            padding: tuple[int, ...] = (0,) * self.ndim
        else:
            padding = tuple([before for before, _ in self.padding])
            if padding != tuple([behind for _, behind in self.padding]):
                return None
        # Expanding the innermost axis keeps the memory layout for the convolution.
        inside = self.groups == 1 and x.shape[1] > 1 and x.stride(1) == 1
        return Convolution(self.stride, padding, self.dilation, self.groups, inside)

    def _sum_branches(self, z: Tensor, x: Tensor) -> Tensor:
        if not self._pads_input:
            return super()._sum_branches(z, x)
        padded = self._padded(x)
        return super()._sum_branches(padded if z is x else self._padded(z), padded)

    def _basis_parts(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return maps and weights of the basis branch, and an input-independent summand (1, O, *S')."""
        if not self.basis.has_constant or self.basis.num_basis == 1 or self._drops("basis"):
            return self._dropped("basis", self.basis_act(self._expand(z))), self.edge_weight(), None
        # A constant function has C equal maps, a Kth of the work; one map with the sum of their weights is
        # equivalent.
        weight = self._by_function(self.edge_weight())  # (O, C/g, K, *k)
        constant, varying = weight[:, :, :1], weight[:, :, 1:]
        level = self.basis_act(z.new_ones(1, 1, *z.shape[2:]))
        offset = self._convolve(level, constant.flatten(1, 2).sum(1, keepdim=True), None, groups=1)
        return self.basis_act(self._expand(z, False)), varying.flatten(1, 2), offset

    def _linear_map(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self._convolve(x, weight, bias, self.groups)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
        padding: Sequence[int] = (0,) * self.ndim
        if not self._pads_input:
            if all(before == behind for before, behind in self.padding):
                padding = [before for before, _ in self.padding]
            else:
                x = self._pad(x, "constant")
        return CONV[self.ndim](x, weight, bias, self.stride, padding, self.dilation, groups)

    def extra_repr(self) -> str:
        """Return the geometry for `repr`."""
        parts = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        ]
        parts += [f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}"]
        parts += [f"padding_mode={self.padding_mode!r}, pad_space={self.pad_space!r}, init={self.init!r}"]
        return ", ".join(parts)


class KANConv1d(KANConvNd):
    """Kolmogorov-Arnold convolution (B, C, L) -> (B, O, L') with the arguments of `KANConvNd`."""

    ndim = 1


class KANConv2d(KANConvNd):
    """Kolmogorov-Arnold convolution (B, C, H, W) -> (B, O, H', W') with the arguments of `KANConvNd`."""

    ndim = 2


class KANConv3d(KANConvNd):
    """Kolmogorov-Arnold convolution (B, C, D, H, W) -> (B, O, D', H', W'); see `KANConvNd`."""

    ndim = 3
