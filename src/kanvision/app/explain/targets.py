"""Explanation targets: the classes of an image whose prediction is explained.

B batch, C channels, H W height and width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kanvision.analysis.explain.explainer import ExplanationTarget
from kanvision.config import ConfigError, EvalConfig
from kanvision.tasks import SegmentationTask, Task

__all__ = ["check_classes", "explanation_targets"]


def check_classes(cfg: EvalConfig, task: Task, names: Sequence[str]) -> None:
    """Check that the data have all selected classes; ConfigError if they do not."""
    legal = _legal_classes(task, names)
    if wrong := [number for number in cfg.explain.classes or () if number not in legal]:
        known = ", ".join(f"{number} ({name})" for number, name in legal.items())
        why = f"there is no class {', '.join(map(str, wrong))}"
        raise ConfigError.at(cfg, ["explain.classes"], why, f"legal: {known}")


def _legal_classes(task: Task, names: Sequence[str]) -> dict[int, str]:
    """Return the names of the classes that can be explained, by number."""
    if isinstance(task, SegmentationTask) and task.mode == "binary":
        return {1: names[-1]}
    return dict(enumerate(names))


def explanation_targets(
    cfg: EvalConfig, task: Task, image: Tensor, sample: Mapping[str, Tensor], names: Sequence[str]
) -> Iterator[tuple[str, ExplanationTarget]]:
    """Yield the name and the target of each class to explain.

    For masks, these are the selected classes (by default all) that are in the mask. For whole images, these
    are the selected classes or the predicted one. `sample` is the batch of one image (1, C, H, W).
    """
    legal = _legal_classes(task, names)
    if isinstance(task, SegmentationTask):
        yield from _mask_targets(cfg, task, image, sample["mask"].to(image.device), legal)
        return
    with torch.no_grad():
        predicted = int(task.predictions(task(image)).argmax(dim=1))
    for number in cfg.explain.classes or [predicted]:

        def probability(images: Tensor, number: int = number) -> Tensor:
            return task.predictions(task(images))[:, number]

        yield legal[number], ExplanationTarget(number, probability)


def _mask_targets(
    cfg: EvalConfig, task: SegmentationTask, image: Tensor, mask: Tensor, legal: Mapping[int, str]
) -> Iterator[tuple[str, ExplanationTarget]]:
    size = image.shape[-2:]
    background = 0 if task.mode == "multiclass" else None
    for number in cfg.explain.classes or [number for number in legal if number != background]:
        truth = mask[:, number] == 1 if task.mode == "multilabel" else mask == number  # (1, H, W)
        if truth.shape[-2:] != size:
            truth = F.interpolate(truth[:, None].float(), list(size), mode="nearest-exact")[:, 0] > 0
        if not truth.any():
            continue
        channel = -1 if task.mode == "binary" else number

        def decided(images: Tensor, number: int = number) -> Tensor:
            masks = task.predicted_masks(task.predictions(task(images)))
            return masks[:, number] == 1 if task.mode == "multilabel" else masks == number

        with torch.no_grad():
            predicted = decided(image)  # (1, H, W)

        def probability(images: Tensor, channel: int = channel, predicted: Tensor = predicted) -> Tensor:
            # NaN if no pixel is predicted, since there is no probability to lose
            return task.predictions(task(images))[:, channel][:, predicted[0]].mean(dim=1)

        region = predicted[0] if cfg.explain.region == "predicted" else None
        if region is not None and not region.any():
            continue
        yield legal[number], ExplanationTarget(channel, probability, decided, truth, region)
