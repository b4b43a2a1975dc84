"""Segmentation networks for images of any size, of kanvision and of segmentation-models-pytorch (smp).

B batch, C channels, H W space.
"""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg
from torch import Tensor, nn

from .feature_locations import FeatureLocation
from .registry import create_model, encode_none_arguments, is_segmenter, list_models
from .timm_protocol import TimmProtocolMixin

__all__ = ["Segmenter", "build_segmenter", "create_segmenter", "segmenter_cfg"]

TIMM_PREFIX = "tu-"
MAX_DEPTH = 5
"""Halvings of the resolution in an encoder of full depth."""


class Segmenter(TimmProtocolMixin):
    """Segmentation network that accepts images of any size.

    Images are padded at the right and at the bottom by repeating their last row and column, up to the next
    multiple of the stride; the output is cropped to the size of the input.

    A network with deep supervision returns a tuple of logits in training, whose losses are to be summed; the
    first ones are those of evaluation.

    Args:
        network: Module that maps (B, C, H, W) to (B, num_classes, H, W), or to a tuple of such logits, where
            H and W are multiples of `stride`.
        num_classes: Number of classes, the output channels.
        stride: Side of the image divided by the side of the smallest feature map.
    """

    def __init__(self, network: nn.Module, *, num_classes: int, stride: int) -> None:
        super().__init__()
        self.network = network
        self.num_classes = num_classes
        self.stride = stride

    def forward(self, x: Tensor) -> Any:
        """Map images (B, C, H, W) to logits (B, num_classes, H, W), or in training to a tuple of logits."""
        height, width = x.shape[-2:]
        below, beside = -height % self.stride, -width % self.stride
        if below or beside:
            x = F.pad(x, (0, beside, 0, below), mode="replicate")
        output: Tensor | tuple[Tensor, ...] = self.network(x)
        if isinstance(output, tuple):
            return tuple(logits[..., :height, :width] for logits in output)
        return output[..., :height, :width]

    def feature_locations(self) -> dict[str, FeatureLocation]:
        """Return the feature maps by position, see `kanvision.spec.models.LOCATIONS`."""
        network: Any = self.network
        if callable(own := getattr(network, "feature_locations", None)):
            found: dict[str, FeatureLocation] = own()
            return found
        # Networks of smp; the encoder of DPT returns maps and prefix tokens.
        deepest = FeatureLocation(
            network.encoder, items=(0, -1) if type(network).__name__ == "DPT" else (-1,)
        )
        head = FeatureLocation(network.segmentation_head, is_input=True)
        return {"encoder_last": deepest, "bottleneck": deepest, "decoder_last": head}


def build_segmenter(network: Callable[..., nn.Module], variant: str, pretrained: bool, **kwargs: Any) -> Any:
    """Build a segmentation network of kanvision for images of any size, as an entrypoint of timm does.

    Args:
        network: Class with the attributes `num_classes`, `in_chans` and `stride`.
        variant: Registered name of the model.
        pretrained: Load published weights (timm reports that there are none).
        **kwargs: Arguments of the network and of timm's builder.

    Raises:
        ValueError: `features_only` is set.
    """
    if kwargs.pop("features_only", False):
        raise ValueError(
            f"{variant} is a segmentation network and not an encoder; features_only is not available"
        )
    return build_model_with_cfg(partial(_for_any_size, network), variant, pretrained, **kwargs)


def _for_any_size(network: Callable[..., nn.Module], **kwargs: Any) -> Segmenter:
    built: Any = network(**kwargs)
    segmenter = Segmenter(built, num_classes=built.num_classes, stride=built.stride)
    segmenter.in_chans = built.in_chans
    return segmenter


def segmenter_cfg(paper: str | None, img_size: int = 256) -> dict[str, Any]:
    """Return the default configuration, in timm's terms, of a segmentation network of an arXiv paper."""
    return {
        "num_classes": 1,
        "input_size": (3, img_size, img_size),
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": None,
        "classifier": "network.head.conv",
        "paper_ids": paper and f"arXiv:{paper}",
    }


def create_segmenter(
    name: str,
    *,
    encoder_name: str | None = None,
    encoder_weights: str | None = None,
    num_classes: int,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    **kwargs: Any,
) -> Segmenter:
    """Build a segmentation network of kanvision or of smp by name.

    An encoder of timm that halves the resolution fewer than five times gets a decoder of the same depth.

    Args:
        name: Registered network of kanvision (`ukan_medium`), or architecture of smp in upper or lower case:
            Unet, UnetPlusPlus, FPN, ...
        encoder_name: Encoder of smp, or `tu-<model>` for a model of timm or kanvision; None is resnet18.
            Networks of kanvision have fixed encoders.
        encoder_weights: Published weights of the encoder, or None for random weights; with a `tu-` encoder
            any text loads timm's default weights.
        num_classes: Number of classes, the output channels.
        in_chans: Channels of the input.
        drop_rate: Dropout before the last layer of networks of kanvision; must be 0 for those of smp, which
            have no common dropout.
        drop_path_rate: Rate of stochastic depth; networks of smp have it only with `tu-` encoders.
        **kwargs: More arguments of the architecture (`decoder_channels`) and of a `tu-` encoder (`basis`), or
            of the network of kanvision.

    Raises:
        ValueError: A name is unknown, or a setting is not legal for it.
    """
    if is_segmenter(name):
        for key, value in (("encoder_name", encoder_name), ("encoder_weights", encoder_weights)):
            if value is not None:
                raise ValueError(f"model.{key}={value!r}: {name} has a fixed encoder; remove this setting")
        rates = {"drop_rate": drop_rate, "drop_path_rate": drop_path_rate}
        ours: Any = create_model(name, num_classes=num_classes, in_chans=in_chans, **rates, **kwargs)
        return ours  # type: ignore[no-any-return]
    import segmentation_models_pytorch as smp

    encoder_name = encoder_name or "resnet18"
    architectures = {key.lower(): cls for key, cls in smp.MODEL_ARCHITECTURES_MAPPING.items()}
    if name.lower() not in architectures:
        legal = [*(cls.__name__ for cls in architectures.values()), *list_models(kind="segmenter")]
        raise ValueError(_unknown("model.name", name, legal))
    if drop_rate:
        raise ValueError(
            f"model.drop_rate={drop_rate}: segmenters of smp have no common dropout; legal: 0. Some "
            "architectures take their own argument, see model.kwargs"
        )
    if encoder_name.startswith(TIMM_PREFIX):
        kwargs = _timm_encoder_arguments(encoder_name, architectures[name.lower()]) | encode_none_arguments(
            kwargs
        )
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
    """Return depth and decoder widths for an encoder that halves the resolution fewer than five times."""
    model = encoder_name.removeprefix(TIMM_PREFIX)
    if not timm.is_model(model):
        legal = [TIMM_PREFIX + known for known in timm.list_models()]
        raise ValueError(_unknown("model.encoder_name", encoder_name, legal))
    with torch.device("meta"):
        backbone: Any = timm.create_model(model, features_only=True)
    reductions: list[int] = backbone.feature_info.reduction()
    if architecture.__name__ == "DPT":  # builds a pyramid for encoders without one
        return {}
    if any(fine * 2 != coarse for fine, coarse in pairwise(reductions)):
        scales = ", ".join(f"1/{reduction}" for reduction in reductions)
        raise ValueError(
            f"model.encoder_name={encoder_name!r} has feature maps of {scales} of the image's side, but "
            f"{architecture.__name__} needs one at each halving; use another, or model.name=DPT"
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
    """Return the message for an unknown name, with the closest legal names or some legal names."""
    names = {name.lower(): name for name in sorted(legal)}
    close = [names[match] for match in difflib.get_close_matches(value.lower(), names, n=3)]
    hint = f"nearest: {', '.join(close)}" if close else f"legal: {', '.join(list(names.values())[:20])}, ..."
    return f"{key}={value!r} is unknown; {hint}"
