"""Exemption of parameters from weight decay."""

from __future__ import annotations

from torch import nn

__all__ = ["NoWeightDecayMixin"]


class NoWeightDecayMixin(nn.Module):
    """Network that collects the parameters that its modules exempt from weight decay, above all bases."""

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters that weight decay would distort (timm's protocol)."""
        return {
            f"{name}.{skipped}"
            for name, module in self.named_modules()
            if module is not self and callable(own := getattr(module, "no_weight_decay", None))
            for skipped in own()
        }
