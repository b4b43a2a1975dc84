"""Inference with a trained task, on the device and in the precision of the configuration.

B batch, C channels, K classes, H W height and width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor

from kanvision.app.build import resolve_precision
from kanvision.app.restore import RestoredRun
from kanvision.config import as_config_error
from kanvision.spec.evaluation import TestTimeAugmentation
from kanvision.tasks import SegmentationTask

__all__ = ["Predictor"]

VIEWS: dict[TestTimeAugmentation, tuple[tuple[int, ...], ...]] = {
    "none": ((),),
    "hflip": ((), (-1,)),
    "flips": ((), (-1,), (-2,), (-2, -1)),
}
"""Axes along which images are flipped, for each view of test-time augmentation."""


class Predictor:
    """A trained task as functions from images to probabilities."""

    def __init__(self, run: RestoredRun) -> None:
        cfg = run.cfg
        precision = resolve_precision(run.train_cfg.trainer, cfg.trainer.accelerator)
        with as_config_error(cfg, "trainer.accelerator", "trainer.precision"):
            self.fabric = Fabric(accelerator=cfg.trainer.accelerator, devices=1, precision=precision)
            self.network: Any = self.fabric.setup_module(run.task.eval())
        self.task = run.task
        self.views = VIEWS[cfg.predict.tta]

    def predict_classes(self, images: Tensor) -> Tensor:
        """Return class probabilities (B, K) of normalized images (B, C, H, W)."""
        return self._mean_over_views(images, lambda logits, _: self.task.predictions(logits))

    def predict_masks(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Return pixel probabilities (B, K, H, W), `size` is (H, W), of normalized images (B, C, h, w).

        Binary masks have the probabilities of the foreground alone.
        """
        task = self.task
        assert isinstance(task, SegmentationTask)

        def probabilities(logits: Tensor, view: tuple[int, ...]) -> Tensor:
            if logits.shape[-2:] != size:  # as for scores at the size of the stored image
                logits = F.interpolate(logits, size, mode="bilinear")
            planes = task.predictions(logits).flip(view)
            return planes[:, -1:] if task.mode == "binary" else planes

        return self._mean_over_views(images, probabilities)

    @torch.inference_mode()
    def _mean_over_views(
        self, images: Tensor, probabilities: Callable[[Tensor, tuple[int, ...]], Tensor]
    ) -> Tensor:
        images = self.fabric.to_device(images)
        views = [probabilities(self.network(images.flip(view)), view) for view in self.views]
        return torch.stack(views).mean(dim=0).float().cpu()
