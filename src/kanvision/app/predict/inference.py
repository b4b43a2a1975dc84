"""A trained task as functions from images to probabilities, on the device and in the precision of the user.

B batch, C channels, K classes, H W space.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor

from kanvision.app.build import resolve_precision
from kanvision.config import EvalConfig, TrainConfig, as_config_error
from kanvision.spec.evaluation import TestTimeAugmentation
from kanvision.tasks import SegmentationTask, Task

__all__ = ["Predictor"]

VIEWS: dict[TestTimeAugmentation, tuple[tuple[int, ...], ...]] = {
    "none": ((),),
    "hflip": ((), (-1,)),
    "flips": ((), (-1,), (-2,), (-2, -1)),
}
"""Axes along which images are mirrored, for each mean over views."""


class Predictor:
    """A task that answers.

    Args:
        cfg: Names device, precision and views.
        run: The run that it comes from.
        task: The task with its weights.
    """

    def __init__(self, cfg: EvalConfig, run: TrainConfig, task: Task) -> None:
        precision = resolve_precision(run.trainer.precision, cfg.trainer.accelerator)
        with as_config_error(cfg, "trainer.accelerator", "trainer.precision"):
            self.fabric = Fabric(accelerator=cfg.trainer.accelerator, devices=1, precision=precision)
            self.network: Any = self.fabric.setup_module(task.eval())
        self.task = task
        self.views = VIEWS[cfg.predict.tta]

    def classes(self, images: Tensor) -> Tensor:
        """Normalized images (B, C, H, W) to probabilities (B, K)."""
        return self._mean(images, lambda logits, _: self.task.predictions(logits))

    def masks(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Normalized images (B, C, h, w) to probabilities (B, K, H, W) of `size`, H and W.

        Of masks that are foreground or not, there are those of the foreground alone.
        """
        task = self.task
        assert isinstance(task, SegmentationTask)

        def probabilities(logits: Tensor, view: tuple[int, ...]) -> Tensor:
            if logits.shape[-2:] != size:  # as for scores at the size of the stored image
                logits = F.interpolate(logits, size, mode="bilinear")
            planes = task.predictions(logits).flip(view)
            return planes[:, -1:] if task.mode == "binary" else planes

        return self._mean(images, probabilities)

    @torch.inference_mode()
    def _mean(self, images: Tensor, probabilities: Callable[[Tensor, tuple[int, ...]], Tensor]) -> Tensor:
        images = self.fabric.to_device(images)
        found = [probabilities(self.network(images.flip(view)), view) for view in self.views]
        return torch.stack(found).mean(dim=0).float().cpu()
