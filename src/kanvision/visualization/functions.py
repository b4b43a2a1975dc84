"""Charts of functions of one variable, with the histograms of their inputs. M points, N bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from .charts import split_lines

__all__ = ["Figure", "FunctionPanel", "draw_functions"]

CURVE, START, INPUTS, OUTSIDE = "#1f4e8c", "#9a9a9a", "#d1762a", "#f1f1f1"
Array = NDArray[np.float64]


@dataclass(frozen=True)
class FunctionPanel:
    """Learned function with the inputs that it has received."""

    title: str
    x: Array
    """Points, (M,)."""
    y: Array
    """Values, (M,)."""
    start: Array | None = None
    """Values before training, (M,)."""
    edges: Array | None = None
    """Ends of the bins of the histogram, (N + 1,)."""
    shares: Array | None = None
    """Share of the inputs in each bin, (N,)."""
    domain: tuple[float, float] | None = None
    """Domain of the basis; None is the whole line."""


def draw_functions(
    rows: Sequence[tuple[str, Sequence[FunctionPanel]]], columns: int = 4, *, in_notebook: bool = False
) -> Figure:
    """Draw titled rows of functions, each above the histogram of its inputs, `columns` in a line.

    With `in_notebook`, pyplot is loaded, with which a notebook shows figures.
    """
    if in_notebook:
        import matplotlib.pyplot  # noqa: F401
    lines = split_lines(rows, columns)
    figure = Figure(figsize=(2.75 * columns + 0.3, 2.3 * len(lines) + 0.6), layout="constrained")
    grid = figure.add_gridspec(len(lines), 1, hspace=0.04)
    for index, (title, panels) in enumerate(lines):
        part = figure.add_subfigure(grid[index])
        if title:
            part.suptitle(title, fontsize=9, fontweight="bold", x=0.01, ha="left")
        has_inputs = any(panel.shares is not None for panel in panels)
        ratios = (4, 1) if has_inputs else (1,)
        axes = part.subplots(len(ratios), columns, squeeze=False, sharex="col", height_ratios=ratios)
        for column, pair in enumerate(axes.T):
            if column < len(panels):
                _draw(pair, panels[column])
            else:
                for ax in pair:
                    ax.set_visible(False)
    handles = _legend([panel for _, panels in rows for panel in panels])
    look: dict[str, Any] = {"ncols": 4, "fontsize": 8, "frameon": False}
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", **look)
    figure.draw_without_rendering()  # the layout is computed once, not for each file
    figure.set_layout_engine("none")
    return figure


def _draw(axes: Sequence[Axes], panel: FunctionPanel) -> None:
    top, below = axes[0], axes[-1]
    top.set_title(panel.title, fontsize=7.5)
    top.axhline(0, color="#bbbbbb", lw=0.8)
    if panel.start is not None:
        top.plot(panel.x, panel.start, color=START, lw=1.1, ls="--")
    top.plot(panel.x, panel.y, color=CURVE, lw=1.7)
    if panel.shares is not None and panel.edges is not None:
        below.stairs(panel.shares, panel.edges, fill=True, color=INPUTS, alpha=0.75)
    low, high = float(panel.x[0]), float(panel.x[-1])
    for ax in axes:
        ax.set_xlim(low, high)
        ax.tick_params(labelsize=6.5, length=2)
        ax.spines[["top", "right"]].set_visible(False)
        if panel.domain is not None:
            for side in ((low, panel.domain[0]), (panel.domain[1], high)):
                if side[0] < side[1]:
                    ax.axvspan(*side, color=OUTSIDE, lw=0, zorder=0)
            for end in panel.domain:
                if low < end < high:
                    ax.axvline(end, color="#888888", lw=0.8, ls=":")
    if below is not top:
        below.set_yticks([])


def _legend(panels: Sequence[FunctionPanel]) -> dict[str, Artist]:
    """Return handles of what the panels show by their labels."""
    handles: dict[str, Artist] = {"learned function": Line2D([], [], color=CURVE, lw=1.7)}
    if any(panel.start is not None for panel in panels):
        handles["before training"] = Line2D([], [], color=START, lw=1.1, ls="--")
    if any(panel.shares is not None for panel in panels):
        handles["inputs"] = Patch(color=INPUTS, alpha=0.75)
    if any(panel.domain is not None for panel in panels):
        handles["outside of the domain"] = Patch(color=OUTSIDE)
    return handles
