"""HD95 against distances between all border pixels, and what empty masks count."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion, distance_transform_edt

from kanvision.metrics import BorderDistance, border_distances, hausdorff95


def blobs(seed: int, size: tuple[int, int] = (19, 23), share: float = 0.5) -> np.ndarray:
    """Smooth random shapes, some touching the edge of the image."""
    noise = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.avg_pool2d(noise, 5, 1, 2, count_include_pad=False)[0, 0]
    return (smooth > smooth.quantile(1 - share)).numpy()


def border(mask: np.ndarray) -> list[tuple[int, int]]:
    rows, columns = mask.shape
    found = []
    for i, j in zip(*np.nonzero(mask), strict=True):
        around = ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1))
        if any(not (0 <= a < rows and 0 <= b < columns and mask[a, b]) for a, b in around):
            found.append((int(i), int(j)))
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_it_is_the_percentile_of_all_distances(seed: int, share: float):
    a, b = blobs(seed, share=share), blobs(seed + 100, share=0.4)
    first, second = border(a), border(b)
    there = [min(math.dist(p, q) for q in second) for p in first]
    back = [min(math.dist(p, q) for q in first) for p in second]
    assert hausdorff95(a, b) == pytest.approx(np.percentile(there + back, 95))
    # and so say the distance transforms that medpy uses
    edges = [mask & ~binary_erosion(mask) for mask in (a, b)]
    transforms = [
        distance_transform_edt(~edge)[other] for edge, other in zip(edges, edges[::-1], strict=True)
    ]
    assert hausdorff95(a, b) == pytest.approx(np.percentile(np.concatenate(transforms), 95))
    assert hausdorff95(a, a) == 0.0


def planes() -> tuple[torch.Tensor, torch.Tensor]:
    """Images of two classes: both there, one missed, one missed and nothing else, nothing."""
    shapes = torch.from_numpy(np.stack([blobs(seed) for seed in range(4)]))
    empty = torch.zeros_like(shapes[0])
    preds = [(shapes[0], shapes[1]), (shapes[2], empty), (empty, empty), (empty, empty)]
    target = [(shapes[2], shapes[3]), (shapes[3], shapes[1]), (shapes[0], empty), (empty, empty)]
    return tuple(torch.stack([torch.stack(pair) for pair in x]) for x in (preds, target))


def test_empty_masks_count_what_the_policy_says():
    preds, target = planes()
    distances = border_distances(preds, target)
    d = [
        hausdorff95(p.numpy(), t.numpy())
        for p, t in zip(preds[:2].flatten(0, 1), target[:2].flatten(0, 1), strict=True)
        if p.any()
    ]
    expected = [[d[0], d[1]], [d[2], math.inf], [math.inf, math.nan], [math.nan, math.nan]]
    torch.testing.assert_close(distances, torch.tensor(expected, dtype=torch.float64), equal_nan=True)
    diagonal = math.hypot(19, 23)
    values = {}
    for name, metric in {
        "diagonal": BorderDistance("diagonal"),
        "exclude": BorderDistance("exclude"),
        "excluded": BorderDistance("exclude", count_excluded=True),
    }.items():
        for part in (slice(0, 1), slice(1, 4)):
            metric.update(distances[part], diagonal)
        values[name] = float(metric.compute())
    both = (d[0] + d[1]) / 2
    assert values["diagonal"] == pytest.approx((both + (d[2] + diagonal) / 2 + diagonal + 0) / 4, abs=1e-5)
    assert values["exclude"] == pytest.approx((both + d[2] + 0) / 3, abs=1e-5)
    assert values["excluded"] == 2 / 4


def test_nothing_left_is_no_distance():
    metric = BorderDistance("exclude")
    metric.update(torch.tensor([[math.inf]], dtype=torch.float64), 10.0)
    assert metric.compute().isnan()


def test_the_value_does_not_depend_on_batches_or_processes():
    generator = torch.Generator().manual_seed(0)
    distances = torch.rand(20, 3, dtype=torch.float64, generator=generator) * 40
    distances[::3, 1] = math.inf
    whole, *ranks = (BorderDistance() for _ in range(3))
    whole.update(distances, 50.0)
    for rank, metric in enumerate(ranks):
        for index in torch.arange(rank, 20, 2).flip(0).split(3):
            metric.update(distances[index], 50.0)
    ranks[0].merge_state(ranks[1])
    assert torch.equal(ranks[0].compute(), whole.compute())
