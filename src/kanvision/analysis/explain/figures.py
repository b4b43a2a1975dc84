"""Figures of explanations: sheets of images with saliency maps, and bars for channels.

C channels, H W space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kanvision.visualization.charts import new_chart

__all__ = ["Panel", "channel_chart", "sheet", "write_sheet"]

CELL = 2.0  # inches: side of an image in a sheet
DPI = 100
HEAT, SIGNED = "inferno", "RdBu_r"
MAP_ALPHA = 0.75
"""Opacity of a map over an image."""
EDGE = "#00e5ff"
"""Color of the outline of the mask, which no heat map has."""
BARS = ("#3b6fb6", "#e08a1e", "#5a9e5a")


class Panel(NamedTuple):
    """Panel of a sheet."""

    title: str
    pixels: NDArray[Any]
    """Colors (H, W, 3), or a map (H, W): not negative, or signed."""
    outline: NDArray[np.bool_] | None = None
    """Mask whose edge is drawn, (H, W)."""
    signed: bool = False
    """True for a map with two signs: red for the class, blue against it."""
    under: NDArray[np.uint8] | None = None
    """Image (H, W, 3) below the map, shown in gray; the map may be coarser."""
    empty: str = "no evidence"
    """Text on a map of zeros."""


def write_sheet(rows: Sequence[Sequence[Panel]], labels: Sequence[str], path: Path, note: str = "") -> None:
    """Write a `sheet` as png."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet(rows, labels, note).savefig(path)


def sheet(
    rows: Sequence[Sequence[Panel]], labels: Sequence[str], note: str = "", cell: float = CELL
) -> Figure:
    """Return a figure with rows of equal numbers of panels, a label to the left of each, and a note below.

    Titles equal to those of the row above are left out. `cell` is the side of an image in inches.
    """
    height, width = rows[0][0].pixels.shape[:2]
    columns = max(len(row) for row in rows)
    size = (columns * cell + 0.5, len(rows) * (cell * height / width + 0.3) + 0.35)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    above: list[str] = []
    for row, label, row_axes in zip(rows, labels, axes, strict=True):
        for ax in row_axes:
            ax.set_xticks([])
            ax.set_yticks([])
            ax.set_frame_on(False)
        titles = [panel.title for panel in row]
        for ax, panel in zip(row_axes, row, strict=False):
            _draw(ax, panel)
            if titles != above:
                ax.set_title(panel.title, fontsize=8)
        row_axes[0].set_ylabel(label, fontsize=8)
        above = titles
    if note:
        figure.supxlabel(note, fontsize=7)
    return figure


def _draw(ax: Any, panel: Panel) -> None:
    pixels = panel.pixels
    look: dict[str, Any] = {"interpolation": "nearest"}
    if panel.under is not None:
        height, width = panel.under.shape[:2]
        ax.imshow(panel.under.mean(-1), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        look |= {"alpha": MAP_ALPHA, "extent": (-0.5, width - 0.5, height - 0.5, -0.5)}
    if pixels.ndim == 3:
        ax.imshow(pixels, **look)
    elif panel.signed:
        # the largest values of a few pixels would hide the others
        limit = float(np.percentile(np.abs(pixels), 99)) or 1.0
        ax.imshow(pixels, cmap=SIGNED, vmin=-limit, vmax=limit, **look)
    else:
        if not pixels.any():
            ax.text(0.5, 0.5, panel.empty, color="white", ha="center", va="center", transform=ax.transAxes)
        ax.imshow(pixels, cmap=HEAT, vmin=0, vmax=float(pixels.max()) or 1.0, **look)
    if panel.outline is not None and panel.outline.any() and not panel.outline.all():
        ax.contour(panel.outline, levels=[0.5], colors=EDGE, linewidths=0.8)


def channel_chart(
    names: Sequence[str],
    worth: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
    paths: Sequence[Path],
    title: str,
) -> None:
    """Write a bar chart of the relevance of each channel by each measure, as png or svg by the suffix.

    `worth` has mean and standard deviation over images, (C,) each, by the name of the measure.
    """
    height = 1.3 + len(names) * (0.14 + 0.17 * len(worth))
    figure, [[ax]] = new_chart(7.0, height, ticks=10)
    figure.set_dpi(DPI)
    thickness = 0.8 / max(len(worth), 1)
    middle = np.arange(len(names))
    for number, ((label, (mean, std)), color) in enumerate(zip(worth.items(), BARS, strict=False)):
        heights = middle + (number - (len(worth) - 1) / 2) * thickness
        ax.barh(heights, mean, thickness * 0.9, label=label, color=color)
        ax.errorbar(mean, heights, xerr=std, fmt="none", ecolor="#00000055", elinewidth=0.8)
        for y, value, spread in zip(heights, mean, std, strict=True):
            ax.text(min(value + spread, 1.0) + 0.01, y, f"{value:.2f}", va="center", fontsize=6)
    ax.set_yticks(middle, names)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1.08), xlabel="0: nothing changes without the channel; 1: everything does")
    ax.set_title(title, fontsize=10)
    figure.legend(loc="outside lower center", fontsize=7, frameon=False)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
