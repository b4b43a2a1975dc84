"""The norms of published layers: what their tensors tell, and one norm in place of one for each group."""

from __future__ import annotations

import torch
from torch import Tensor

from kanvision.checkpoints.published.strict import Shape, Tensors

__all__ = ["INFERRED", "PublishedNorm"]

INFERRED = "inferred"
"""Option `norm`: batch norm where there are running statistics, else the published default, instance norm."""
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_WITHOUT_STATISTICS = ("instance", "layer", "group")


class PublishedNorm:
    """The norms of a layer, `name.0`, `name.1` ... or one `name`.

    Running statistics exist in batch norms and only there, so that weights of one norm cannot slip into
    another. Without them the tensors tell whether there is a scale and a shift, not of which norm.

    Args:
        found: Tensors of the layer.
        single: Name of the one norm over all channels; None for a list `layer_norm`, one norm a group.
        groups: G.
        channels: Channels of a group.
        requested: Option `norm`.

    Raises:
        ValueError: If the option contradicts the tensors.
    """

    def __init__(
        self, found: Tensors, single: str | None, groups: int, channels: int, requested: str | None
    ) -> None:
        self.found = found
        self.channels = channels if single is None else channels * groups
        self.prefixes = (
            [f"layer_norm.{group}." for group in range(groups)] if single is None else [f"{single}."]
        )
        present = {
            name.removeprefix(prefix) for name in found for prefix in self.prefixes if name.startswith(prefix)
        }
        self.statistics = bool(present & set(_STATISTICS))
        self.affine = bool(present & {"weight", "bias"})
        self.requested = requested
        self.name = self._name(requested)

    def agree(self, affine: bool, statistics: bool) -> None:
        """Be as the norms of like layers are, so that what this one lacks is missed.

        Raises:
            ValueError: As of the class.
        """
        self.affine, self.statistics = affine, statistics
        self.name = self._name(self.requested)

    def _name(self, requested: str | None) -> str | None:
        if requested == INFERRED:
            return "batch" if self.statistics else "instance"
        if requested not in ("batch", *_WITHOUT_STATISTICS, None):
            legal = ", ".join((INFERRED, "batch", *_WITHOUT_STATISTICS, "None"))
            raise ValueError(f"norm={requested!r} is not known; legal values: {legal}")
        if self.statistics != (requested == "batch"):
            has = "have" if self.statistics else "have no"
            raise ValueError(
                f"norm={requested!r}: the published weights {has} running statistics of a batch norm"
            )
        if requested is None and self.affine:
            raise ValueError("norm=None: the published weights have the scale and shift of a norm")
        if requested in ("layer", "group") and len(self.prefixes) > 1:
            raise ValueError(
                f"norm={requested!r}: {len(self.prefixes)} groups of channels have one each, which is not "
                "one over all of them"
            )
        return requested

    def wanted(self) -> dict[str, Shape]:
        """Names and shapes of the tensors."""
        shapes: dict[str, Shape] = {}
        for prefix in self.prefixes:
            for name in ("weight", "bias") if self.affine else ():
                shapes[prefix + name] = (self.channels,)
            if self.statistics:
                shapes |= dict.fromkeys([prefix + name for name in _STATISTICS[:2]], (self.channels,))
                shapes[prefix + _STATISTICS[2]] = ()
        return shapes

    def merged(self) -> dict[str, Tensor]:
        """Tensors of the one norm that stands for all."""
        names = {
            name.removeprefix(self.prefixes[0]) for name in self.wanted() if name.startswith(self.prefixes[0])
        }
        merged = {}
        for name in names:
            values = [self.found[prefix + name] for prefix in self.prefixes]
            merged[name] = torch.stack(values).amax(0) if name == _STATISTICS[2] else torch.cat(values)
        return merged
