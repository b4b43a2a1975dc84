"""Distances between the borders of predicted and target masks.

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
    """Return the 95th percentile of the distances from each border to the other, in pixels.

    A border pixel belongs to the mask and has a 4-neighbor that does not; pixels
    outside of the image do not belong to it. The percentile is over the distances of both directions, as in
    medpy.

    Args:
        a: Mask, (H, W), not empty.
        b: Other mask, (H, W), not empty.
    """
    first, second = (np.argwhere(mask & ~binary_erosion(mask)) for mask in (a, b))
    there, _ = cKDTree(second).query(first)
    back, _ = cKDTree(first).query(second)
    return float(np.percentile(np.concatenate([there, back]), PERCENTILE))


def border_distances(preds: Tensor, target: Tensor) -> Tensor:
    """Return `hausdorff95` of each image and class.

    Args:
        preds: Predicted planes, bool (B, K, H, W).
        target: Target planes, of the same shape.

    Returns:
        Distances, float64 (B, K) on the CPU; NaN if both masks are empty, infinity if one is.
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

    The value of an image is the mean over the classes of mask or prediction, 0 if both are empty. `empty`
    sets the distance of a class that only one of them has:

    diagonal: the diagonal of the image, which is the largest possible distance.

    exclude: such classes are left out, and images without other classes too; see `count_excluded`.

    Args:
        empty: "diagonal" or "exclude".
        count_excluded: Return the share of images with an excluded class instead.
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
            distances: Distances, (B, K), see `border_distances`.
            diagonal: Diagonal of the images in pixels.
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
        """Return the mean; NaN if all images are excluded."""
        return self.total / (self.num_images * POINT)
