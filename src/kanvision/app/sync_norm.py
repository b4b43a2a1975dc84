"""Batch statistics over all devices, for timm's layers too."""

from __future__ import annotations

from pytorch_lightning.plugins.layer_sync import TorchSyncBatchNorm
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["SyncNorm"]


class SyncNorm(TorchSyncBatchNorm):
    """Exchanges batch-norm layers while a network trains, and puts them back afterwards.

    Lightning's own turns timm's `BatchNormAct2d`, a norm with an activation, into a norm without one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._replaced: dict[nn.Module, nn.Module] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        """The network with synchronised layers in the places of its batch norms; they share all tensors."""
        places = [
            (parent, name, child)
            for parent in model.modules()
            for name, child in parent.named_children()
            if isinstance(child, _BatchNorm)
        ]
        converted: nn.Module = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        self._replaced = {getattr(parent, name): child for parent, name, child in places}
        return converted

    def revert(self, model: nn.Module) -> nn.Module:
        """The network with its own layers, and with what the others have learned."""
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if (own := self._replaced.get(child)) is not None:
                    own._parameters.update(child._parameters)
                    own._buffers.update(child._buffers)
                    parent.add_module(name, own.train(child.training))
        self._replaced = {}
        return model
