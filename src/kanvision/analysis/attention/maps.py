"""Attention maps as pictures and numbers. B images, h heads, gh gw grid of patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kanvision.analysis.explain.figures import Panel, sheet

__all__ = ["BlockMaps", "likeness", "map_facts", "map_sheet"]

FEW_HEADS = 3
CELL = 1.5  # inches
Floats = NDArray[np.float32]


class BlockMaps(NamedTuple):
    """Maps of some images in one block."""

    name: str
    """Path of the attention."""
    heads: Sequence[int]
    """Indices of the heads."""
    num_softmax_heads: int
    """Number of heads of the block with a softmax, which come first."""
    before: Floats
    """Maps of the logits, (B, h, gh, gw)."""
    after: Floats
    """Maps of the attention weights, (B, h, gh, gw)."""

    def head_name(self, index: int) -> str:
        """Return the name of the head at an index."""
        kind = " (softmax)" if 0 < self.num_softmax_heads < len(self.heads) else ""
        number = self.heads[index]
        return f"head {number}{kind if number < self.num_softmax_heads else ''}"


def map_facts(before: Floats, after: Floats) -> Mapping[str, float]:
    """Summarize one map (gh, gw) of logits and the same map after the activation.

    `negative_share` is the sum of the negative entries over the sum of all, without their signs;
    `effective_patches` = (sum |a|)^2 / sum a^2, the number of patches of a uniform map with the same ratio.
    """
    size = np.abs(after)
    total, squares = float(size.sum()), float((size**2).sum())
    return {
        "logit_min": float(before.min()),
        "logit_max": float(before.max()),
        "min": float(after.min()),
        "max": float(after.max()),
        "sum": float(after.sum()),
        "negative_share": float(size[after < 0].sum()) / total if total else 0.0,
        "effective_patches": total**2 / squares if squares else 0.0,
    }


def likeness(after: Floats) -> float:
    """Mean cosine of the maps of two images in one head, over all pairs and heads; NaN for one image.

    1: the network looks at the same places whatever the image is.
    """
    count = len(after)
    if count < 2:
        return float("nan")
    flat = after.reshape(count, after.shape[1], -1).astype(np.float64)  # (B, h, gh gw)
    flat = flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-300)
    cosines = np.einsum("ahp,bhp->hab", flat, flat)
    return float((cosines.sum((1, 2)) - count).mean() / (count * (count - 1)))


def map_sheet(pictures: NDArray[np.uint8], labels: Sequence[str], block: BlockMaps) -> Figure:
    """A row for each image: logits where they are positive, and signed entries after the activation.

    Of more than a few heads the two have rows of their own. `pictures` are (B, H, W, 3).
    """
    rows, names = [], []
    for index, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        heads = [_head_panels(picture, block, index, head) for head in range(len(block.heads))]
        if len(heads) <= FEW_HEADS:
            rows.append([Panel("", picture), *(panel for pair in heads for panel in pair)])
            names.append(label)
        else:
            rows += [[Panel("", picture), *panels] for panels in zip(*heads, strict=True)]
            names += [label, ""]
    return sheet(rows, names, cell=CELL)


def _head_panels(picture: NDArray[np.uint8], block: BlockMaps, index: int, head: int) -> tuple[Panel, Panel]:
    before, after = block.before[index, head], block.after[index, head]
    name, most = block.head_name(head), max(0.0, float(before.max()))
    size = float(np.abs(after).max())
    return (
        Panel(f"{name}: logits\n0 to {most:.2g}", before.clip(0), under=picture, empty="all <= 0"),
        Panel(f"{name}: after\n\u00b1 {size:.2g}", after, signed=True, under=picture),
    )
