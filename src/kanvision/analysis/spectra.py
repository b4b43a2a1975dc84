"""Singular values of matrices of attention and of weights. S matrices, K = min(rows, columns) values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from kanvision.visualization.charts import new_chart

__all__ = [
    "Spectra",
    "attention_chart",
    "drop_at",
    "energy_rank",
    "numerical_rank",
    "singular_values",
    "stable_rank",
    "weight_chart",
    "weight_matrices",
]

Values = NDArray[np.float64]
ENERGY = 0.99
MEAN, RANGE, MARK = "#1f4e8c", "#9dbde3", "#c0392b"


class Spectra(NamedTuple):
    """Singular values of the matrices of one self-attention before and after its activation."""

    name: str
    before: Values
    """Singular values of the logits, (S, N), in descending order."""
    after: Values
    """Singular values of the attention weights, (S, N), in descending order."""
    head_dim: int
    """Channels of a head, d; the rank of A = q k^T is at most d."""
    rank: int | None
    """Hidden units of learned functions; None for softmax."""


def singular_values(matrices: Tensor) -> Values:
    """Return singular values (..., K) of matrices (..., M, N), in descending order and double precision.

    Entries of minus infinity, which come from attention masks, count as 0.
    """
    finite = matrices.detach().cpu().double().nan_to_num(neginf=0.0)
    values: Values = torch.linalg.svdvals(finite).numpy()
    return values


def numerical_rank(values: Values, size: int) -> NDArray[np.int64]:
    """Count the singular values above size * eps * largest value, with the eps of float32.

    `size` is the larger side of the matrices.
    """
    limit = size * float(np.finfo(np.float32).eps) * values[..., :1]
    rank: NDArray[np.int64] = (values > limit).sum(-1)
    return rank


def energy_rank(values: Values, share: float = ENERGY) -> NDArray[np.int64]:
    """Count the largest singular values that hold a share of the sum of squares."""
    energy = np.cumsum(values**2, -1)
    rank: NDArray[np.int64] = 1 + (energy < share * energy[..., -1:]).sum(-1)
    return rank


def stable_rank(values: Values) -> Values:
    """Return the sum of squares over the largest square, a continuous lower bound of the rank."""
    ratio: Values = (values**2).sum(-1) / np.maximum(values[..., 0] ** 2, 1e-300)
    return ratio


def drop_at(values: Values, rank: int) -> float:
    """Return the geometric mean of s_rank / s_(rank + 1) over all matrices; NaN if there are fewer values."""
    if rank >= values.shape[-1]:
        return float("nan")
    pair = np.maximum(values[..., rank - 1 : rank + 1], 1e-30)
    return float(np.exp(np.log(pair[..., 0] / pair[..., 1]).mean()))


def weight_matrices(model: nn.Module, largest: int) -> tuple[dict[str, Tensor], dict[str, tuple[int, int]]]:
    """Return weights as matrices of outputs x inputs, and the sizes of those that are too large, by name.

    Norms, biases and other vectors have no spectrum and are left out. `largest` limits the smaller side.
    """
    matrices = {}
    too_large = {}
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2 or min(parameter.flatten(1).shape) < 2:
            continue
        matrix = parameter.flatten(1)
        if min(matrix.shape) > largest:
            too_large[name] = (matrix.shape[0], matrix.shape[1])
        else:
            matrices[name] = matrix
    return matrices, too_large


def attention_chart(spectra: Sequence[Spectra]) -> Figure:
    """Draw singular values before (left) and after (right) the activation, a row for each attention."""
    figure, axes = new_chart(9.0, 3.1 * len(spectra) + 0.5, len(spectra), 2, framed=True)
    for (left, right), each in zip(axes, spectra, strict=True):
        _curve(left, each.before, each.head_dim, "d of a head")
        left.set_title(f"{each.name}: before the activation", fontsize=9)
        _curve(right, each.after, each.rank, "rank r of the learned functions")
        kind = "softmax" if each.rank is None else "learned functions"
        right.set_title(f"{each.name}: after the activation ({kind})", fontsize=9)
        left.set_ylabel("singular value")
    for ax in axes[-1]:
        ax.set_xlabel("index, the largest first")
    return figure


def _curve(ax: Any, values: Values, mark: int | None, what: str) -> None:
    index = np.arange(1, values.shape[-1] + 1)
    floor = values.shape[-1] * float(np.finfo(np.float32).eps) * values.max()
    shown = np.maximum(values, floor * 1e-3)
    low, mean, high = shown.min(0), shown.mean(0), shown.max(0)
    ax.fill_between(index, low, high, color=RANGE, lw=0, label="smallest to largest")
    ax.plot(index, mean, color=MEAN, lw=1.6, label=f"mean of {len(values)} matrices")
    ax.set_yscale("log")
    if values.min() < floor:
        ax.axhspan(floor * 1e-3, floor, color="#dddddd", lw=0, label="rounding of float32")
    if mark is not None and mark < values.shape[-1]:
        ax.axvline(mark + 0.5, color=MARK, lw=1.0, ls="--", label=f"{what}: {mark}")
    ax.legend(fontsize=7, frameon=False, loc="best")


def weight_chart(spectra: Mapping[str, Values]) -> Figure:
    """Draw the singular values of each weight, scaled to a largest value of 1, and their stable ranks."""
    names = list(spectra)
    figure, [[left, right]] = new_chart(10.0, min(max(3.6, 0.16 * len(names) + 1.0), 14.0), 1, 2)
    colors = colormaps["viridis"](np.linspace(0, 0.95, len(names)))
    for name, color in zip(names, colors, strict=True):
        values = spectra[name]
        left.plot(np.linspace(0, 1, len(values)), values / max(values[0], 1e-300), color=color, lw=1.0)
    left.set(xlabel="index as a share of all values", ylabel="singular value, the largest is 1")
    left.set_title("from the first layer (violet) to the last (yellow)", fontsize=9)
    left.set_ylim(0, 1.02)
    shares = [float(stable_rank(values)) / len(values) for values in spectra.values()]
    positions = np.arange(len(names))
    right.barh(positions, shares, color=colors)
    size = 7 if len(names) <= 40 else 4
    right.set_yticks(
        positions, [name if len(name) < 44 else f"...{name[-41:]}" for name in names], fontsize=size
    )
    right.invert_yaxis()
    right.set(xlim=(0, 1), xlabel="stable rank as a share: 1 = all directions alike")
    return figure
