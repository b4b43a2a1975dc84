"""Segmenters of segmentation-models-pytorch, over its encoders or any model that timm knows.

B batch, C channels, H W space.
"""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .registry import spelt_out

__all__ = ["Segmenter", "create_segmenter"]

TIMM_PREFIX = "tu-"
MAX_DEPTH = 5
"""Halvings of the resolution in an encoder of full depth."""


class Segmenter(nn.Module):
    """A segmentation network that takes images of any size.

    Images are padded at the right and at the bottom by repeating their last row and column, up to the next
    multiple of the stride; the output is cut back to the size of the input.

    Args:
        network: Maps (B, C, H, W) to (B, num_classes, H, W) where H and W are multiples of `stride`.
        num_classes: Channels of the output.
        stride: Factor between the image and the smallest feature map.
    """

    def __init__(self, network: nn.Module, *, num_classes: int, stride: int) -> None:
        super().__init__()
        self.network = network
        self.num_classes = num_classes
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, num_classes, H, W)."""
        height, width = x.shape[-2:]
        below, beside = -height % self.stride, -width % self.stride
        if below or beside:
            x = F.pad(x, (0, beside, 0, below), mode="replicate")
        logits: Tensor = self.network(x)
        return logits[..., :height, :width]


def create_segmenter(
    name: str,
    *,
    encoder_name: str = "resnet18",
    encoder_weights: str | None = None,
    num_classes: int,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    **kwargs: Any,
) -> Segmenter:
    """Build an encoder-decoder by name.

    An encoder that halves the resolution fewer than five times gets a decoder of its own depth.

    Args:
        name: Architecture of segmentation-models-pytorch, in any case: Unet, UnetPlusPlus, FPN, ...
        encoder_name: Encoder of segmentation-models-pytorch, or `tu-<model>` for one of timm or kanvision.
        encoder_weights: Published weights of the encoder, None for a random start; with a `tu-` encoder any
            text loads the weights that timm names for it.
        num_classes: Channels of the output.
        in_chans: Channels of the input.
        drop_rate: Must be 0: the networks differ in whether and where they drop.
        drop_path_rate: Stochastic depth of the encoder; only `tu-` encoders have it.
        **kwargs: More arguments of the architecture (`decoder_channels`) and of a `tu-` encoder (`basis`).

    Raises:
        ValueError: A name is unknown, or a setting does not fit it.
    """
    import segmentation_models_pytorch as smp

    architectures = {key.lower(): cls for key, cls in smp.MODEL_ARCHITECTURES_MAPPING.items()}
    if name.lower() not in architectures:
        raise ValueError(_unknown("model.name", name, [cls.__name__ for cls in architectures.values()]))
    if drop_rate:
        raise ValueError(
            f"model.drop_rate={drop_rate}: segmenters have no common place to drop; legal: 0. Some "
            "architectures take their own argument, see model.kwargs"
        )
    if encoder_name.startswith(TIMM_PREFIX):
        kwargs = _timm_encoder_arguments(encoder_name, architectures[name.lower()]) | spelt_out(kwargs)
        if drop_path_rate:
            kwargs["drop_path_rate"] = drop_path_rate
    elif encoder_name not in smp.encoders.encoders:
        legal = [*smp.encoders.encoders, *(TIMM_PREFIX + model for model in timm.list_models())]
        raise ValueError(_unknown("model.encoder_name", encoder_name, legal))
    elif drop_path_rate:
        raise ValueError(
            f"model.drop_path_rate={drop_path_rate}: encoder {encoder_name} has no stochastic depth; "
            f"legal: 0, or an encoder {TIMM_PREFIX}<timm model> that has it"
        )
    network = smp.create_model(
        name,
        encoder_name=encoder_name,
        encoder_weights=encoder_weights,
        in_channels=in_chans,
        classes=num_classes,
        **kwargs,
    )
    return Segmenter(network, num_classes=num_classes, stride=network.encoder.output_stride)


def _timm_encoder_arguments(encoder_name: str, architecture: type[nn.Module]) -> dict[str, Any]:
    """Depth of the encoder, and one decoder width for each of its halvings, where it has fewer than usual."""
    model = encoder_name.removeprefix(TIMM_PREFIX)
    if not timm.is_model(model):
        legal = [TIMM_PREFIX + known for known in timm.list_models()]
        raise ValueError(_unknown("model.encoder_name", encoder_name, legal))
    with torch.device("meta"):
        backbone: Any = timm.create_model(model, features_only=True)
    reductions: list[int] = backbone.feature_info.reduction()
    if architecture.__name__ == "DPT":  # brings its own pyramid to encoders that have none
        return {}
    if any(fine * 2 != coarse for fine, coarse in pairwise(reductions)):
        scales = ", ".join(f"1/{reduction}" for reduction in reductions)
        raise ValueError(
            f"model.encoder_name={encoder_name!r} has feature maps of {scales} of the image's side, but "
            f"{architecture.__name__} needs one at each halving; take another, or model.name=DPT"
        )
    depth = min(MAX_DEPTH, int(math.log2(max(reductions))))
    if depth == MAX_DEPTH:
        return {}
    arguments: dict[str, Any] = {"encoder_depth": depth}
    widths = inspect.signature(architecture).parameters.get("decoder_channels")
    if widths is not None and isinstance(widths.default, tuple):
        arguments["decoder_channels"] = widths.default[-depth:]
    return arguments


def _unknown(key: str, value: str, legal: Iterable[str]) -> str:
    """Message for an unknown name, with the names most like it or, where none is, some of the legal ones."""
    names = {name.lower(): name for name in sorted(legal)}
    close = [names[match] for match in difflib.get_close_matches(value.lower(), names, n=3)]
    hint = f"nearest: {', '.join(close)}" if close else f"legal: {', '.join(list(names.values())[:20])}, ..."
    return f"{key}={value!r} is unknown; {hint}"
