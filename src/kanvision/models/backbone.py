"""Base of the classifiers of KAN convolutions: stages, a head, and timm's protocol.

Shapes: B batch, C channels, H W space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from .conv_factory import ConvFactory
from .heads import KANHead
from .timm_protocol import TimmProtocolMixin

__all__ = ["KANBackbone", "Stage", "build_backbone", "conv_cfg"]


class Stage(NamedTuple):
    """Part of a network whose output is one of its feature maps."""

    layers: list[nn.Module]
    """Layers in the order of their use."""
    channels: int
    """Number of output channels."""
    reduction: int
    """Side of the image divided by the side of the output."""


class KANBackbone(TimmProtocolMixin):
    """Stages of convolutions and a classifier.

    A subclass builds its stages from a size table and passes them to this constructor. Stage 0 begins with
    the first convolution.

    Args:
        stages: Stages of the network in their order.
        factory: Factory that built the convolutions.
        in_chans: Number of input channels.
        num_classes: Number of classes; 0 omits the classifier.
        global_pool: Pooling before the classifier, in timm's terms.
        pool_size: Side of the pooled map, or its height and width.
        min_reduction: Minimum of the image side divided by the side of the last map. Max poolings are added
            as stages until it is reached. It is 32 with `features_only`, because decoders of segmentation
            networks expect five halvings.
        head: Kind of the classifier, one of `kanvision.models.heads.HEADS`.
        head_hidden_size: Width of the hidden layers of the head; None is the published width.
        head_basis_kwargs: Arguments of the head's basis that differ from those of the convolutions.
        head_norm: Layer normalization in front of the classifier.
        drop_rate: Dropout before the classifier.
        drop_path_rate: Stochastic depth; must be 0 where there are no residual branches.
    """

    has_branches: ClassVar[bool] = False
    """True if there are residual branches, to which stochastic depth applies."""

    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        factory: ConvFactory,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        pool_size: int | tuple[int, int] = 1,
        min_reduction: int = 1,
        head: str = "linear",
        head_hidden_size: int | None = None,
        head_basis_kwargs: Mapping[str, Any] | None = None,
        head_norm: bool = False,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if drop_path_rate and not self.has_branches:
            raise ValueError(
                f"drop_path_rate={drop_path_rate}: {type(self).__name__} has no residual branches to drop; "
                "use drop_rate or layer_drop_rate"
            )
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.drop_rate = drop_rate
        stages = list(stages)
        while stages[-1].reduction < min_reduction:
            stages.append(Stage([half_pool()], stages[-1].channels, 2 * stages[-1].reduction))
        self.stages = nn.Sequential(*(nn.Sequential(*stage.layers) for stage in stages))
        self.feature_info: list[dict[str, Any]] = [
            {"num_chs": stage.channels, "reduction": stage.reduction, "module": f"stages.{index}"}
            for index, stage in enumerate(stages)
        ]
        self.num_features = stages[-1].channels
        self.head = KANHead(
            self.num_features,
            num_classes,
            factory,
            kind=head,
            pool_type=global_pool,
            pool_size=pool_size,
            drop_rate=drop_rate,
            hidden_size=head_hidden_size,
            basis_kwargs=head_basis_kwargs,
            norm=head_norm,
        )
        self.head_hidden_size = self.head.num_features

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return the order of the layers for layer-wise learning rates (timm's protocol)."""
        return {
            "stem": r"^stages\.0\.0\.",
            "blocks": r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.(\d+)",
        }

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one; 0 classes remove it."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)
        self.head.to(next(self.stages.parameters()))  # the model may have moved
        self.head_hidden_size = self.head.num_features

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the feature maps of the chosen stages.

        Args:
            x: Images, (B, C, H, W).
            indices: Stages to return; an int selects that many from the end, None all of them.
            norm: Not used: layers end with norms.
            stop_early: Stop after the last requested stage.
            output_fmt: Only "NCHW".
            intermediates_only: Return the maps only, without the final map.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt={output_fmt!r}: {type(self).__name__} returns 'NCHW' only")
        take, last = feature_take_indices(len(self.stages), indices)
        maps = []
        for index, stage in enumerate(self.stages):
            if stop_early and index > last:
                break
            x = stage(x)
            if index in take:
                maps.append(x)
        return maps if intermediates_only else (x, maps)

    def prune_intermediate_layers(
        self, indices: int | list[int] | None = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove the stages that `forward_intermediates` does not need.

        Args:
            indices: Stages whose outputs are kept; an int selects that many from the end, None all of them.
            prune_norm: Not used: layers end with norms.
            prune_head: Remove the classifier too.

        Returns:
            Indices of the stages whose outputs are kept.
        """
        take, last = feature_take_indices(len(self.stages), indices)
        self.stages = self.stages[: last + 1]
        if prune_head:
            self.reset_classifier(0, "")
        return take

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to the last feature map (B, num_features, H', W')."""
        y: Tensor = self.stages(x)
        return y

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Any:
        """Map features to logits (B, num_classes), or to the features (B, head_hidden_size) before them."""
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: Tensor) -> Any:
        """Map images (B, C, H, W) to logits (B, num_classes), or to a tuple of logits from a nested head."""
        return self.forward_head(self.forward_features(x))


def conv_cfg(img_size: int = 224, *, paper: str = "2407.01092", **changes: Any) -> dict[str, Any]:
    """Return the default configuration, in timm's terms, of a network for images of this size."""
    small = img_size < 224
    return {
        "num_classes": 1000,
        "input_size": (3, img_size, img_size),
        "mean": (0.5, 0.5, 0.5) if small else IMAGENET_DEFAULT_MEAN,
        "std": (0.5, 0.5, 0.5) if small else IMAGENET_DEFAULT_STD,
        "interpolation": "bicubic",
        # timm adapts this layer to other in_chans by its weight, but a KAN convolution has two weights.
        "first_conv": None,
        "classifier": "head.fc",
        "paper_ids": f"arXiv:{paper}",
        **changes,
    }


def build_backbone(model_cls: type[KANBackbone], variant: str, pretrained: bool, **kwargs: Any) -> Any:
    """Build a model, or with `features_only` its feature extractor.

    Args:
        model_cls: Class of the model.
        variant: Registered name of the model.
        pretrained: Load published weights (timm reports that there are none).
        **kwargs: Arguments of the model and of timm's builder.
    """
    if kwargs.get("features_only"):
        kwargs = {"min_reduction": 32, **kwargs}
    feature_cfg = {"out_indices": None, "feature_cls": "getter"}
    return build_model_with_cfg(model_cls, variant, pretrained, feature_cfg=feature_cfg, **kwargs)


def half_pool() -> nn.MaxPool2d:
    """Build a max pooling that halves the side and rounds up, so that a 1x1 map stays 1x1."""
    return nn.MaxPool2d(2, ceil_mode=True)


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """Return rates of stochastic depth that rise linearly from 0 to `rate` over `depth` blocks."""
    return torch.linspace(0, rate, depth, device="cpu").tolist()
