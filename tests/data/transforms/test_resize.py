"""Images and labels are resized about the same pixel centers."""

import cv2
import numpy as np
import pytest
import torch

from kanvision.data.transforms.resize import (
    resize_image,
    resize_image_as_opencv,
    resize_labels,
    resize_labels_as_opencv,
)


@pytest.mark.parametrize("size", [(256, 256), (300, 37), (40, 90)])
def test_a_bilinear_image_is_that_of_opencv(size: tuple[int, int]):
    image = torch.rand(3, 61, 83, generator=torch.Generator().manual_seed(0))
    found = resize_image(image, size)
    expected = cv2.resize(image.permute(1, 2, 0).numpy(), size[::-1], interpolation=cv2.INTER_LINEAR)
    assert np.abs(found.permute(1, 2, 0).numpy() - expected).max() < 2e-4


@pytest.mark.parametrize("size", [(32, 32), (17, 61), (128, 90)])
def test_labels_commute_with_mirrors_and_agree_with_nearest_images(size: tuple[int, int]):
    labels = torch.randint(0, 2**40, (2, 50, 63), generator=torch.Generator().manual_seed(0))
    found = resize_labels(labels, size)
    assert found.dtype == torch.int64
    assert torch.equal(
        resize_labels(labels % 1000, size).float(), resize_image((labels % 1000).float(), size, "nearest")
    )
    if all(new % 2 or old % 2 for old, new in zip(labels.shape[1:], size, strict=True)):
        assert torch.equal(resize_labels(labels.flip(-1), size).flip(-1), found)


def test_the_right_size_is_left_alone():
    image = torch.rand(2, 8, 9)
    assert resize_image(image, (8, 9)) is image
    assert resize_labels(image, (8, 9)) is image
    assert resize_image(image, (4, 4), "bicubic").shape == (2, 4, 4)


def test_labels_are_those_of_opencv_bit_for_bit():
    news = (1, 3, 32, 96, 100, 224, 256, 333, 512)
    for old in (1, 2, 5, 31, 49, 93, 98, 103, 256, 288, 384, 471, 500, 522, 561, 775):
        labels = np.arange(old * 2, dtype=np.int32).reshape(2, old)
        for new in news:
            for stored, size in ((labels, (5, new)), (np.ascontiguousarray(labels.T), (new, 5))):
                found = resize_labels_as_opencv(torch.from_numpy(stored)[None], size)[0]
                expected = cv2.resize(stored, size[::-1], interpolation=cv2.INTER_NEAREST)
                assert np.array_equal(found.numpy(), expected), (old, new)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_8_bits_are_those_of_opencv_bit_for_bit(interpolation: str, channels: int):
    stored = np.random.default_rng(0).integers(0, 256, (61, 83, channels), np.uint8)
    mode = {"nearest": cv2.INTER_NEAREST, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
    image = torch.from_numpy(stored).permute(2, 0, 1).float() / 255
    for size in ((32, 32), (61, 83), (100, 40)):
        found = resize_image_as_opencv(image, size, interpolation)
        expected = cv2.resize(stored, size[::-1], interpolation=mode[interpolation]).reshape(*size, channels)
        assert torch.equal(found, torch.from_numpy(expected).permute(2, 0, 1).float() / 255)
