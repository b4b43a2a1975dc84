"""Parts of timm's protocol that all networks of kanvision share."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from kanvision.layers import fuse_norms

__all__ = ["TimmProtocolMixin", "set_grad_checkpointing"]

_Network = TypeVar("_Network", bound="TimmProtocolMixin")


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
        """Switch gradient checkpointing in all modules that have it (timm's protocol)."""
        for module in _checkpointed_modules(self):
            module.checkpoint = enable

    def fuse(self: _Network) -> _Network:
        """Fold batch norms into the linear maps before them, for inference, and return the network.

        See `kanvision.layers.fuse_norms`, which also returns the names of the norms that stay.
        """
        fuse_norms(self)
        return self


def _checkpointed_modules(network: nn.Module) -> list[Any]:
    return [module for module in network.modules() if isinstance(getattr(module, "checkpoint", None), bool)]


def set_grad_checkpointing(network: nn.Module, enable: bool) -> None:
    """Switch the computation of activations in the backward pass, which saves memory and changes no result.

    Raises:
        ValueError: The network has no part for which this saves memory, or its batch norms would count each
            batch twice.
    """
    switch: Any = getattr(network, "set_grad_checkpointing", None)
    if not enable:
        if switch is not None:
            switch(False)
        return
    if isinstance(network, TimmProtocolMixin):
        if not any(getattr(module, "keeps_activations", True) for module in _checkpointed_modules(network)):
            raise ValueError("no layer of this network has activations that can be computed again")
    elif any(isinstance(module, _BatchNorm) for module in network.modules()):
        raise ValueError(
            "timm computes whole blocks again, and batch norms of this network would count a batch twice"
        )
    try:
        if switch is None:
            raise AssertionError
        switch(True)
    except AssertionError:
        raise ValueError("timm has no gradient checkpointing for this network") from None
