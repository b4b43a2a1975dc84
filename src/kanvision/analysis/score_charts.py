"""Charts of the scores of single images. N images, C classes, H W space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kanvision.visualization.charts import new_chart, split_lines

__all__ = ["calibration_chart", "confusion_chart", "gallery", "roc_chart", "score_histogram"]

Array = NDArray[np.float64]
MOST_LABELED = 30
"""Largest number of classes whose names are drawn."""
MOST_CURVES = 10
BLUE = "#1f4e8c"


def confusion_chart(counts: NDArray[np.int64], names: Sequence[str]) -> Figure:
    """Draw the share of the images of each class (row) that are predicted as each class."""
    size = len(names)
    side = min(11.0, 2.2 + 0.42 * size)
    figure, [[ax]] = new_chart(side + 0.8, side, labels=9, ticks=10, framed=True)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=ax, shrink=0.7).set_label("share of the images of a class", fontsize=8)
    if size <= MOST_LABELED:
        ax.set_xticks(range(size), names, rotation=90 if max(map(len, names)) > 2 else 0, fontsize=8)
        ax.set_yticks(range(size), names, fontsize=8)
        for row, column in zip(*np.nonzero(counts), strict=True):
            color = "white" if shares[row, column] > 0.5 else "black"
            ax.text(column, row, f"{counts[row, column]}", ha="center", va="center", fontsize=7, color=color)
    ax.set(xlabel="predicted class", ylabel="class")
    return figure


def calibration_chart(edges: Array, accuracy: Array, confidence: Array, counts: Array) -> Figure:
    """Draw the accuracy in each bin of the confidence, above the number of images in the bin."""
    look: dict[str, Any] = {"labels": 9, "ticks": 8, "sharex": True, "height_ratios": (3, 1)}
    figure, [[top], [below]] = new_chart(4.6, 4.6, 2, 1, **look)
    top.plot([0, 1], [0, 1], color="#999999", lw=1, ls="--", label="calibrated")
    filled = counts > 0
    error = np.sqrt(accuracy * (1 - accuracy) / np.maximum(counts, 1))
    look = {"color": BLUE, "marker": "o", "ms": 4, "lw": 1.4, "capsize": 2}
    top.errorbar(confidence[filled], accuracy[filled], error[filled], label="network", **look)
    top.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    top.legend(fontsize=8, frameon=False)
    below.bar(edges[:-1], counts, np.diff(edges), align="edge", color="#d1762a", alpha=0.75)
    below.set(xlabel="confidence (probability of the predicted class)", ylabel="images")
    return figure


def roc_chart(curves: Mapping[str, tuple[Array, Array, float]]) -> Figure:
    """Draw false and true positive rates with their area, by class; those with the smallest areas by name."""
    figure, [[ax]] = new_chart(4.8, 4.6, labels=9, ticks=8)
    ax.plot([0, 1], [0, 1], color="#999999", lw=1, ls="--")
    lowest = sorted(curves, key=lambda name: curves[name][2])[:MOST_CURVES]
    for name, (false, true, area) in curves.items():
        if name not in lowest:
            ax.plot(false, true, color="#cccccc", lw=0.8)
        else:
            ax.plot(false, true, lw=1.3, label=f"{name}: {area:.4f}")
    ax.set(xlim=(-0.01, 1), ylim=(0, 1.01), xlabel="false positive rate", ylabel="true positive rate")
    ax.legend(fontsize=7, frameon=False, loc="lower right")
    return figure


def score_histogram(scores: Array, name: str) -> Figure:
    """Draw the number of images with each score between 0 and 1."""
    figure, [[ax]] = new_chart(5.2, 3.2, labels=9, ticks=10)
    ax.hist(scores, bins=40, range=(0, 1), color=BLUE, alpha=0.85)
    ax.axvline(float(scores.mean()), color="#d1762a", lw=1.5, label=f"mean {scores.mean():.4f}")
    ax.set(xlabel=f"{name} of an image", ylabel="images")
    ax.legend(fontsize=8, frameon=False)
    return figure


def gallery(rows: Mapping[str, Sequence[tuple[NDArray[np.uint8], str]]], columns: int) -> Figure:
    """Draw images (H, W, 3), each with lines of text above it, in titled groups of lines."""
    lines = split_lines(((title, images) for title, images in rows.items() if images), columns)
    aspect = max((image.shape[1] / image.shape[0] for _, images in lines for image, _ in images), default=1.0)
    figure = Figure(figsize=(11.0, len(lines) * (11.0 / columns / aspect + 0.55) + 0.2), layout="constrained")
    for part, (title, images) in zip(
        figure.subfigures(len(lines), 1, hspace=0.02, squeeze=False)[:, 0], lines, strict=True
    ):
        if title:
            part.suptitle(title, fontsize=9, fontweight="bold", x=0.01, ha="left")
        for ax in (axes := part.subplots(1, columns, squeeze=False)[0]):
            ax.axis("off")
        for ax, (image, text) in zip(axes, images, strict=False):
            ax.imshow(image, interpolation="nearest")
            ax.set_title(text, fontsize=7)
    return figure
