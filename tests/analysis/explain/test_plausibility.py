"""Thresholds, overlaps and borders against OpenCV, scikit-learn and SciPy."""

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from kanvision.analysis.explain.plausibility import border_band, concentration, otsu, overlap, ranks, selected


def pictures(seed: int, kind: str) -> torch.Tensor:
    random = np.random.default_rng(seed)
    if kind == "noise":
        values = random.integers(0, 256, (3, 24, 20))
    elif kind == "two hills":
        values = np.where(random.random((3, 24, 20)) < 0.3, 180, 60) + random.integers(-30, 30, (3, 24, 20))
    else:
        values = random.exponential(20, (3, 24, 20)).astype(int).clip(0, 255)
    values[:, 0, :2] = (0, 255)  # OpenCV's histogram always spans 0 to 255; ours spans the values
    return torch.from_numpy(values)


@pytest.mark.parametrize("kind", ["noise", "two hills", "skewed"])
@pytest.mark.parametrize("seed", range(3))
def test_otsu_chooses_the_pixels_that_opencv_chooses(kind, seed):
    maps = pictures(seed, kind)
    expected = [
        cv2.threshold(picture.numpy().astype(np.uint8), 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[1]
        for picture in maps
    ]
    assert torch.equal(selected(maps.float()), torch.from_numpy(np.stack(expected) > 0))
    # neither the unit nor an offset matters
    assert torch.equal(selected(maps.double() * 1e-7 + 3), torch.from_numpy(np.stack(expected) > 0))


def test_maps_without_contrast_choose_nothing():
    maps = torch.stack([torch.zeros(4, 4), torch.full((4, 4), 2.5)])
    assert otsu(maps).tolist() == [0, 2.5]
    assert not selected(maps).any()


def test_two_values_are_parted_between_them():
    maps = torch.zeros(1, 4, 4)
    maps[0, 1:3, 1] = 7.0
    assert torch.equal(selected(maps), maps > 0)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_a_share_of_the_pixels(share):
    torch.manual_seed(0)
    maps = torch.rand(3, 20, 10)
    chosen = selected(maps, share)
    assert chosen.sum(dim=(1, 2)).tolist() == [round(share * 200)] * 3
    for values, taken in zip(maps, chosen, strict=True):
        assert values[taken].min() > values[~taken].max()


def test_equal_values_are_ranked_without_preference_for_a_corner():
    found = ranks(torch.zeros(2, 16, 16))
    assert found[0].flatten().sort().values.tolist() == list(range(256))
    assert torch.equal(found[0], found[1])
    quarters = [
        int((found[0, rows, cols] < 64).sum())
        for rows in (slice(8), slice(8, 16))
        for cols in (slice(8), slice(8, 16))
    ]
    assert all(6 <= number <= 26 for number in quarters)
    assert torch.equal(ranks(torch.tensor([[[1.0, 3.0], [2.0, 0.0]]])), torch.tensor([[[2, 0], [1, 3]]]))


def test_overlap_is_that_of_scikit_learn():
    torch.manual_seed(0)
    found, truth = torch.rand(4, 9, 7) > 0.6, torch.rand(4, 9, 7) > 0.5
    scores = overlap(found, truth)
    judges = {
        "iou": jaccard_score,
        "precision": precision_score,
        "recall": recall_score,
        "f1": f1_score,
    }
    for name, judge in judges.items():
        expected = [judge(t.flatten(), f.flatten()) for f, t in zip(found, truth, strict=True)]
        assert getattr(scores, name).tolist() == pytest.approx(expected)


def test_overlap_with_nothing():
    nothing, something = torch.zeros(1, 3, 3, dtype=torch.bool), torch.ones(1, 3, 3, dtype=torch.bool)
    assert [float(score) for score in overlap(nothing, something)] == [0, 0, 0, 0]
    assert [float(score) for score in overlap(something, nothing)] == [0, 0, 0, 0]
    assert all(score.isnan().all() for score in overlap(nothing, nothing))


@pytest.mark.parametrize("width", [1, 2, 3])
def test_borders_are_those_of_scipy(width):
    torch.manual_seed(0)
    smooth = torch.nn.functional.avg_pool2d(torch.rand(3, 1, 30, 26), 7, 1, 3)[:, 0]
    masks = smooth > smooth.mean()
    masks[2] = False
    masks[2, 5:15, 0:9] = True  # touches the frame, which is no edge
    square = np.ones((2 * width + 1, 2 * width + 1))
    for mask, band in zip(masks.numpy(), border_band(masks, width).numpy(), strict=True):
        dilated = ndimage.binary_dilation(mask, square)
        eroded = ndimage.binary_erosion(mask, square, border_value=1)
        assert np.array_equal(band, dilated & ~eroded)
        assert band.any()


def test_a_mask_of_everything_or_nothing_has_no_border():
    masks = torch.stack([torch.zeros(6, 6), torch.ones(6, 6)]).bool()
    assert not border_band(masks).any()


def test_concentration():
    region = torch.zeros(1, 4, 4, dtype=torch.bool)
    region[:, :2, :2] = True  # a quarter of the image
    maps = torch.ones(1, 4, 4)
    assert concentration(maps, region).tolist() == [1.0]
    maps[region] = 3.0  # 12 of 24
    assert concentration(maps, region).tolist() == [2.0]
    assert concentration(maps, region & False).isnan().all()
    assert concentration(maps * 0, region).isnan().all()
