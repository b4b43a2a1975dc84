"""Callback that logs the norm of the weights."""

import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class WeightNorm(Callback):
    """Logs the norm of all weights as `train/weight_norm` after each epoch."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the norm."""
        norms = [weight.detach().norm() for weight in pl_module.parameters()]
        pl_module.log("train/weight_norm", torch.stack(norms).norm())
