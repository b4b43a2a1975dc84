"""torchvision's policies by name."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from kanvision.data.transforms.auto_augment import POLICIES, build_torchvision_policy
from kanvision.data.transforms.classification import ImageSpec, build_training_transform


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8))


@pytest.mark.parametrize("name", [*POLICIES, "+".join(POLICIES)])
def test_changes_pictures_and_follows_the_seeds(name):
    policy = build_torchvision_policy(name)
    results = []
    for _ in range(2):
        random.seed(1)  # torchvision chooses among policies by Python's generator
        torch.manual_seed(1)
        results.append([np.asarray(policy(picture())) for _ in range(8)])
    assert all((a == b).all() for a, b in zip(*results, strict=True))
    assert any((a != np.asarray(picture())).any() for a in results[0])


@pytest.mark.parametrize("text", [None, "rand-m9-mstd0.5", "augmix-m3"])
def test_other_names_are_timms(text):
    assert build_torchvision_policy(text) is None


def test_unknown_name():
    with pytest.raises(ValueError, match="unknown tv-cifar; legal, joined by"):
        build_torchvision_policy("tv-svhn+tv-cifar")


def test_is_the_policy_of_the_training_transform():
    spec = ImageSpec(img_size=32, in_chans=3, mean=[0.5] * 3, std=[0.5] * 3)
    plain = build_training_transform(spec)([picture()] * 8)
    torch.manual_seed(0)
    changed = build_training_transform(spec, auto_augment="tv-trivial", color_jitter=0.4)([picture()] * 8)
    assert changed.shape == plain.shape
    assert not torch.equal(changed, plain)
