"""Charts of runs that are compared: scores with intervals, learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kanvision.visualization.charts import new_chart

__all__ = ["ScoreLine", "learning_chart", "score_chart"]

MOST_LINES = 30
LONGEST = 60


@dataclass(frozen=True)
class ScoreLine:
    """Scores of the seeds of one setting."""

    name: str
    values: Sequence[float]
    interval: tuple[float, float] | None
    """95 % interval of the mean."""
    published: float | None = None


def score_chart(lines: Sequence[ScoreLine], metric: str) -> Figure:
    """Draw the score of each seed, the mean, and its interval, a line for each setting."""
    lines = lines[:MOST_LINES]
    figure, [[ax]] = new_chart(8.6, 0.9 + 0.36 * len(lines), labels=9, ticks=8)
    for place, line in enumerate(lines):
        mean = float(np.mean(line.values))
        if line.interval is not None:
            ax.plot(line.interval, [place, place], color="#1f4e8c", lw=2.2, alpha=0.55)
        ax.plot(line.values, [place] * len(line.values), "o", color="#d1762a", ms=4, alpha=0.7)
        ax.plot([mean], [place], "|", color="#1f4e8c", ms=14, mew=2.2)
        if line.published is not None:
            ax.plot([line.published], [place], "D", color="#2e7d32", ms=5)
    ax.set_yticks(range(len(lines)), [_shorten(line.name) for line in lines], fontsize=8)
    ax.set(ylim=(len(lines) - 0.5, -0.5), xlabel=metric)
    ax.grid(axis="x", color="#e5e5e5", lw=0.7)
    return figure


def learning_chart(curves: Mapping[str, Mapping[str, Sequence[Mapping[int, float]]]]) -> Figure:
    """Draw values by epoch of the runs of each metric and setting.

    A panel for each metric, a color for each setting, and the mean over its seeds.
    """
    figure, [axes] = new_chart(5.4 * len(curves), 3.6, 1, len(curves), ticks=8)
    for ax, (metric, by_setting) in zip(axes, curves.items(), strict=True):
        for index, (name, runs) in enumerate(list(by_setting.items())[:MOST_LINES]):
            color = f"C{index % 10}"
            for run in runs if len(runs) > 1 else ():
                ax.plot(list(run), list(run.values()), color=color, lw=0.6, alpha=0.35)
            epochs = sorted(set.intersection(*(set(run) for run in runs)))
            means = [float(np.mean([run[epoch] for run in runs])) for epoch in epochs]
            style = ("-", "--", ":")[index // 10 % 3]
            ax.plot(epochs, means, color=color, ls=style, lw=1.7, label=_shorten(name, 34))
        ax.set_title(metric, fontsize=9)
        ax.set(xlabel="epoch", yscale="log" if "loss" in metric else "linear")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    return figure


def _shorten(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
