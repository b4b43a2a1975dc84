"""Settings of our own segmentation networks that are legal one by one and impossible together."""

from __future__ import annotations

from collections.abc import Iterator

from .model_schema import KANUNetConfig, U2KANConfig, UKANConfig
from .problems import Problem, conflict
from .schema import TrainConfig
from .unet_schema import AttentionUNetConfig, NestedUNetConfig, RollingUNetConfig, UNetConfig

__all__ = ["segmenters"]

_WITHOUT_BRANCHES = (
    UNetConfig,
    AttentionUNetConfig,
    NestedUNetConfig,
    RollingUNetConfig,
    KANUNetConfig,
    U2KANConfig,
)


def segmenters(config: TrainConfig) -> Iterator[Problem]:
    """What does not fit: which layers of a block are KAN layers, and stochastic depth without branches."""
    model = config.model
    if isinstance(model, UKANConfig):
        if not isinstance(model.kan, bool) and len(model.kan) != model.num_layers:
            why = (
                f"{len(model.kan)} entr{'ies' if len(model.kan) != 1 else 'y'} for {model.num_layers} layers"
            )
            yield conflict(config, ["model.kan", "model.num_layers"], why, "give one entry for each layer")
        if model.kan is False and model.layer is not None:
            why = "the MLP twin has no KAN layer"
            yield conflict(
                config, ["model.layer", "model.kan"], why, "take model.layer=null, or model.kan=true"
            )
    if isinstance(model, _WITHOUT_BRANCHES) and model.drop_path_rate:
        why = "this network has no residual branches that could be left out"
        fix = "take model.drop_path_rate=0; model.drop_rate drops maps before the last layer"
        yield conflict(config, ["model.drop_path_rate", "model.family"], why, fix)
