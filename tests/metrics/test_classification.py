"""Accuracy and calibration against scikit-learn and plain formulas."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from kanvision.metrics import class_probabilities, classification_metrics, wrong_where_not_finite


def problem(num_classes: int, size: int = 200, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(num_classes, (size,), generator=generator)
    logits = torch.randn(size, num_classes, generator=generator)
    logits[torch.arange(size), target] += 1.0
    return logits, target


def plain_ece(probabilities: np.ndarray, target: np.ndarray, bins: int = 15) -> float:
    confidence, right = probabilities.max(1), probabilities.argmax(1) == target
    bin_index = np.minimum((confidence * bins).astype(int), bins - 1)
    error = 0.0
    for b in range(bins):
        inside = bin_index == b
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error


@pytest.mark.parametrize("num_classes", [2, 5, 6, 100])
def test_values_over_several_uneven_batches(num_classes: int) -> None:
    logits, target = problem(num_classes)
    probabilities = class_probabilities(logits)
    metrics = classification_metrics(num_classes)
    for part in (slice(0, 130), slice(130, 199), slice(199, 200)):
        metrics.update(probabilities[part], target[part])
    values = {name: float(value) for name, value in metrics.compute().items()}
    scores, labels = probabilities.numpy(), target.numpy()
    expected = {
        "acc1": accuracy_score(labels, scores.argmax(1)),
        "ece": plain_ece(scores, labels),
    }
    if num_classes > 5:
        expected["acc5"] = top_k_accuracy_score(labels, scores, k=5, labels=range(num_classes))
    assert values == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("num_classes", [2, 7])
def test_what_is_not_finite_is_wrong(bad: float, num_classes: int) -> None:
    target = torch.arange(num_classes)
    logits = 20 * torch.eye(num_classes)
    logits[0, :] = bad  # class 0 is where a sort puts NaN
    probabilities = wrong_where_not_finite(class_probabilities(logits), target)
    metrics = classification_metrics(num_classes)
    values = metrics(probabilities, target)
    right = (num_classes - 1) / num_classes
    assert float(values["acc1"]) == pytest.approx(right)
    assert float(values.get("acc5", right)) == pytest.approx(right)
    assert torch.isfinite(values["ece"])
    assert torch.equal(probabilities[1:], class_probabilities(logits)[1:])


def test_probabilities_are_computed_in_fp32() -> None:
    logits = torch.randn(4, 9).bfloat16()
    assert class_probabilities(logits).dtype == torch.float32
    assert torch.allclose(class_probabilities(logits), logits.float().softmax(1))
    assert class_probabilities(logits.double()).dtype == torch.float64


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        classification_metrics(1)
