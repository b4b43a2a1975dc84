"""Overlap scores under each protocol against formulas written out in numpy."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kanvision.metrics import OverlapScore, foreground_planes, pixel_counts, segmentation_metrics

CLASSES = 4
IGNORED = 255
SCORES = ("iou", "f1", "precision", "recall")


def masks(seed: int, num: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions that are right on most pixels; image 1 lacks class 2, image 2 has background only."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(CLASSES, (num, 9, 7), generator=generator)
    target[1][target[1] == 2] = 1
    target[2] = 0
    guess = torch.randint(CLASSES, target.shape, generator=generator)
    preds = torch.where(torch.rand(target.shape, generator=generator) < 0.7, target, guess)
    preds[1][preds[1] == 2] = 0
    preds[2] = 0
    return preds, target


def planes(labels: torch.Tensor) -> torch.Tensor:
    """The same as (B, K, H, W) of 0 and 1."""
    return torch.stack([labels == c for c in range(1, CLASSES)], dim=1).long()


def fraction(a: NDArray, b: NDArray, score: str, smooth: float = 0.0) -> float:
    """Score of predicted pixels a and right ones b."""
    both = (a & b).sum()
    below = {"iou": (a | b).sum(), "precision": a.sum(), "recall": b.sum(), "f1": (a.sum() + b.sum()) / 2}
    if smooth and score == "f1":
        iou = fraction(a, b, "iou", smooth)
        return 2 * iou / (1 + iou)
    return (both + smooth) / (below[score] + smooth) if below[score] + smooth else 0.0


def class_scores(preds: NDArray, target: NDArray, score: str) -> list[float]:
    """Score of each foreground class that occurs, as sets of pixels."""
    pairs = [(preds == label, target == label) for label in range(1, CLASSES)]
    return [fraction(a, b, score) for a, b in pairs if (a | b).any()]


def measured(
    preds: torch.Tensor, target: torch.Tensor, sizes: tuple[int, ...], **options: object
) -> dict[str, float]:
    """All scores, of batches of these sizes."""
    metrics = segmentation_metrics(CLASSES - 1, protocols=("image", "dataset", "paper"), **options)
    for p, t in zip(preds.split(sizes), target.split(sizes), strict=True):
        metrics.update(counts=pixel_counts(p, t, CLASSES))
    return {name: float(value) for name, value in metrics.compute().items()}


@pytest.mark.parametrize("form", ["labels", "planes"])
@pytest.mark.parametrize("score", SCORES)
def test_protocols_are_those_of_numpy_and_differ(score: str, form: str):
    preds, target = masks(0)
    values = measured(*((preds, target) if form == "labels" else (planes(preds), planes(target))), (2, 4))
    p, t = preds.numpy(), target.numpy()
    images = [np.mean(class_scores(a, b, score) or [1.0]) for a, b in zip(p, t, strict=True)]
    assert images[2] == 1.0
    assert values[score] == pytest.approx(np.mean(images), abs=1e-6)
    assert values[f"{score}_dataset"] == pytest.approx(np.mean(class_scores(p, t, score)), abs=1e-6)
    assert abs(values[score] - values[f"{score}_dataset"]) > 0.01
    p, t = (planes(x).bool().numpy() for x in (preds, target))
    batches = [fraction(p[part], t[part], score, 1e-5) for part in (slice(0, 2), slice(2, 6))]
    assert values[f"{score}_batch"] == pytest.approx(np.average(batches, weights=[2, 4]), abs=1e-6)


def test_only_the_published_protocol_depends_on_the_batches():
    preds, target = masks(1, num=12)
    values = [measured(preds, target, sizes) for sizes in ((12,), (5, 7), (3, 4, 5), (1,) * 12)]
    for name in values[0]:
        same = {value[name] for value in values}
        assert (len(same) == 1) is not name.endswith("_batch"), name
    # one image a batch is not the mean over images either: an image scores all its classes together
    assert values[3]["iou_batch"] != pytest.approx(values[3]["iou"], abs=1e-3)


@pytest.mark.parametrize("sizes", [(24,), (8, 8, 8), (7, 9, 8), (1,) * 24])
def test_the_published_f1_is_bounded_by_that_of_the_mean_iou(sizes: tuple[int, ...]):
    """F1 = 2 IoU / (1 + IoU) is concave: a table whose F1 is larger was not measured so."""
    preds, target = masks(3, num=24)
    values = measured(preds, target, sizes)
    iou, f1 = values["iou_batch"], values["f1_batch"]
    bound = 2 * iou / (1 + iou)
    assert f1 <= bound + 1e-7
    assert f1 == pytest.approx(bound, abs=1e-6) if len(sizes) == 1 else f1 < bound - 1e-6


def test_scores_are_named_and_independent_of_each_other():
    metrics = segmentation_metrics(1)
    assert set(metrics.keys()) == {*SCORES, *(f"{score}_dataset" for score in SCORES)}
    # all right at first: scores that were merged for their equal states would stay equal
    perfect = torch.ones(2, 4, 4, dtype=torch.long)
    metrics.update(counts=pixel_counts(perfect, perfect, 2))
    half = perfect.clone()
    half[:, :2] = 0
    metrics.update(counts=pixel_counts(half, perfect, 2))
    values = {name: float(value) for name, value in metrics.compute().items()}
    assert values == pytest.approx(
        {
            "iou": (1 + 1 / 2) / 2,
            "f1": (1 + 2 / 3) / 2,
            "precision": 1,
            "recall": (1 + 1 / 2) / 2,
            "iou_dataset": 3 / 4,
            "f1_dataset": 6 / 7,
            "precision_dataset": 1,
            "recall_dataset": 3 / 4,
        }
    )


@pytest.mark.parametrize("score", SCORES)
def test_single_classes(score: str):
    preds, target = masks(0)
    values = measured(preds, target, (2, 4), per_class=True)
    p, t = preds.numpy(), target.numpy()
    for label in range(1, CLASSES):
        pairs = [(a == label, b == label) for a, b in zip(p, t, strict=True)]
        images = [fraction(a, b, score) for a, b in pairs if (a | b).any()]
        assert len(images) == (4 if label == 2 else 5)
        assert values[f"{score}_class{label}"] == pytest.approx(np.mean(images), abs=1e-6)
        whole = fraction(p == label, t == label, score)
        assert values[f"{score}_dataset_class{label}"] == pytest.approx(whole, abs=1e-6)
    absent = OverlapScore(3, score, "image", label=1)
    absent.update(pixel_counts(preds[1:3], target[1:3], CLASSES))
    assert absent.compute().isnan()


@pytest.mark.parametrize("protocol", ["image", "dataset"])
def test_the_value_does_not_depend_on_batches_order_or_processes(protocol: str):
    preds, target = masks(1, num=24)
    counts = pixel_counts(preds, target, CLASSES)
    whole = OverlapScore(CLASSES - 1, "iou", protocol)
    whole.update(counts)
    ranks = [OverlapScore(CLASSES - 1, "iou", protocol) for _ in range(2)]
    for rank, metric in enumerate(ranks):
        for index in torch.arange(rank, 24, 2).flip(0).split(5):
            metric.update(counts[:, index])
    ranks[0].merge_state(ranks[1])
    assert torch.equal(ranks[0].compute(), whole.compute())


@pytest.mark.parametrize("protocol", ["image", "dataset", "paper"])
@pytest.mark.parametrize("score", SCORES)
def test_empty_masks(score: str, protocol: str):
    empty, field = torch.zeros(1, 4, 4, dtype=torch.long), torch.zeros(1, 4, 4, dtype=torch.long)
    field[0, 0, 0] = 1
    cases = [(empty, empty, 1.0), (field, empty, 0.0), (empty, field, 0.0)]
    for preds, target, expected in cases:
        # the published score divides 1e-5 by 1e-5 where one side of a precision or recall has nothing
        nothing = protocol == "paper" and not (target if score == "recall" else preds).any()
        metric = OverlapScore(1, score, protocol)
        metric.update(pixel_counts(preds, target, 2))
        if score in ("precision", "recall") and nothing:
            expected = 1.0
        assert float(metric.compute()) == pytest.approx(expected, abs=1e-4)


def test_no_class_at_all_is_always_wrong():
    _, target = masks(2)
    metrics = segmentation_metrics(CLASSES - 1)
    metrics.update(counts=pixel_counts(torch.full_like(target, -1), target, CLASSES))
    values = metrics.compute()
    assert float(values["iou_dataset"]) == 0.0
    assert float(values["iou"]) == pytest.approx(1 / 6)  # the image without foreground has nothing to miss


@pytest.mark.parametrize("form", ["labels", "planes"])
def test_ignored_pixels_are_not_counted(form: str):
    preds, target = masks(4)
    if form == "planes":
        preds, target = planes(preds), planes(target)
    void = target.clone()
    void[..., 5:] = IGNORED
    counts = pixel_counts(preds, void, CLASSES, IGNORED)
    assert torch.equal(counts, pixel_counts(preds[..., :5], target[..., :5], CLASSES))
    valid = foreground_planes(void, CLASSES, void != IGNORED)
    assert torch.equal(valid[..., :5], foreground_planes(target, CLASSES)[..., :5])
    assert not valid[..., 5:].any()
