"""Scores of whole objects, as the GlaS challenge defines them.

B batch, H W space, n objects of the ground truth, m predicted objects.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, Final, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, find_objects
from scipy.ndimage import label as connected
from scipy.spatial import cKDTree
from torch import Tensor
from torchmetrics import Metric

__all__ = ["OBJECT_SCORES", "ObjectScore", "object_tallies"]

ObjectScoreName = Literal["object_f1", "object_dice", "object_hausdorff"]
OBJECT_SCORES: Final[tuple[ObjectScoreName, ...]] = get_args(ObjectScoreName)
NUM_TALLIES = 9
DICE_POINT, DISTANCE_POINT = 2**16, 2**10
"""Areas times Dice, and times distances, are added up in units of one over these."""
EIGHT = np.ones((3, 3), int)

Labels = NDArray[np.int64]


def object_tallies(preds: Tensor, instances: Tensor) -> Tensor:
    """Return the sums of each image from which `ObjectScore` is computed.

    Args:
        preds: Predicted foreground (B, H, W), bool; its objects are the 8-connected parts.
        instances: Number of the object of each pixel (B, H, W), 0 being background.

    Returns:
        (B, 9) int64 on the CPU: true positives, false positives, false negatives; then, of predicted and then
        of right objects, the area, the area times Dice, and the area times the distance.
    """
    found, right = (x.cpu().numpy() for x in (preds, instances))
    rows = [_tally(connected(a, EIGHT)[0], b) for a, b in zip(found, right, strict=True)]
    return torch.from_numpy(np.stack(rows))


def _tally(found: Labels, right: Labels) -> NDArray[np.int64]:
    s, g = _Objects(found), _Objects(right)
    overlap = np.bincount(
        (s.labels * (len(g) + 1) + g.labels).ravel(), minlength=(len(s) + 1) * (len(g) + 1)
    ).reshape(len(s) + 1, len(g) + 1)[1:, 1:]  # (m, n)
    partners = overlap.argmax(axis=1) if len(g) else ()
    hits = sum(2 * overlap[i, j] > g.areas[j] for i, j in enumerate(partners))
    tally = np.zeros(NUM_TALLIES, np.int64)
    tally[:3] = hits, len(s) - hits, len(g) - hits
    for offset, own, other, table in ((3, s, g, overlap), (6, g, s, overlap.T)):
        for i, area in enumerate(own.areas):
            dice, distance = _against_partner(own, i, other, table[i])
            tally[offset] += area
            tally[offset + 1] += round(area * dice * DICE_POINT)
            tally[offset + 2] += round(area * distance * DISTANCE_POINT)
    return tally


def _against_partner(own: _Objects, i: int, other: _Objects, overlap: Labels) -> tuple[float, float]:
    """Return Dice and distance of an object to the one with the largest overlap, else to the nearest one."""
    if overlap.any():
        j = int(overlap.argmax())
        return 2 * overlap[j] / (own.areas[i] + other.areas[j]), _hausdorff(own, i, other, j)
    nearest = math.hypot(*own.labels.shape)
    # the ends of bounding boxes are a lower bound: most false positives need one distance only
    bounds = np.abs(other.ends - own.ends[i]).max(axis=1, initial=0)
    for j in np.argsort(bounds):
        if bounds[j] >= nearest:
            break
        nearest = min(nearest, _hausdorff(own, i, other, j))
    return 0.0, nearest


class _Objects:
    """Objects of one image, in the order of their numbers.

    Attributes:
        labels: (H, W), 0 for background, then 1, 2, ... without gaps.
        areas: Pixels of each object.
    """

    def __init__(self, labels: Labels) -> None:
        numbers, dense = np.unique(np.append(labels.ravel(), 0), return_inverse=True)
        self.labels = dense[:-1].reshape(labels.shape)
        self.areas = np.bincount(self.labels.ravel(), minlength=len(numbers))[1:]
        self._boxes = find_objects(self.labels)

    def __len__(self) -> int:
        return len(self.areas)

    @cached_property
    def ends(self) -> Labels:
        """First and last row and column of each object, (n, 4)."""
        ends = [[(part.start, part.stop) for part in box] for box in self._boxes]
        return np.array(ends, int).reshape(-1, 4)

    @cached_property
    def pixels(self) -> list[Labels]:
        """Rows and columns of the pixels of each object, (area, 2)."""
        found = enumerate(self._boxes, 1)
        return [np.argwhere(self.labels[box] == i) + [part.start for part in box] for i, box in found]

    @cached_property
    def borders(self) -> list[cKDTree]:
        """Rows and columns of the pixels of each object that have a 4-neighbor outside of it."""
        trees = []
        for i, box in enumerate(self._boxes, 1):
            mask = self.labels[box] == i
            trees.append(cKDTree(np.argwhere(mask & ~binary_erosion(mask)) + [part.start for part in box]))
        return trees


def _hausdorff(first: _Objects, i: int, second: _Objects, j: int) -> float:
    """Return the Hausdorff distance of two objects."""
    return max(_directed(first, i, second, j), _directed(second, j, first, i))


def _directed(first: _Objects, i: int, second: _Objects, j: int) -> float:
    pixels = first.pixels[i]
    outside = pixels[second.labels[pixels[:, 0], pixels[:, 1]] != j + 1]
    # of a pixel outside, the nearest one of the object lies on its border
    return float(second.borders[j].query(outside)[0].max(initial=0.0))


class ObjectScore(Metric):
    """Scores of the GlaS challenge (Sirinukunwattana et al. 2017, arXiv 1603.00275), over all images.

    The partner of an object is the one of the other side, in the same image, with which it shares most
    pixels; of equals, the one with the smaller number.

    object_f1: F1 of finding objects. A predicted object is right if it covers more than half of its partner;
    right objects that none covers so are missed.

    object_dice: (sum_i w_i Dice(S_i, partner) + sum_j v_j Dice(G_j, partner)) / 2, over all predicted objects
    S_i and right ones G_j of all images, weighted by their share of the area of all objects of their side; 0
    without a partner.

    object_hausdorff: the same with the Hausdorff distance of all pixels, in pixels. Without a partner, to the
    object of the other side for which it is smallest; where the image has none, the diagonal of the image,
    about which the challenge says nothing.

    Where one side has no object in any image, the other side alone counts; where neither has, the scores are
    1, 1 and 0.

    Args:
        score: One of `OBJECT_SCORES`.
        **kwargs: Arguments of `torchmetrics.Metric`.
    """

    full_state_update = False
    is_differentiable = False
    tallies: Tensor

    def __init__(self, score: ObjectScoreName = "object_f1", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.score = score
        self.add_state("tallies", torch.zeros(NUM_TALLIES, dtype=torch.int64), dist_reduce_fx="sum")

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        """False for a distance."""
        return self.score != "object_hausdorff"

    def update(self, tallies: Tensor) -> None:
        """Add images.

        Args:
            tallies: (B, 9), see `object_tallies`.
        """
        self.tallies += tallies.sum(dim=0).to(self.tallies.device)

    def compute(self) -> Tensor:
        """Return the score of all images."""
        hits, false_alarms, misses, *sides = self.tallies.tolist()
        if not hits + false_alarms + misses:
            return torch.tensor(0.0 if self.score == "object_hausdorff" else 1.0)
        if self.score == "object_f1":
            return torch.tensor(2 * hits / (2 * hits + false_alarms + misses))
        offset, point = (1, DICE_POINT) if self.score == "object_dice" else (2, DISTANCE_POINT)
        means = [side[offset] / point / side[0] for side in (sides[:3], sides[3:]) if side[0]]
        return torch.tensor(sum(means) / len(means))
