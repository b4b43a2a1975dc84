"""Losses of classification with weights, against their formulas."""

import pytest
import torch
from torch import nn

from kanvision.losses.classification import WeightedCrossEntropy, balanced_weights, classification_loss


def test_weights_multiply_the_terms_of_their_classes() -> None:
    """Catches a mean over images in place of weights, and weights of smoothed labels of another class."""
    torch.manual_seed(0)
    logits, target, weights = torch.randn(6, 3), torch.tensor([0, 1, 1, 2, 0, 0]), [0.5, 2.0, 1.0]
    for smoothing in (0.0, 0.1):
        loss = classification_loss("cross_entropy", class_weights=weights, label_smoothing=smoothing)
        wanted = nn.CrossEntropyLoss(torch.tensor(weights), label_smoothing=smoothing)(logits, target)
        torch.testing.assert_close(loss(logits, target), wanted)
    soft = torch.softmax(torch.randn(6, 3), 1)
    loss = classification_loss("cross_entropy", class_weights=weights, soft_targets=True)
    wanted = -(torch.tensor(weights) * soft * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss(logits, soft), wanted)
    assert loss.state_dict() == {}
    with pytest.raises(ValueError, match="no weights of classes"):
        classification_loss("bce", class_weights=weights)


def test_balanced_weights_and_batches_without_weight() -> None:
    """Catches weights whose mean over images is not 1, and a NaN of 0 / 0."""
    weights = balanced_weights([0, 0, 0, 1], num_classes=3)
    assert weights == pytest.approx([2 / 3, 2.0, 0.0])
    loss = WeightedCrossEntropy([1.0, 0.0])
    logits = torch.randn(2, 2, requires_grad=True)
    loss(logits, torch.tensor([1, 1])).backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0
