"""Figures of the loss around the weights of a network: contours over a plane, spectrum of the Hessian."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from kanvision.visualization.charts import new_chart

from .lanczos import Density, Ritz

__all__ = ["contour_picture", "spectrum_picture"]

Floats = NDArray[np.float64]
COLORS, LINE, MARK = "viridis_r", "#d1495b", "#ffffff"
_LOG_RATIO = 1.5  # ratio of largest and smallest loss above which levels are spaced logarithmically
_FLOOR = (
    0.1  # density of so many eigenvalues; below it, a logarithmic axis would show the tails of the kernel
)


def contour_picture(
    xs: Sequence[float],
    ys: Sequence[float],
    losses: Floats,
    *,
    title: str,
    labels: tuple[str, str],
    track: Sequence[tuple[float, float, int]] = (),
) -> Figure:
    """Draw losses over a grid of a plane, (len(ys), len(xs)), with the network as a star in the center.

    Losses that are not finite stay white. `track` has coordinates and epoch of each snapshot of the training.
    """
    figure, [[axes]] = new_chart(6.4, 5.2, framed=True)
    known = losses[np.isfinite(losses)]
    if known.size and known.min() > 0 and known.max() > _LOG_RATIO * known.min():
        levels = np.geomspace(known.min(), known.max(), 26)
        norm: Normalize = LogNorm(known.min(), known.max())
    else:
        low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
        levels, norm = np.linspace(low, max(high, low + 1e-12), 26), Normalize(low, high)
    shown = np.ma.masked_invalid(losses)
    filled = axes.contourf(xs, ys, shown, levels=levels, norm=norm, cmap=COLORS)
    axes.contour(xs, ys, shown, levels=levels, colors="black", linewidths=0.3, alpha=0.6)
    bar = figure.colorbar(filled, ax=axes, ticks=levels[::5], format=FuncFormatter(lambda v, _: f"{v:.3g}"))
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=7)
    bar.set_label("loss", fontsize=8)
    if track:
        path = np.array([(x, y) for x, y, _ in track])
        axes.plot(*path.T, "-o", color=LINE, markersize=3, linewidth=1.2, label="snapshots of the training")
        for (x, y, epoch), direction in zip((track[0], track[-1]), ((-1, 1), (1, -1)), strict=True):
            axes.annotate(
                f"epoch {epoch}", (x, y), (6 * direction[0], 6 * direction[1]), textcoords="offset points",
                fontsize=7, color="black", ha="left" if direction[0] > 0 else "right",
                va="bottom" if direction[1] > 0 else "top",
            )  # fmt: skip
    axes.plot(0, 0, "*", color=MARK, markeredgecolor="black", markersize=11, label="the checkpoint")
    axes.set(xlim=(xs[0], xs[-1]), ylim=(ys[0], ys[-1]), xlabel=labels[0], ylabel=labels[1])
    axes.set_title(title, fontsize=9)
    axes.legend(fontsize=7, loc="upper right")
    return figure


def spectrum_picture(curve: Density, runs: Sequence[Ritz], size: int, *, title: str) -> Figure:
    """Draw a spectral density on a logarithmic axis, with its Ritz values.

    The axis ends at the density of a tenth of one of the `size` eigenvalues.
    """
    figure, [[axes]] = new_chart(6.4, 4.2, framed=True)
    floor = _FLOOR * float(curve.density.max()) / size  # the peak holds nearly all eigenvalues
    axes.semilogy(curve.positions, np.maximum(curve.density, floor), color="#2a6f97", linewidth=1.2)
    if np.isfinite(curve.errors).all():
        low, high = (np.maximum(curve.density + sign * curve.errors, floor) for sign in (-1, 1))
        axes.fill_between(
            curve.positions, low, high, color="#2a6f97", alpha=0.25, linewidth=0, label="± 1 standard error"
        )
    values = np.concatenate([run.values for run in runs])
    axes.plot(values, np.full(len(values), 1.6 * floor), "|", color=LINE, markersize=7, label="Ritz values")
    axes.axvline(0, color="black", linewidth=0.6, linestyle=":")
    axes.set(ylim=(floor, None), xlabel="eigenvalue of the Hessian", ylabel="density")
    axes.set_title(title, fontsize=9)
    axes.legend(fontsize=7)
    return figure
