"""Base of layers that are composed of KAN convolutions. Shapes: B batch, C channels, *S space."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from .base import KANLayer
from .conv import KANConv1d, KANConv2d, KANConv3d, KANConvNd

__all__ = ["KAN_CONVS", "PLAIN_CONVS", "CompositeLayer"]

KAN_CONVS: dict[int, type[KANConvNd]] = {1: KANConv1d, 2: KANConv2d, 3: KANConv3d}
PLAIN_CONVS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class CompositeLayer(nn.Module):
    """Layer with KAN layers inside, for maps with `ndim` space axes."""

    ndim: ClassVar[int]

    def _check_map(self, x: Tensor, channels: int) -> None:
        if x.ndim != self.ndim + 2 or x.shape[1] != channels:
            raise ValueError(
                f"{type(self).__name__} takes (B, {channels}, {self.ndim} space axes), "
                f"got an input of shape {tuple(x.shape)}"
            )

    def reset_parameters(self) -> None:
        """Initialize all parts, then the parameters that depend on several parts."""
        _reset_parts(self)
        self._reset_own()

    def _reset_own(self) -> None:
        """Initialize the parameters that depend on several parts."""

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters that weight decay would distort (timm's protocol)."""
        return {
            f"{name}.{skipped}"
            for name, module in self.named_modules()
            if isinstance(module, KANLayer)
            for skipped in module.no_weight_decay()
        }


def _reset_parts(module: nn.Module) -> None:
    # A part resets its own parts; resetting them again would undo its changes to them.
    for child in module.children():
        reset = getattr(child, "reset_parameters", None)
        if callable(reset):
            reset()
        else:
            _reset_parts(child)
