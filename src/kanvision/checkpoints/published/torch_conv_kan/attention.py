"""Published self-attention of torch-conv-kan, and the one reader for every published layer over a map.

Shapes: C channels, D channels inside, *k kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from kanvision.checkpoints.published.strict import Shape, Tensors, below, most_voted, only
from kanvision.layers import KANSelfAttention1d, KANSelfAttention2d, KANSelfAttention3d

from .bottleneck import BOTTLENECK_OPTIONS, PublishedBottleneck, bottleneck_kind
from .conv import CONV_OPTIONS, GEOMETRY, PublishedConv, conv_kind
from .norm import INFERRED, PublishedNorm

__all__ = ["Part", "PublishedAttention", "is_attention", "read_part"]

_ATTENTION = {1: KANSelfAttention1d, 2: KANSelfAttention2d, 3: KANSelfAttention3d}
_PROJECTIONS = {"q": "proj_q.", "k": "proj_k.", "v": "proj_v."}


def is_attention(found: Tensors) -> bool:
    """Return True if the tensors are those of a published self-attention."""
    return any(name == "gamma" or name.startswith(tuple(_PROJECTIONS.values())) for name in found)


class PublishedAttention:
    """One published self-attention: what its tensors tell, and the same layer here (`parity=True`).

    Args:
        found: Tensors of the layer.
        options: Of its three convolutions, see `read_part`; they keep the size of the map.
        tolerant: See `read_part`.

    Raises:
        CheckpointError: If a size cannot be told.
        ValueError: If an option is not one of this layer, or contradicts the tensors.
    """

    def __init__(self, found: Tensors, options: Mapping[str, Any], tolerant: bool = False) -> None:
        self.found = found
        if tolerant:
            options = {name: value for name, value in options.items() if name not in GEOMETRY}
        only(dict.fromkeys(options.keys() & GEOMETRY.keys()), {}, "a published self-attention (of geometry)")
        self.parts: dict[str, PublishedConv | PublishedBottleneck] = {}
        for name, prefix in _PROJECTIONS.items():
            tensors = below(found, prefix)
            if tensors:
                self.parts[name] = _read_conv(tensors, options, tolerant=tolerant)
        self.kernel = most_voted("the kernel", [part.kernel for part in self.parts.values()])
        for part in self.parts.values():
            part.options["padding"] = tuple(side // 2 for side in part.kernel)
        self.width = most_voted(
            "the channels of the attention",
            [n for p in self.parts.values() for n in (p.in_channels, p.out_channels)],
        )
        self.projected = any(name.startswith(("inner_proj.", "outer_proj.")) for name in found)
        norms = [
            value.shape[0] for name, value in found.items() if name.startswith("norm_layer.") and value.ndim
        ]
        around = [
            found[name].shape[axis]
            for name, axis in _AROUND.items()
            if name in found and found[name].ndim > 1
        ]
        votes = norms + around if self.projected else [*norms, self.width]
        self.in_channels = self.out_channels = most_voted("the number of channels", votes)
        self.norm = PublishedNorm(found, "norm_layer", 1, self.in_channels, options.get("norm", INFERRED))
        self.remarks = [remark for part in self.parts.values() for remark in part.remarks]

    def wanted(self) -> dict[str, Shape]:
        """Names and shapes of the layer's tensors."""
        c, d, ones = self.in_channels, self.width, (1,) * len(self.kernel)
        shapes: dict[str, Shape] = {"gamma": (1,)}
        for name, prefix in _PROJECTIONS.items():
            # all three are alike, so that one tells what another lacks
            part = self.parts.get(name) or next(iter(self.parts.values()))
            shapes |= {prefix + key: shape for key, shape in part.wanted().items()}
        if self.projected:
            shapes |= {"inner_proj.weight": (d, c, *ones), "inner_proj.bias": (d,)}
            shapes |= {"outer_proj.weight": (c, d, *ones), "outer_proj.bias": (c,)}
        return shapes | self.norm.wanted()

    def build(self) -> nn.Module:
        """The layer with its weights; the tensors were checked before."""
        gamma = self.found["gamma"]
        built = {name: self.parts[name].build() for name in _PROJECTIONS}
        made = iter(built.values())
        layer = _ATTENTION[len(self.kernel)](
            self.in_channels,
            self.width if self.projected else None,
            self.kernel,
            conv=lambda *_, **__: next(made),
            parity=True,
            post_norm=self.norm.name,
            norm_affine=self.norm.affine,
            dtype=gamma.dtype,
            device=gamma.device,
        )
        state = {
            f"projections.{name}.{k}": v for name, part in built.items() for k, v in part.state_dict().items()
        }
        state |= {f"post_norm.{name}": value for name, value in self.norm.merged().items()}
        if self.projected:
            for there, here in (("inner_proj.", "inner."), ("outer_proj.", "outer.")):
                state |= {here + name: value for name, value in below(self.found, there).items()}
        layer.load_state_dict({**state, "gamma": gamma})
        return layer


_AROUND = {"inner_proj.weight": 1, "outer_proj.weight": 0}  # axis of C
Part = PublishedConv | PublishedBottleneck | PublishedAttention


def read_part(
    found: Tensors, options: Mapping[str, Any], *, layer: str | None = None, tolerant: bool = False
) -> Part:
    """Read a published layer over a map, of whatever kind it is.

    Args:
        found: Its tensors.
        options: What they do not tell.
        layer: Name of a convolution without bottleneck, where the tensors fit several.
        tolerant: Leave out options that this kind has not, for a network of several kinds.

    Raises:
        CheckpointError: If the tensors fit no layer, or a size cannot be told.
        ValueError: If an option is not legal.
    """
    if is_attention(found):
        return PublishedAttention(found, options, tolerant)
    return _read_conv(found, options, layer, tolerant)


def _read_conv(
    found: Tensors, options: Mapping[str, Any], layer: str | None = None, tolerant: bool = False
) -> PublishedConv | PublishedBottleneck:
    legal = {*GEOMETRY, "norm"}
    kind = bottleneck_kind(found)
    if kind is not None:
        legal |= set(BOTTLENECK_OPTIONS[kind])
        return PublishedBottleneck(found, kind, **_those(options, legal, tolerant))
    kind = conv_kind(found, layer)
    legal |= set(CONV_OPTIONS[kind])
    return PublishedConv(found, kind, **_those(options, legal, tolerant))


def _those(options: Mapping[str, Any], legal: set[str], tolerant: bool) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name in legal or not tolerant}
