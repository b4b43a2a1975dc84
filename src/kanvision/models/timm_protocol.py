"""Parts of timm's protocol that all networks of kanvision share."""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["TimmProtocolMixin"]


class TimmProtocolMixin(nn.Module):
    """Network that passes weight decay exemptions and gradient checkpointing on to its modules."""

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters that weight decay would distort (timm's protocol)."""
        return {
            f"{name}.{skipped}"
            for name, module in self.named_modules()
            if module is not self and callable(own := getattr(module, "no_weight_decay", None))
            for skipped in own()
        }

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Switch gradient checkpointing in all layers that have it (timm's protocol)."""
        layer: Any
        for layer in self.modules():
            if isinstance(getattr(layer, "checkpoint", None), bool):
                layer.checkpoint = enable
