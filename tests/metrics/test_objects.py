"""Object scores of the GlaS challenge against its definitions written out with sets of pixels."""

import math

import numpy as np
import pytest
import torch

from kanvision.metrics import OBJECT_SCORES, ObjectScore, object_tallies

SIZE = (14, 17)


def components(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """8-connected parts, found by flooding."""
    left = {(int(i), int(j)) for i, j in zip(*np.nonzero(mask), strict=True)}
    parts = []
    while left:
        part, edge = set(), {min(left)}
        while edge:
            part |= edge
            left -= edge
            edge = {(i + a, j + b) for i, j in edge for a in (-1, 0, 1) for b in (-1, 0, 1)} & left
        parts.append(part)
    return parts


def instances(labels: np.ndarray) -> list[set[tuple[int, int]]]:
    return [
        {(int(i), int(j)) for i, j in zip(*np.nonzero(labels == number), strict=True)}
        for number in np.unique(labels)
        if number
    ]


def hausdorff(a: set, b: set) -> float:
    return max(max(min(math.dist(p, q) for q in y) for p in x) for x, y in ((a, b), (b, a)))


def written_out(images: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Sums over all objects of all images."""
    hits = false_alarms = misses = 0
    sums = {"dice": [0.0, 0.0], "hausdorff": [0.0, 0.0]}
    areas = [0, 0]
    for mask, labels in images:
        found, right = components(mask), instances(labels)
        covered = set()
        for s in found:
            overlaps = [len(s & g) for g in right]
            if any(overlaps) and max(overlaps) > len(right[int(np.argmax(overlaps))]) / 2:
                covered.add(int(np.argmax(overlaps)))
            else:
                false_alarms += 1
        hits += len(covered)
        misses += len(right) - len(covered)
        for side, (own, other) in enumerate(((found, right), (right, found))):
            for a in own:
                overlaps = [len(a & b) for b in other]
                areas[side] += len(a)
                if any(overlaps):
                    b = other[int(np.argmax(overlaps))]
                    sums["dice"][side] += len(a) * 2 * len(a & b) / (len(a) + len(b))
                    sums["hausdorff"][side] += len(a) * hausdorff(a, b)
                else:
                    nearest = min((hausdorff(a, b) for b in other), default=math.hypot(*SIZE))
                    sums["hausdorff"][side] += len(a) * nearest
    f1 = 2 * hits / (2 * hits + false_alarms + misses)
    dice, distance = ((x[0] / areas[0] + x[1] / areas[1]) / 2 for x in sums.values())
    return {"object_f1": f1, "object_dice": dice, "object_hausdorff": distance}


def problem(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Objects with numbers that have gaps; the prediction misses, adds, shifts and joins some."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(SIZE, np.int64)
    for number in (3, 4, 9, 12):
        i, j = rng.integers(0, 11), rng.integers(0, 13)
        labels[i : i + rng.integers(1, 5), j : j + rng.integers(1, 6)] = number
    mask = np.roll(labels > 0, rng.integers(-2, 3, 2), (0, 1))
    mask[labels == rng.choice([3, 4, 9, 12])] = False
    mask[rng.integers(0, 14), rng.integers(0, 17)] = True
    return mask, labels


def scores(images: list[tuple[np.ndarray, np.ndarray]], batch: int = 3) -> dict[str, float]:
    values = {}
    for name in OBJECT_SCORES:
        metric = ObjectScore(name)
        for start in range(0, len(images), batch):
            mask, labels = (
                torch.from_numpy(np.stack(x)) for x in zip(*images[start : start + batch], strict=True)
            )
            metric.update(object_tallies(mask, labels))
        values[name] = float(metric.compute())
    return values


@pytest.mark.parametrize("seed", range(8))
def test_scores_are_their_definitions(seed: int):
    images = [problem(10 * seed + i) for i in range(4)]
    expected = written_out(images)
    assert scores(images) == pytest.approx(expected, abs=1e-3)
    assert scores(images, batch=1) == scores(images, batch=4)


def test_the_interior_of_a_ring_is_far_from_the_ring():
    """The largest distance lies inside of an object, not on its border."""
    disc = np.zeros(SIZE, bool)
    disc[2:13, 2:13] = True
    ring = np.zeros(SIZE, np.int64)
    ring[2:13, 2:13] = 7
    ring[3:12, 3:12] = 0
    assert scores([(disc, ring)])["object_hausdorff"] == 5.0


def test_images_without_objects():
    empty, mask = np.zeros(SIZE, np.int64), np.zeros(SIZE, bool)
    mask[2:4, 2:4] = True
    none = np.zeros(SIZE, bool)
    names = OBJECT_SCORES
    assert list(scores([(none, empty)]).values()) == [1.0, 1.0, 0.0]
    diagonal = pytest.approx(math.hypot(*SIZE), abs=1e-3)
    assert scores([(mask, empty)]) == dict(zip(names, (0.0, 0.0, diagonal), strict=True))
    assert scores([(none, mask * 1)]) == dict(zip(names, (0.0, 0.0, diagonal), strict=True))


def test_more_than_half_of_an_object_must_be_covered():
    right = np.zeros(SIZE, np.int64)
    right[0, :4] = 1
    for width, expected in ((2, 0.0), (3, 1.0)):
        mask = np.zeros(SIZE, bool)
        mask[0, :width] = True
        assert scores([(mask, right)])["object_f1"] == expected


def test_objects_that_touch_at_a_corner_are_one():
    mask = np.zeros(SIZE, bool)
    mask[0, 0] = mask[1, 1] = True
    assert object_tallies(torch.from_numpy(mask[None]), torch.zeros(1, *SIZE, dtype=torch.long))[0, 1] == 1


def test_processes_add_up():
    images = [problem(i) for i in range(6)]
    whole, *ranks = (ObjectScore("object_dice") for _ in range(3))
    mask, labels = (torch.from_numpy(np.stack(x)) for x in zip(*images, strict=True))
    tallies = object_tallies(mask, labels)
    whole.update(tallies)
    for rank, metric in enumerate(ranks):
        metric.update(tallies[rank::2])
    ranks[0].merge_state(ranks[1])
    assert torch.equal(ranks[0].compute(), whole.compute())
