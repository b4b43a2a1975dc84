"""Wav-KAN as published: a wavelet with its own shift and scale for every pair of input and output channel.

Shapes: B batch, C input channels of a group, O output channels, *S space.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kanvision.bases.wavelet import WaveletBasis, define_wavelets
from kanvision.expansion.define import evaluate

from .conv import CONV, KANConvNd

__all__ = ["EdgeWaveletConv1d", "EdgeWaveletConv2d", "EdgeWaveletConv3d"]

# Wavelet values computed at once. All of them, B O C *S, are O times the input.
_BUDGET = 2**24


class EdgeWavelets(KANConvNd):
    """Convolution over psi((x_c - shift_oc) / scale_oc), then a 1x1 convolution over the outputs.

    y = act(norm(conv(base_act(x), base_weight) + mix(sum_c conv(psi((x_c - shift_oc) / s_oc), w_oc))))

    with s = sqrt(scale^2 + 1e-6) and w = basis_weight. Bozorgasl and Chen 2024 (arXiv 2405.12832) in the
    convolutional form of Drokin 2024 (arXiv 2407.01092). Each step evaluates O wavelets per input value,
    because every edge has parameters inside its wavelet; `KANConv2d(basis="wavelet")` evaluates one. They are
    computed in slices over the outputs and recomputed in the backward pass, which bounds memory but not time.

    Args:
        *args: As in `KANConvNd`, up to `padding_mode`.
        basis_kwargs: `kind` of the wavelet.
        **kwargs: As in `KANConvNd`; `basis` must be "wavelet" if it is given.

    Raises:
        ValueError: An argument is not legal.
    """

    kan_parameters = ("basis_weight", "shift", "scale", "mix_weight")

    def __init__(self, *args: Any, basis_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if kwargs.setdefault("basis", "wavelet") != "wavelet":
            raise ValueError(
                f"basis={kwargs['basis']!r}: {type(self).__name__} is made of basis='wavelet' only"
            )
        # num_channels=None: this layer, not the basis, has the parameters, one of each kind for each edge.
        wavelet = WaveletBasis(**{**(basis_kwargs or {}), "num_channels": None})
        if wavelet.num_basis != 1:
            raise ValueError(f"num_wavelets={wavelet.num_basis}: there is one wavelet for each edge")
        super().__init__(*args, **{**kwargs, "basis": wavelet})
        outputs, per_group = self.basis_weight.shape[:2]
        like = self.basis_weight
        self.shift = nn.Parameter(like.new_empty(outputs, per_group))
        self.scale = nn.Parameter(like.new_empty(outputs, per_group))
        self.mix_weight = nn.Parameter(like.new_empty(outputs, outputs // self.groups, *(1,) * self.ndim))
        self._reset_mix()

    @torch.no_grad()
    def _reset_mix(self) -> None:
        self.shift.zero_()
        self.scale.fill_(1.0)
        bound = math.sqrt(3 / self.mix_weight.shape[1])
        self.mix_weight.uniform_(-bound, bound)

    def reset_parameters(self) -> None:
        """Initialize all parameters."""
        super().reset_parameters()
        self._reset_mix()

    def no_weight_decay(self) -> set[str]:
        """Return shifts and scales, which weight decay would pull to one value."""
        return {"shift", "scale"}

    @property
    def flops_per_input(self) -> int:
        """Return the operations for one input value: a wavelet for each output of its group."""
        return self.out_channels // self.groups * self.basis.flops_per_input

    def _basis_term(self, z: Tensor) -> None:
        """Return None: edges have functions of their own."""

    def _basis_branch(self, z: Tensor) -> Tensor:
        per_group = self.basis_weight.shape[1]
        outputs = self.out_channels // self.groups
        step = max(1, _BUDGET // max(1, z[:, :per_group].numel()))
        parts = []
        for group in range(self.groups):
            inputs = z[:, group * per_group : (group + 1) * per_group]
            for first in range(group * outputs, (group + 1) * outputs, step):
                rows = slice(first, min(first + step, (group + 1) * outputs))
                edges = (self.shift[rows], self.scale[rows], self.basis_weight[rows])
                parts.append(checkpoint(self._slice, inputs, *edges, use_reentrant=False))
        y = torch.cat(parts, dim=1)
        mixed = CONV[self.ndim](y, self.mix_weight, groups=self.groups)
        return mixed if self.bias is None else mixed + self.bias.view(-1, *(1,) * self.ndim)

    def _slice(self, x: Tensor, shift: Tensor, scale: Tensor, weight: Tensor) -> Tensor:
        """Apply the wavelets of some outputs, (o, C), to inputs (B, C, *S); returns (B, o, *S')."""
        exact = x if x.dtype == torch.float64 else x.float()
        assert isinstance(self.basis, WaveletBasis)
        definition = define_wavelets(self.basis.kind, 1)
        # the outputs are an axis of inputs with one channel for each edge
        edges = [parameter.reshape(-1, 1) for parameter in (shift, scale)]  # (o C, 1)
        spread = exact.unsqueeze(1).expand(-1, len(shift), *x.shape[1:]).flatten(1, 2)  # (B, o C, *S)
        maps = evaluate(definition, spread, edges, 2, 1).squeeze(2)
        return self._convolve(maps.to(x.dtype), weight, None, groups=shift.shape[0])


class EdgeWaveletConv1d(EdgeWavelets):
    """Published Wav-KAN convolution (B, C, L) -> (B, O, L') with the arguments of `KANConv1d`."""

    ndim = 1


class EdgeWaveletConv2d(EdgeWavelets):
    """Published Wav-KAN convolution (B, C, H, W) -> (B, O, H', W') with the arguments of `KANConv2d`."""

    ndim = 2


class EdgeWaveletConv3d(EdgeWavelets):
    """Published Wav-KAN convolution (B, C, D, H, W) -> (B, O, D', H', W'); see `KANConv3d`."""

    ndim = 3
