"""Feature maps by their position in a network, under the same names for all networks.

B batch, C channels, H W space, N tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn

__all__ = ["LOCATIONS", "FeatureLocation", "feature_location", "feature_locations", "unet_feature_locations"]

LOCATIONS: Mapping[str, str] = {
    "encoder_last": "last map of the encoder",
    "bottleneck": "deepest map of a segmenter, with which its decoder begins",
    "decoder_last": "last map of a segmenter's decoder, what its head gets",
}
"""Positions that have a name."""


class FeatureLocation(NamedTuple):
    """Input or output of a module that is a feature map."""

    module: nn.Module
    is_input: bool = False
    """Whether it is what the module gets first, and not what it gives."""
    items: tuple[int, ...] = ()
    """Which one, where that is a list of maps, or a list of such lists."""
    channels_last: bool = False
    """Whether it is (B, H, W, C). All else is (B, C, H, W), or tokens (B, N, C)."""
    num_prefix_tokens: int = 0
    """Tokens in front of those of the image."""


def unet_feature_locations(
    encoder: nn.ModuleList, decoder: nn.ModuleList, middle: nn.Module | None = None
) -> dict[str, FeatureLocation]:
    """Return the feature locations of an encoder-decoder network.

    Args:
        encoder: Stages on the way down.
        decoder: Stages on the way up, whose last one is followed by the head.
        middle: What is between the two; None: nothing.
    """
    return {
        "encoder_last": FeatureLocation(encoder[-1]),
        "bottleneck": FeatureLocation(encoder[-1] if middle is None else middle),
        "decoder_last": FeatureLocation(decoder[-1]),
    }


def feature_locations(model: nn.Module) -> dict[str, FeatureLocation]:
    """Return the locations of the named positions that a network has.

    A segmenter tells its own. A classifier has `encoder_last`, the last of timm's `feature_info`; where that
    is a block of a transformer, what goes into the block: what comes out of it may reach the classifier by
    the class token alone.
    """
    own: Any = getattr(model, "feature_locations", None)
    if callable(own):
        found: dict[str, FeatureLocation] = own()
        return found
    info: Any = getattr(model, "feature_info", None)
    if not info:
        return {}
    module = model.get_submodule(info[-1]["module"])
    prefix: Any = getattr(model, "num_prefix_tokens", None)
    if prefix is not None:
        return {"encoder_last": FeatureLocation(module, is_input=True, num_prefix_tokens=prefix)}
    return {
        "encoder_last": FeatureLocation(module, channels_last=getattr(model, "output_fmt", "NCHW") == "NHWC")
    }


def feature_location(model: nn.Module, name: str) -> FeatureLocation:
    """Return the location of the feature map at a position, or of the output of a module.

    Args:
        model: A segmenter or classifier.
        name: One of `LOCATIONS`, or the dotted path of a module that gives (B, C, H, W) or (B, N, C).

    Raises:
        ValueError: The network has no such position or module.
    """
    locations = feature_locations(model)
    if name in locations:
        return locations[name]
    modules = dict(model.named_modules())
    if name in LOCATIONS or name not in modules or not name:
        legal = ", ".join(locations) or "none by name"
        children = ", ".join(path for path in modules if path and path.count(".") < 2)
        raise ValueError(
            f"layer={name!r}: {type(model).__name__} has no such place; its places: {legal}; "
            f"or the path of a module: {children}, ..."
        )
    return FeatureLocation(modules[name], num_prefix_tokens=getattr(model, "num_prefix_tokens", 0))
