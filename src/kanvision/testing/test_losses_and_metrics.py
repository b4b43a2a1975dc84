"""Contracts of losses and metrics."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from kanvision.plugins import LOSSES, METRICS

NUM_CLASSES = 3


def targets(task: str) -> Tensor:
    """Return two classes, or two masks."""
    shape = (6,) if task == "classification" else (2, 8, 8)
    return torch.randint(0, NUM_CLASSES, shape, generator=torch.Generator().manual_seed(0))


def logits(target: Tensor, scale: float) -> Tensor:
    """Return logits that favor the target, (B, K) or (B, K, H, W)."""
    return scale * torch.nn.functional.one_hot(target, NUM_CLASSES).movedim(-1, 1).float()


def test_loss(loss_name: str) -> None:
    """The loss is a finite scalar with a gradient, and smaller for right predictions than for wrong ones."""
    loss = LOSSES[loss_name].build()
    target = targets(LOSSES[loss_name].task)
    right, wrong = logits(target, 4.0), logits(target, -4.0).requires_grad_()
    value = loss(wrong, target)
    assert value.shape == ()
    value.backward()
    assert wrong.grad is not None
    assert wrong.grad.isfinite().all()
    assert loss(right, target) < value


def test_metric(metric_name: str) -> None:
    """The value over batches is that of all images at once, right predictions are better, reset forgets."""
    metric = METRICS[metric_name]
    target = targets(metric.task)
    values = []
    for scale in (6.0, -6.0):
        scores = logits(target, scale).softmax(dim=1)
        preds = scores if metric.task == "classification" else scores.argmax(dim=1)
        # a collection passes to each metric what its `update` takes
        whole, parts = (MetricCollection({"m": metric.build(NUM_CLASSES)}) for _ in range(2))
        whole.update(preds=preds, target=target)
        for half in (slice(0, len(target) // 2), slice(len(target) // 2, None)):
            parts.update(preds=preds[half], target=target[half])
        torch.testing.assert_close(parts.compute()["m"], whole.compute()["m"])
        values.append(float(whole.compute()["m"]))
        whole.reset()
        assert whole["m"].update_count == 0
    right, wrong = values
    assert right < wrong if metric.lower_is_better else right > wrong
