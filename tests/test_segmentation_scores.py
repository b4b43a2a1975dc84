"""Overlap scores and losses of segmentation against formulas written out in numpy."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kanvision.losses import SEGMENTATION_LOSSES, segmentation_loss
from kanvision.metrics import OverlapScore, segmentation_metrics

CLASSES = 4


def masks(seed: int, num: int = 6, num_classes: int = CLASSES) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions that are right on most pixels; image 1 lacks class 2, image 2 has background only."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(num_classes, (num, 9, 7), generator=generator)
    target[1][target[1] == 2] = 1
    target[2] = 0
    guess = torch.randint(num_classes, target.shape, generator=generator)
    preds = torch.where(torch.rand(target.shape, generator=generator) < 0.7, target, guess)
    preds[1][preds[1] == 2] = 0
    preds[2] = 0
    return preds, target


def class_scores(preds: NDArray, target: NDArray, score: str) -> list[float]:
    """Score of each foreground class that occurs, as sets of pixels."""
    values = []
    for label in range(1, CLASSES):
        a, b = preds == label, target == label
        if (a | b).any():
            both = (a & b).sum()
            values.append(both / (a | b).sum() if score == "iou" else 2 * both / (a.sum() + b.sum()))
    return values


@pytest.mark.parametrize("score", ["iou", "f1"])
def test_protocols_are_those_of_numpy_and_differ(score: str):
    preds, target = masks(0)
    metrics = segmentation_metrics(CLASSES)
    for part in (slice(0, 2), slice(2, 6)):
        metrics.update(preds=preds[part], target=target[part])
    values = {name: float(value) for name, value in metrics.compute().items()}
    p, t = preds.numpy(), target.numpy()
    images = [np.mean(class_scores(a, b, score) or [1.0]) for a, b in zip(p, t, strict=True)]
    assert images[2] == 1.0
    assert values[score] == pytest.approx(np.mean(images), abs=1e-6)
    assert values[f"{score}_dataset"] == pytest.approx(np.mean(class_scores(p, t, score)), abs=1e-6)
    assert abs(values[score] - values[f"{score}_dataset"]) > 0.01


def test_scores_are_named_and_independent_of_each_other():
    metrics = segmentation_metrics(2)
    assert set(metrics.keys()) == {"iou", "f1", "iou_dataset", "f1_dataset"}
    # all right at first: scores that were merged for their equal states would stay equal
    perfect = torch.ones(2, 4, 4, dtype=torch.long)
    metrics.update(preds=perfect, target=perfect)
    half = perfect.clone()
    half[:, :2] = 0
    metrics.update(preds=half, target=perfect)
    values = {name: float(value) for name, value in metrics.compute().items()}
    assert values == pytest.approx(
        {"iou": (1 + 1 / 2) / 2, "f1": (1 + 2 / 3) / 2, "iou_dataset": 3 / 4, "f1_dataset": 6 / 7}
    )


@pytest.mark.parametrize("protocol", ["image", "dataset"])
def test_the_value_does_not_depend_on_batches_order_or_processes(protocol: str):
    preds, target = masks(1, num=24)
    whole = OverlapScore(CLASSES, "iou", protocol)
    whole.update(preds, target)
    ranks = [OverlapScore(CLASSES, "iou", protocol) for _ in range(2)]
    for rank, metric in enumerate(ranks):
        for index in torch.arange(rank, 24, 2).flip(0).split(5):
            metric.update(preds[index], target[index])
    ranks[0].merge_state(ranks[1])
    assert torch.equal(ranks[0].compute(), whole.compute())


@pytest.mark.parametrize("protocol", ["image", "dataset"])
def test_empty_masks(protocol: str):
    empty, field = torch.zeros(1, 4, 4, dtype=torch.long), torch.zeros(1, 4, 4, dtype=torch.long)
    field[0, 0, 0] = 1
    for preds, target, expected in ((empty, empty, 1.0), (field, empty, 0.0), (empty, field, 0.0)):
        metric = OverlapScore(2, "iou", protocol)
        metric.update(preds, target)
        assert float(metric.compute()) == expected


def test_no_class_at_all_is_always_wrong():
    _, target = masks(2)
    metrics = segmentation_metrics(CLASSES)
    metrics.update(preds=torch.full_like(target, -1), target=target)
    values = metrics.compute()
    assert float(values["iou_dataset"]) == 0.0
    assert float(values["iou"]) == pytest.approx(1 / 6)  # the image without foreground has nothing to miss


def test_one_class_cannot_be_segmented():
    with pytest.raises(ValueError, match=r"model\.num_classes=1"):
        segmentation_metrics(1)


def written_out(name: str, logits: NDArray, target: NDArray, smoothing: float) -> float:
    """The losses' formulas, on logits (B, C, H, W) and masks (B, H, W)."""
    num_classes = logits.shape[1]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    t = np.moveaxis(np.eye(num_classes)[target], -1, 1)
    q = (1 - smoothing) * t + smoothing / num_classes
    cross_entropy = -(q * np.log(p)).sum(axis=1).mean()
    sums = (p * t).sum(axis=(0, 2, 3)), p.sum(axis=(0, 2, 3)), t.sum(axis=(0, 2, 3))
    dice = np.where(sums[2] > 0, 1 - 2 * sums[0] / (sums[1] + sums[2]), 0.0).mean()
    return float({"cross_entropy": cross_entropy, "dice": dice, "bce_dice": cross_entropy + dice}[name])


@pytest.mark.parametrize(
    ("name", "smoothing"),
    [("cross_entropy", 0.0), ("cross_entropy", 0.2), ("dice", 0.0), ("bce_dice", 0.0), ("bce_dice", 0.1)],
)
def test_losses_are_their_formulas(name: str, smoothing: float):
    torch.manual_seed(0)
    logits = torch.randn(3, CLASSES, 5, 6, dtype=torch.float64, requires_grad=True)
    target = torch.randint(CLASSES - 1, (3, 5, 6))  # the last class does not occur
    loss = segmentation_loss(name, label_smoothing=smoothing)(logits, target)
    expected = written_out(name, logits.detach().numpy(), target.numpy(), smoothing)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)
    loss.backward()
    assert logits.grad.isfinite().all()
    assert logits.grad.abs().sum() > 0


def test_two_classes_are_the_binary_cross_entropy_of_the_difference():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 2, 4, 4), torch.randint(2, (2, 4, 4))
    binary = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 1] - logits[:, 0], target.float())
    torch.testing.assert_close(segmentation_loss("cross_entropy")(logits, target), binary)


@pytest.mark.parametrize("name", SEGMENTATION_LOSSES)
def test_a_perfect_prediction_costs_nothing(name: str):
    target = torch.randint(3, (2, 8, 8))
    logits = 50.0 * torch.nn.functional.one_hot(target, 3).movedim(-1, 1)
    assert float(segmentation_loss(name)(logits, target)) == pytest.approx(0.0, abs=1e-6)


def test_wrong_loss_settings_are_named():
    with pytest.raises(
        ValueError, match=r"loss\.name='bce' is no loss for segmentation; legal: cross_entropy"
    ):
        segmentation_loss("bce")
    with pytest.raises(ValueError, match=r"loss\.label_smoothing=0\.1"):
        segmentation_loss("dice", label_smoothing=0.1)
