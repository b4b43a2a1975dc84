"""Which parameters of a network weight decay must leave alone."""

from __future__ import annotations

from torch import nn

__all__ = ["NoWeightDecayMixin"]


class NoWeightDecayMixin(nn.Module):
    """A network that hands on what its parts exempt from weight decay, bases above all."""

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay would pull away from their meaning (timm's protocol)."""
        return {
            f"{name}.{skipped}"
            for name, module in self.named_modules()
            if module is not self and callable(own := getattr(module, "no_weight_decay", None))
            for skipped in own()
        }
