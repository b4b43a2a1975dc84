"""Contract of a model in timm's registry."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from kanvision.models import create_model
from kanvision.models.registry import is_segmenter

NUM_CLASSES = 3


def build(name: str, **arguments: Any) -> Any:
    """Return the model with the weights of a seed."""
    torch.manual_seed(0)
    return create_model(name, num_classes=NUM_CLASSES, **arguments)


def images(model: Any, channels: int = 3, num_images: int = 2) -> torch.Tensor:
    """Return random images of the size that the model is registered with."""
    size = getattr(model, "default_cfg", {}).get("input_size", (3, 64, 64))[1:]
    return torch.randn(num_images, channels, *size, generator=torch.Generator().manual_seed(0))


def test_output_and_gradients(model_name: str) -> None:
    """The output has a logit for each class, and every weight has a gradient."""
    model = build(model_name)
    x = images(model)
    output = model(x)
    logits = output[0] if isinstance(output, tuple | list) else output
    expected = (2, NUM_CLASSES, *x.shape[-2:]) if is_segmenter(model_name) else (2, NUM_CLASSES)
    assert logits.shape == expected
    logits.square().mean().backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert missing == []


def test_channels(model_name: str) -> None:
    """The model takes images of any number of channels."""
    model = build(model_name, in_chans=1).eval()
    assert model(images(model, channels=1)) is not None


def test_seed_and_state(model_name: str) -> None:
    """A seed gives the same weights, and a stored state gives the same output."""
    model, same, other = (
        build(model_name).eval(),
        build(model_name).eval(),
        create_model(model_name, num_classes=NUM_CLASSES),
    )
    x = images(model, num_images=1)
    with torch.no_grad():
        torch.testing.assert_close(model(x), same(x), rtol=0, atol=0)
        other.load_state_dict(model.state_dict())
        torch.testing.assert_close(other.eval()(x), model(x), rtol=0, atol=0)


def test_classifier_is_replaced(model_name: str) -> None:
    """`reset_classifier` of timm changes the number of classes."""
    if is_segmenter(model_name):
        pytest.skip("a segmenter")
    model = build(model_name).eval()
    model.reset_classifier(5)
    assert model(images(model, num_images=1)).shape == (1, 5)
    assert model.num_classes == 5
    assert timm.is_model(model_name)
