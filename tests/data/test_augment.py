"""Masks move with their images, whatever the number of channels; nothing happens at import."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from kanvision.data.augment import segmentation_augment

AFFINE = {"degrees": 30.0, "translate": 0.2, "scale": (0.8, 1.25)}


def pair(channels: int, size: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Random blocks; every channel shows the label, so that the image tells where its mask should be."""
    mask = np.kron(np.random.default_rng(0).integers(0, 4, (size // 8, size // 8)), np.ones((8, 8), int))
    image = np.stack([(mask + 10 * channel).astype(np.float32) for channel in range(channels)], axis=-1)
    return image, mask


@pytest.mark.parametrize("channels", [1, 3, 4, 5, 12])
def test_image_and_mask_stay_together(channels: int):
    transform = segmentation_augment(hflip=0.5, vflip=0.5)
    image, mask = pair(channels)
    seen = set()
    for seed in range(40):
        torch.manual_seed(seed)
        moved, labels = transform(image, mask)
        assert moved.shape == image.shape
        assert (moved.dtype, labels.dtype) == (np.float32, np.int64)
        for channel in range(channels):
            assert np.array_equal(moved[..., channel] - 10 * channel, labels)
        seen.add(labels.tobytes())
    assert len(seen) == 8  # all symmetries of the square


def test_one_flip_is_no_quarter_turn():
    transform = segmentation_augment(hflip=0.5)
    image, mask = pair(2)
    seen = {transform(image, mask)[1].tobytes() for _ in range(40)}
    assert seen == {mask.tobytes(), np.ascontiguousarray(mask[:, ::-1]).tobytes()}


def test_an_affine_map_keeps_labels_whole_and_moves_the_image_alike():
    transform = segmentation_augment(random_affine=AFFINE)
    image, mask = pair(5, size=64)
    moved_at_all = 0
    for seed in range(10):
        torch.manual_seed(seed)
        moved, labels = transform(image, mask)
        assert set(np.unique(labels)) <= set(np.unique(mask))
        # inside a block, away from interpolated edges, image and mask are equal
        agree = np.abs(moved[..., 0] - labels) < 0.5
        assert agree.mean() > 0.9
        moved_at_all += not np.array_equal(labels, mask)
    assert moved_at_all == 10


def test_random_numbers_follow_torch():
    image, mask = pair(3)
    results = []
    for _ in range(2):
        transform = segmentation_augment(hflip=0.5, vflip=0.5, random_affine=AFFINE)
        torch.manual_seed(7)
        results.append([transform(image, mask)[1] for _ in range(5)])
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0][0], results[0][1])


def test_nothing_to_do_is_none():
    assert segmentation_augment(crop="none", pad=4, scale=(0.08, 1.0), re_prob=0.0, re_mode="pixel") is None


@pytest.mark.parametrize(
    ("key", "value"),
    [("auto_augment", "rand-m9"), ("crop", "random_resized"), ("color_jitter", 0.4), ("re_prob", 0.25)],
)
def test_what_has_no_form_for_masks_is_refused(key: str, value: object):
    with pytest.raises(ValueError, match=rf"augment\.{key}={value}: not available for segmentation"):
        segmentation_augment(hflip=0.5, **{key: value})


def test_the_library_is_imported_late_and_without_its_network_call():
    code = """
import os, sys
os.environ.pop("NO_ALBUMENTATIONS_UPDATE", None)
from kanvision.data import augment
assert "albumentations" not in sys.modules
import urllib.request
def refuse(*args, **kwargs):
    raise SystemExit("network")
urllib.request.OpenerDirector.open = refuse
assert augment.segmentation_augment(hflip=0.5) is not None
assert "albumentations" in sys.modules
assert "NO_ALBUMENTATIONS_UPDATE" not in os.environ
"""
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
