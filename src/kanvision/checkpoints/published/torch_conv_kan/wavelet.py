"""Wav-KAN layers of torch-conv-kan: a wavelet with its own scale and shift for every pair of channels.

Shapes: G groups, c inputs and o outputs of one, O outputs, *k kernel.

The published convolution has three forms, which compute the same and store their weights differently: `base`
(o convolutions), `fast` (one grouped convolution) and `fast_plus_one` (one of one more space axis).
"""

from __future__ import annotations

import torch
from torch import Tensor

from kanvision.checkpoints.io import CheckpointError
from kanvision.checkpoints.published.strict import Shape, Tensors

__all__ = ["edge_scales", "edge_wavelets", "wavelet_shapes"]

_MIN_SCALE = 1e-3  # `kanvision.bases.wavelet` keeps scales above it
_EVEN = ("mexican_hat", "morlet", "meyer")
_ODD = ("dog",)


def wavelet_shapes(found: Tensors, group: int, o: int, c: int, kernel: Shape) -> dict[str, Shape]:
    """Names and shapes of a group's tensors, in the form in which they are stored."""
    prefix, ones = f"wavelet_conv.{group}.", (1,) * len(kernel)
    shapes: dict[str, Shape] = dict.fromkeys((f"{prefix}scale", f"{prefix}translation"), (1, o, c, *ones))
    shapes[f"{prefix}wavelet_out.weight"] = (o, o, *ones)
    whole = f"{prefix}wavelet_weights.weight"
    if any(name.startswith(f"{prefix}wavelet_weights.") and name != whole for name in found):
        return shapes | {f"{prefix}wavelet_weights.{i}.weight": (1, c, *kernel) for i in range(o)}
    plus_one = whole in found and found[whole].ndim == len(kernel) + 3
    return shapes | {whole: (o, 1, c, *kernel) if plus_one else (o, c, *kernel)}


def edge_wavelets(found: Tensors, groups: int, kernel: Shape, kind: str) -> dict[str, Tensor]:
    """Parameters of an `EdgeWaveletConv` from the tensors of a published layer.

    Raises:
        CheckpointError: See `edge_scales`.
    """
    names = ("basis_weight", "shift", "scale", "mix_weight")
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    for group in range(groups):
        prefix = f"wavelet_conv.{group}."
        scale, sign = edge_scales(found[f"{prefix}scale"].flatten(2)[0], kind)  # (o, c)
        whole = found.get(f"{prefix}wavelet_weights.weight")
        if whole is None:
            rows = range(scale.shape[0])
            whole = torch.cat([found[f"{prefix}wavelet_weights.{row}.weight"] for row in rows])
        weight = whole.reshape(*scale.shape, *kernel)
        parts["basis_weight"].append(weight * sign.reshape(*scale.shape, *(1,) * len(kernel)))
        parts["shift"].append(found[f"{prefix}translation"].flatten(2)[0])
        parts["scale"].append(scale)
        parts["mix_weight"].append(found[f"{prefix}wavelet_out.weight"])
    return {name: torch.cat(values) for name, values in parts.items()}


def edge_scales(published: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Scales s > 0 for which sqrt(s^2 + 1e-6) is the published size, and signs for the weights.

    The sign of a scale mirrors its wavelet, which changes nothing for an even one and the sign of an odd one.

    Raises:
        CheckpointError: If a scale is too close to 0, or the wavelet is another one here.
    """
    if kind not in (*_EVEN, *_ODD):
        raise CheckpointError(
            f"wavelet={kind!r} cannot be loaded: the published window of it lies over the channels, and here "
            f"over the argument; legal values: {', '.join((*_EVEN, *_ODD))}"
        )
    exact = published.double()
    tiny = int((exact.abs() < _MIN_SCALE).sum())
    if tiny:
        raise CheckpointError(
            f"{tiny} of the published wavelet scales are smaller than {_MIN_SCALE:g}, the least that a "
            "wavelet has here"
        )
    sign = exact.sign() if kind in _ODD else torch.ones_like(exact)
    return (exact.square() - _MIN_SCALE**2).sqrt().to(published.dtype), sign.to(published.dtype)
