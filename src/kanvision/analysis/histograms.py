"""Histograms of weights by kind, and their changes over the training. h heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from kanvision.layers import GroupRational, KArAtOperator
from kanvision.layers.attention_units import AttentionUnits
from kanvision.visualization.charts import new_chart

__all__ = [
    "ALL",
    "Counts",
    "changed",
    "count",
    "histogram_chart",
    "kinds",
    "operator_chart",
    "reach",
    "training_chart",
]

ALL = "all weights"
COEFFICIENTS, MIXING = "KArAt: coefficients of functions", "KArAt: W"
RATIONAL, BASIS = "coefficients of rationals", "weights of basis functions"
NORMS, MAPS, VECTORS = "factors of norms", "linear maps, convolutions", "biases, embeddings"
KINDS = (ALL, COEFFICIENTS, MIXING, RATIONAL, BASIS, MAPS, VECTORS, NORMS)
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
NEAR = 0.01
"""Share of the range, around 0, of weights near 0."""
QUANTILE = 0.995
SPIKE = 2.5
"""Limit of the axis in peaks of the last epoch: constant initial values would hide all other bins."""
MOST_SAMPLES = 1_000_000


class Counts(NamedTuple):
    """Histogram and moments of a set of weights."""

    inside: NDArray[np.int64]
    """Number of weights in each bin."""
    below: int
    above: int
    number: int
    mean: float
    std: float
    kurtosis: float
    """Fourth central moment over the squared second, minus 3: 0 for a normal distribution."""
    near_zero: float
    """Share of the weights within a hundredth of the range around 0."""


def kinds(model: nn.Module) -> dict[str, list[str]]:
    """Return the names of all parameters by kind, `ALL` first, without empty kinds."""
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    owner = {
        id(parameter): module for module in model.modules() for parameter in module.parameters(recurse=False)
    }
    for name, parameter in model.named_parameters():
        found[ALL].append(name)
        found[_kind(owner[id(parameter)], name.rpartition(".")[2], parameter)].append(name)
    return {kind: names for kind, names in found.items() if names}


def _kind(module: nn.Module, name: str, parameter: Tensor) -> str:
    if isinstance(module, AttentionUnits):
        return COEFFICIENTS
    if isinstance(module, KArAtOperator):
        return MIXING
    if isinstance(module, GroupRational):
        return RATIONAL
    if name in getattr(module, "kan_parameters", ()):
        return BASIS
    if isinstance(module, _NORMS) and name == "weight":
        return NORMS
    return MAPS if name.endswith("weight") and parameter.ndim > 1 else VECTORS


def reach(weights: Mapping[str, Tensor], names: Sequence[str]) -> float:
    """Return half of a range that holds nearly all of some weights, estimated from a sample."""
    total = sum(weights[name].numel() for name in names)
    step = max(1, total // MOST_SAMPLES)
    sample = torch.cat([weights[name].detach().flatten()[::step].float().abs() for name in names])
    return float(np.quantile(sample.cpu().numpy(), QUANTILE)) or 1.0


def count(weights: Mapping[str, Tensor], names: Sequence[str], limit: float, num_bins: int) -> Counts:
    """Count weights in bins of equal width between -limit and limit, one tensor at a time."""
    edges = np.linspace(-limit, limit, num_bins + 1)
    inside = np.zeros(num_bins, dtype=np.int64)
    below = above = near = number = 0
    sums = np.zeros(4)
    for name in names:
        values = weights[name].detach().cpu().double().numpy().ravel()
        inside += np.histogram(values, edges)[0]
        below += int((values < -limit).sum())
        above += int((values > limit).sum())
        near += int((np.abs(values) < NEAR * limit).sum())
        number += values.size
        sums += [float((values**power).sum()) for power in (1, 2, 3, 4)]
    first, second, third, fourth = sums / max(number, 1)
    variance = max(second - first**2, 0.0)
    central = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
    kurtosis = central / variance**2 - 3 if variance > 0 else 0.0
    return Counts(inside, below, above, number, first, variance**0.5, kurtosis, near / max(number, 1))


def changed(start: Mapping[str, Tensor], weights: Mapping[str, Tensor], names: Sequence[str]) -> float:
    """|weights - start| / |start| over some tensors; NaN where shapes have changed or all start at 0."""
    away = size = 0.0
    for name in names:
        before, after = (each[name].detach().double() for each in (start, weights))
        if before.shape != after.shape:
            return float("nan")
        away += float((after - before).square().sum())
        size += float(before.square().sum())
    return (away / size) ** 0.5 if size else float("nan")


def histogram_chart(found: Mapping[str, Mapping[int, Counts]], limits: Mapping[str, float]) -> Figure:
    """Draw the share of the weights in each bin: a panel for each kind, a line for each epoch."""
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    figure, grid = new_chart(4.0 * columns, 2.7 * rows + 0.4, rows, columns, framed=True)
    axes = grid.flatten()
    for ax, (kind, by_epoch) in zip(axes, found.items(), strict=False):
        colors = colormaps["viridis"](np.linspace(0.85, 0.0, len(by_epoch)))
        for (epoch, counts), color in zip(by_epoch.items(), colors, strict=True):
            edges = np.linspace(-limits[kind], limits[kind], len(counts.inside) + 1)
            outside = (counts.below + counts.above) / max(counts.number, 1)
            label = f"epoch {epoch}: std {counts.std:.3g}, {outside:.1%} outside"
            ax.stairs(counts.inside / max(counts.number, 1), edges, color=color, lw=1.2, label=label)
        number = next(iter(by_epoch.values())).number
        ax.set_title(f"{kind} ({number:,})", fontsize=9)
        ax.legend(fontsize=6.5, frameon=False, loc="upper left")
        ax.margins(x=0)
        if peak := float(counts.inside.max()) / counts.number:
            ax.set_ylim(0, 1.3 * min(ax.get_ylim()[1], SPIKE * peak))
    for ax in axes[len(found) :]:
        ax.set_visible(False)
    figure.supylabel("share of the weights in a bin", fontsize=8)
    figure.supxlabel("value", fontsize=8)
    return figure


def training_chart(
    found: Mapping[str, Mapping[int, Counts]], moved: Mapping[str, Mapping[int, float]]
) -> Figure:
    """Draw standard deviation, share near 0 and relative change (`changed`) of each kind over the epochs."""
    figure, [axes] = new_chart(13.0, 3.6, 1, 3)
    for index, (kind, by_epoch) in enumerate(found.items()):
        look = {"color": "black", "lw": 2.0} if kind == ALL else {"color": f"C{index}", "lw": 1.2}
        counts = list(by_epoch.values())
        lines = ([c.std for c in counts], [c.near_zero for c in counts], list(moved[kind].values()))
        for ax, values in zip(axes, lines, strict=True):
            ax.plot(list(by_epoch), values, marker=".", label=kind if ax is axes[0] else None, **look)
    axes[0].set_yscale("log")
    titles = ("standard deviation", f"share within {NEAR:.0%} of the drawn range around 0", "|w - w0| / |w0|")
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("epochs of training")
    figure.legend(fontsize=7, frameon=False, loc="outside right upper")
    return figure


def operator_chart(model: nn.Module, weights: Mapping[str, Tensor]) -> Figure | None:
    """Draw coefficients and W of each head (columns) of each KArAt operator (rows); None without operators.

    Values are in standard deviations and shares on a logarithmic axis, which shows the tails.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, KArAtOperator)]
    if not names:
        return None
    heads = max(weights[f"{name}.units.coefficients"].shape[0] for name in names)
    look: dict[str, Any] = {"labels": 7, "ticks": 6, "framed": True, "sharex": True, "sharey": True}
    figure, axes = new_chart(2.6 * heads + 0.6, 1.6 * len(names) + 0.8, len(names), heads, **look)
    edges = np.linspace(-6, 6, 61)
    normal = np.exp(-((edges[1:] + edges[:-1]) ** 2) / 8) * (edges[1] - edges[0]) / np.sqrt(2 * np.pi)
    for row, name in zip(axes, names, strict=True):
        parts = {"a, b": weights[f"{name}.units.coefficients"], "W": weights.get(f"{name}.weight")}
        for head, ax in enumerate(row):
            texts = []
            for (label, tensor), color in zip(parts.items(), ("#1f4e8c", "#d1762a"), strict=True):
                if tensor is None or head >= len(tensor):
                    continue
                values = tensor[head].detach().cpu().double().numpy().ravel()
                std = float(values.std()) or 1.0
                shares = np.histogram(values / std, edges)[0] / values.size
                ax.stairs(shares, edges, color=color, lw=1.1, label=label)
                texts.append(f"{label}: std {std:.2g}")
            ax.plot((edges[1:] + edges[:-1]) / 2, normal, color="#999999", lw=0.8, ls=":", label="normal")
            ax.set(yscale="log", ylim=(1e-4, 0.5))
            ax.text(0.02, 0.97, "\n".join(texts), fontsize=6, va="top", transform=ax.transAxes)
        row[0].set_ylabel(name.removesuffix(".operator"))
    for head, ax in enumerate(axes[0]):
        ax.set_title(f"head {head}", fontsize=8)
    axes[0][-1].legend(fontsize=6, frameon=False, loc="upper right")
    figure.supxlabel("value in standard deviations", fontsize=8)
    return figure
