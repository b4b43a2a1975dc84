"""Tiles cover every pixel, reach no further than the image, and their weights sum to 1."""

import numpy as np
import pytest

from kanvision.prediction import Tiling

SIZES = [(1, 8, 2), (8, 8, 0), (9, 8, 2), (40, 8, 0), (41, 8, 4), (100, 16, 4), (100, 16, 15), (257, 64, 16)]


@pytest.mark.parametrize(("length", "tile", "overlap"), SIZES)
def test_tiles_cover_the_image_and_share_what_they_must(length: int, tile: int, overlap: int) -> None:
    starts = Tiling(length, tile, overlap).starts
    assert starts[0] == 0
    assert starts[-1] == max(0, length - tile)
    steps = np.diff(starts)
    assert (steps > 0).all()
    assert (steps <= tile - overlap).all()
    assert np.ptp(steps) <= 1 if len(steps) else True  # evenly
    # one tile fewer would not do
    assert (len(starts) - 2) * (tile - overlap) + tile < length or len(starts) == 1


@pytest.mark.parametrize(("length", "tile", "overlap"), SIZES)
def test_weights_of_a_pixel_sum_to_1(length: int, tile: int, overlap: int) -> None:
    tiling = Tiling(length, tile, overlap)
    total = np.zeros(max(length, tile))
    for start, weights in zip(tiling.starts, tiling.weights, strict=True):
        assert (weights > 0).all()
        total[start : start + tile] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_weights_change_slowly_where_tiles_overlap() -> None:
    tiling = Tiling(1000, 64, 32)
    smooth = np.concatenate([[0], tiling.weights[5], [0]])
    assert np.abs(np.diff(smooth)).max() < 1.1 * np.pi / 2 / 32  # the steepest slope of sin^2
    assert smooth[1] < 0.01
    hard = Tiling(1024, 64, 0).weights
    assert (hard == 1).all()


@pytest.mark.parametrize(("length", "tile", "overlap"), [(10, 8, 8), (10, 8, -1), (0, 8, 2)])
def test_tiles_that_do_not_get_on_are_refused(length: int, tile: int, overlap: int) -> None:
    with pytest.raises(ValueError, match=r"share 0 to 7|nothing to predict"):
        Tiling(length, tile, overlap)
