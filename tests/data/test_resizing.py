"""Images and labels are resized about the same pixel centres."""

import cv2
import numpy as np
import pytest
import torch

from kanvision.data.resizing import resize_image, resize_labels


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
