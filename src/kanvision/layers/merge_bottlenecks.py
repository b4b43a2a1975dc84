"""Merging of bottleneck layers of a network for inference."""

from __future__ import annotations

from torch import nn

from .bottleneck import Bottleneck
from .structure import change_structure, structural_change

__all__ = ["merge_bottlenecks"]


def merge_bottlenecks(model: nn.Module) -> int:
    """Fold the last projection of every bottleneck layer into the map before it, see `Bottleneck.merge`.

    The changes are recorded with the model, so that checkpoints of the merged network can be loaded.

    Args:
        model: Network, which is changed in place.

    Returns:
        Number of merged layers, without those that were merged before.
    """
    names = [
        name for name, module in model.named_modules() if isinstance(module, Bottleneck) and not module.merged
    ]
    for name in names:
        change_structure(model, "merge_bottleneck", name)
    return len(names)


@structural_change("merge_bottleneck")
def _merge(model: nn.Module, layer: str) -> None:
    module = model.get_submodule(layer)
    if not isinstance(module, Bottleneck):
        raise ValueError(f"layer={layer!r} is a {type(module).__name__}, not a bottleneck layer")
    module.merge()
