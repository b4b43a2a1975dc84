"""Distances between the borders of predicted and right masks.

B batch, K foreground classes, H W space.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from scipy.spatial import cKDTree
from torch import Tensor
from torchmetrics import Metric

from kanvision.spec.tasks import EmptyMaskPolicy

__all__ = ["BorderDistance", "border_distances", "hausdorff95"]

PERCENTILE = 95
POINT = 2**20
"""Distances are added up in units of 1 / POINT pixels."""

Plane = NDArray[np.bool_]


def hausdorff95(a: Plane, b: Plane) -> float:
    """95th percentile of the distances from each border to the other, in pixels.

    A border pixel belongs to the mask and has a 4-neighbor that does not; outside of the image there is no
    mask. The distances of both directions are taken together, as medpy does.

    Args:
        a: A mask (H, W) that is not empty.
        b: The other mask, not empty.
    """
    first, second = (np.argwhere(mask & ~binary_erosion(mask)) for mask in (a, b))
    there, _ = cKDTree(second).query(first)
    back, _ = cKDTree(first).query(second)
    return float(np.percentile(np.concatenate([there, back]), PERCENTILE))


def border_distances(preds: Tensor, target: Tensor) -> Tensor:
    """`hausdorff95` of each image and class.

    Args:
        preds: Predicted planes (B, K, H, W), bool.
        target: Right planes, of the same shape.

    Returns:
        (B, K) float64 on the CPU; NaN where both masks are empty, infinity where one is.
    """
    found, right = (planes.flatten(0, 1).cpu().numpy() for planes in (preds, target))  # (B*K, H, W)
    values = [_distance(a, b) for a, b in zip(found, right, strict=True)]
    return torch.tensor(values, dtype=torch.float64).reshape(preds.shape[:2])


def _distance(a: Plane, b: Plane) -> float:
    if a.any() and b.any():
        return hausdorff95(a, b)
    return math.inf if a.any() or b.any() else math.nan


class BorderDistance(Metric):
    """Mean over images of the 95th percentile of the Hausdorff distance (HD95), in pixels of the masks.

    Of an image it is the mean over the classes that mask or prediction have; 0 where neither has any. A class
    that only one of them has lies infinitely far away; `empty` says what that counts:

    diagonal: the diagonal of the image, the largest distance that there can be.

    exclude: nothing. Such classes are left out, and so are images that have no others; how many, see
    `count_excluded`.

    Args:
        empty: diagonal or exclude.
        count_excluded: The value is the share of images with a class that was left out.
        **kwargs: Arguments of `torchmetrics.Metric`.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    total: Tensor
    num_images: Tensor

    def __init__(
        self,
        empty: EmptyMaskPolicy = "diagonal",
        *,
        count_excluded: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.empty = empty
        self.count_excluded = count_excluded
        self.add_state("total", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("num_images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, distances: Tensor, diagonal: float) -> None:
        """Add images.

        Args:
            distances: (B, K), see `border_distances`.
            diagonal: That of the images.
        """
        one_sided = distances.isinf()
        if self.count_excluded:
            value, counts = one_sided.any(dim=1).double(), torch.ones(len(distances), dtype=torch.bool)
        else:
            if self.empty == "diagonal":
                distances = distances.where(~one_sided, diagonal)
            known = distances.isfinite()
            value = distances.where(known, 0.0).sum(dim=1) / known.sum(dim=1).clamp(min=1)
            counts = known.any(dim=1) | ~one_sided.any(dim=1)  # the last: nothing there, nothing found
        points = (value * counts * POINT).round().to(torch.int64)
        self.total += points.sum().to(self.total.device)
        self.num_images += counts.sum().to(self.num_images.device)

    def compute(self) -> Tensor:
        """The mean; NaN where all images were left out."""
        return self.total / (self.num_images * POINT)
