"""Feature maps by their position in a network, under the same names for all networks.

B batch, C channels, H W space, N tokens.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn

from kanvision.spec.models import LOCATIONS

__all__ = ["FeatureLocation", "feature_location", "feature_locations", "unet_feature_locations"]


class FeatureLocation(NamedTuple):
    """Input or output of a module that is a feature map."""

    module: nn.Module
    is_input: bool = False
    """True for the first argument of the module, False for its output."""
    items: tuple[int, ...] = ()
    """Indices into nested lists of maps, empty if the input or output is a map itself."""
    channels_last: bool = False
    """True for a map (B, H, W, C); otherwise it is (B, C, H, W), or tokens (B, N, C)."""
    num_prefix_tokens: int = 0
    """Number of tokens before those of the image."""


def unet_feature_locations(
    encoder: nn.ModuleList, decoder: nn.ModuleList, middle: nn.Module | None = None
) -> dict[str, FeatureLocation]:
    """Return the feature locations of an encoder-decoder network.

    Args:
        encoder: Stages of the encoder.
        decoder: Stages of the decoder; the head follows the last one.
        middle: Module between encoder and decoder; None for none.
    """
    return {
        "encoder_last": FeatureLocation(encoder[-1]),
        "bottleneck": FeatureLocation(encoder[-1] if middle is None else middle),
        "decoder_last": FeatureLocation(decoder[-1]),
    }


def feature_locations(model: nn.Module) -> dict[str, FeatureLocation]:
    """Return the locations of the named positions that a network has.

    A segmenter defines its own. A classifier has `encoder_last`, the last module of timm's `feature_info`.
    For a transformer block it is the input of the block, because only the class token of its output may
    reach the classifier.
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
        name: One of `LOCATIONS`, or the dotted path of a module whose output is (B, C, H, W) or (B, N, C).

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
            f"layer={name!r}: {type(model).__name__} has no such location; its locations: {legal}; "
            f"or the path of a module: {children}, ..."
        )
    return FeatureLocation(modules[name], num_prefix_tokens=getattr(model, "num_prefix_tokens", 0))
