"""Blended tiles: equal to one pass where the network sees single pixels, smooth where not, and lean."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kanvision.models import create_model
from kanvision.prediction import Strip, Tiling, blend_tiles
from kanvision.prediction.tile_blending import regroup_rows


def scene(height: int, width: int, channels: int = 2, holes: bool = False) -> Strip:
    rng = np.random.default_rng(height)
    valid = rng.random((height, width)) > 0.3 if holes else np.ones((height, width), bool)
    return Strip(rng.random((channels, height, width), np.float32), valid)


def whole(
    image: Strip, predict, planes: int, tile: int, overlap: int, batch_size: int = 3, **options
) -> Strip:
    rows, columns = (Tiling(length, tile, overlap) for length in image.valid.shape)

    def read(top: int, bottom: int) -> Strip:
        return Strip(image.values[:, top:bottom], image.valid[top:bottom])

    strips = list(blend_tiles(read, predict, planes, rows, columns, batch_size, **options))
    return Strip(
        np.concatenate([strip.values for strip in strips], axis=1),
        np.concatenate([strip.valid for strip in strips]),
    )


def by_pixel(tiles) -> torch.Tensor:
    values = torch.stack([torch.from_numpy(tile.values) for tile in tiles])
    return torch.stack([values[:, 0] ** 2, values.mean(dim=1), values[:, 1]], dim=1)


SHAPES = [(50, 70, 16, 4), (16, 16, 16, 4), (9, 40, 16, 8), (5, 3, 16, 4), (40, 33, 16, 0), (33, 40, 16, 12)]


@pytest.mark.parametrize(("height", "width", "tile", "overlap"), SHAPES)
def test_a_network_of_single_pixels_is_not_changed(height: int, width: int, tile: int, overlap: int) -> None:
    image, done = scene(height, width), []
    found = whole(image, by_pixel, 3, tile, overlap, advance=done.append)
    np.testing.assert_allclose(found.values, by_pixel([image])[0].numpy(), atol=1e-6)
    assert sum(done) == len(Tiling(height, tile, overlap).starts) * len(Tiling(width, tile, overlap).starts)


def test_tiles_are_blended_as_the_plain_sum_over_the_whole_image_says() -> None:
    image, tile, overlap = scene(40, 52), 16, 6

    def edges(tiles) -> torch.Tensor:
        return by_pixel(tiles) * torch.linspace(0, 1, tile)  # each tile its own picture

    found = whole(image, edges, 3, tile, overlap)
    rows, columns = Tiling(40, tile, overlap), Tiling(52, tile, overlap)
    total = np.zeros((3, 40, 52))
    for top, high in zip(rows.starts, rows.weights, strict=True):
        for left, wide in zip(columns.starts, columns.weights, strict=True):
            part = np.s_[:, top : top + tile, left : left + tile]
            planes = edges([Strip(image.values[part], image.valid[part[1:]])])[0].numpy()
            total[part] += planes * high[:, None] * wide
    np.testing.assert_allclose(found.values, total, atol=1e-6)


def test_an_image_smaller_than_a_tile_goes_on_as_its_mirror_image() -> None:
    image, seen = scene(5, 3), []
    whole(image, lambda tiles: (seen.extend(tiles), by_pixel(tiles))[1], 3, 8, 2)
    expected = F.pad(torch.from_numpy(image.values), (0, 2, 0, 3), mode="reflect").numpy()
    np.testing.assert_array_equal(seen[0].values[:, :8, :5], expected)
    assert seen[0].values.shape == (2, 8, 8)


def test_tiles_without_data_are_not_predicted() -> None:
    image, seen = scene(32, 64), []
    image.valid[:, :30] = False
    found = whole(image, lambda tiles: (seen.extend(tiles), by_pixel(tiles))[1], 3, 16, 4)
    assert all(tile.valid.any() for tile in seen)
    assert len(seen) < len(Tiling(32, 16, 4).starts) * len(Tiling(64, 16, 4).starts)
    expected = by_pixel([image])[0].numpy()
    np.testing.assert_allclose(found.values[:, :, 30:], expected[:, :, 30:], atol=1e-6)
    np.testing.assert_array_equal(found.valid, image.valid)


@pytest.mark.parametrize("size", [1, 7, 16, 100])
def test_rows_are_put_into_groups(size: int) -> None:
    image = scene(45, 6, holes=True)
    cuts = [0, 3, 4, 20, 21, 45]
    strips = [Strip(image.values[:, a:b], image.valid[a:b]) for a, b in pairwise(cuts)]
    groups = list(regroup_rows(strips, size))
    assert [len(group.valid) for group in groups[:-1]] == [size] * (len(groups) - 1)
    np.testing.assert_array_equal(np.concatenate([group.values for group in groups], axis=1), image.values)
    np.testing.assert_array_equal(np.concatenate([group.valid for group in groups]), image.valid)


def peak_bytes(height: int) -> int:
    """Most bytes of arrays that live at a time while a scene of this height is predicted."""
    rows, columns = Tiling(height, 32, 8), Tiling(96, 32, 8)

    def read(top: int, bottom: int) -> Strip:
        return Strip(np.full((4, bottom - top, 96), top % 7, np.float32), np.ones((bottom - top, 96), bool))

    def predict(tiles) -> torch.Tensor:
        return torch.from_numpy(np.stack([tile.values for tile in tiles]) / 7)

    tracemalloc.start()
    for strip in regroup_rows(blend_tiles(read, predict, 4, rows, columns, 2), 64):
        assert strip.values.shape[2] == 96
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_height_of_the_scene() -> None:
    peak_bytes(64)  # what is imported and cached at first
    low, high = peak_bytes(256), peak_bytes(4096)
    # Weights of rows are all that grows, not with the area.
    assert high - low < 0.03 * (4 * 96 * (4096 - 256) * 4)


def steps(planes: np.ndarray, seams: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Differences of neighboring columns at seams, and elsewhere."""
    change = np.abs(np.diff(planes, axis=-1))
    at = np.zeros(change.shape[-1], bool)
    at[[seam - 1 for seam in seams]] = True
    return change[..., at], change[..., ~at]


def test_seams_of_a_real_network_cannot_be_seen() -> None:
    torch.manual_seed(0)
    network = create_model("ukan_small", num_classes=1, in_chans=2).eval()
    image, tile = scene(64, 288), 32
    image = Strip(F.avg_pool2d(torch.from_numpy(image.values), 5, 1, 2).numpy(), image.valid)

    @torch.inference_mode()
    def predict(tiles) -> torch.Tensor:
        logits = network(torch.stack([torch.from_numpy(tile.values) for tile in tiles]))
        return ((logits - logits.mean()) / logits.std()).sigmoid()  # an untrained network is nearly flat

    blunt, smooth = (whole(image, predict, 1, tile, overlap, 8).values for overlap in (0, 16))
    hard, around = steps(blunt, list(Tiling(288, tile, 0).starts[1:]))
    starts = Tiling(288, tile, 16).starts
    ends = [*starts[1:], *(start + tile for start in starts[:-1])]
    soft, elsewhere = steps(smooth, ends)
    assert hard.mean() > 2 * around.mean()  # without blending they can
    assert soft.max() <= elsewhere.max()
    assert soft.mean() <= 1.1 * elsewhere.mean()
