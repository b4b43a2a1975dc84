"""Analysis of the singular values of attention, or of weights in models without it (`analysis=spectra`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from kanvision.analysis.attention.capture import Attention, attentions
from kanvision.analysis.results import AnalysisResult, Picture, ResultTable
from kanvision.analysis.spectra import (
    ENERGY,
    Spectra,
    Values,
    attention_chart,
    drop_at,
    energy_rank,
    numerical_rank,
    singular_values,
    stable_rank,
    weight_chart,
    weight_matrices,
)
from kanvision.app.restore import RestoredRun
from kanvision.config import ConfigError

from .inputs import collect_attention, iter_split, sample_positions, select_blocks

__all__ = ["spectra"]


def spectra(run: RestoredRun) -> AnalysisResult:
    """Return singular values of matrices: a chart, all values as a table, ranks as numbers."""
    kind = run.cfg.analyze.spectra.matrices
    found = collect_attention(run) if kind != "weights" else []
    return _analyze_attention(run, found) if found or kind == "attention" else _analyze_weights(run)


def _analyze_attention(run: RestoredRun, found: list[Attention]) -> AnalysisResult:
    options = run.cfg.analyze.spectra
    names = select_blocks(run, "analyze.spectra.blocks", options.blocks, found)
    positions = sample_positions(run, options.num_images)
    parts: dict[tuple[str, bool], list[tuple[Values, Values]]] = {}
    attention_by_name = {each.name: each for each in found}
    for batch in run.track(list(iter_split(run, positions)), "Decomposing"):
        for each in attentions(run.task.model, batch["image"], names):
            soft = each.num_softmax_heads
            for is_soft, heads in ((True, slice(None, soft)), (False, slice(soft, None))):
                matrices = each.before[:, heads], each.after[:, heads]
                if matrices[0].shape[1]:
                    before, after = (singular_values(m).reshape(-1, m.shape[-1]) for m in matrices)
                    parts.setdefault((each.name, is_soft), []).append((before, after))
    all_spectra = []
    for (name, is_soft), pairs in parts.items():
        before, after = (np.concatenate(values) for values in zip(*pairs, strict=True))
        rank = None if is_soft else attention_by_name[name].rank
        all_spectra.append(Spectra(name, before, after, attention_by_name[name].head_dim, rank))
    sentences: list[str] = []
    numbers: dict[str, float] = {}
    rows: list[list[object]] = []
    for one in all_spectra:
        facts = _facts(one)
        key = one.name if one.rank is not None else f"{one.name}/softmax"
        numbers |= {f"{key}/{name}": value for name, value in facts.items()}
        sentences.append(_sentence(one, facts))
        for side, values in (("before", one.before), ("after", one.after)):
            for index, column in enumerate(values.T, 1):
                kind = "softmax" if one.rank is None else "learned"
                rows.append([one.name, kind, side, index, column.min(), column.mean(), column.max()])
    count = len(positions)
    caption = (
        f"Singular values of the matrices of {count} random images and all heads, on a logarithmic axis: "
        "line, their mean at each index; band, from the smallest to the largest. Left: logits q k / sqrt(d), "
        "whose rank is the width d of a head at most. Right: the matrices that mix values; learned functions "
        "of r hidden units have rank r at most. Gray: 0 within the precision of float32."
    )
    table = ResultTable(
        "singular_values", ["attention", "kind", "side", "index", "min", "mean", "max"], rows,
        "At each index over all images and heads.", 0,
    )  # fmt: skip
    limits = (
        "A spectrum counts directions and not their use: a matrix of low rank can be as accurate.",
        "Rows of a softmax sum to 1 and those of learned functions do not: largest values do not compare.",
    )
    return AnalysisResult(
        sentences, limits, numbers, [Picture("spectra", attention_chart(all_spectra), caption)], [table]
    )


def _facts(each: Spectra) -> dict[str, float]:
    facts: dict[str, float] = {}
    for side, values in (("before", each.before), ("after", each.after)):
        ranks = numerical_rank(values, values.shape[-1])
        facts[f"{side}_largest"] = float(values[:, 0].mean())
        facts[f"{side}_rank"] = float(ranks.mean())
        facts[f"{side}_most_rank"] = float(ranks.max())
        facts[f"{side}_energy_rank"] = float(energy_rank(values).mean())
    facts["before_drop_at_d"] = drop_at(each.before, each.head_dim)
    if each.rank is not None:
        facts["after_drop_at_r"] = drop_at(each.after, each.rank)
    return facts


def _sentence(each: Spectra, facts: dict[str, float]) -> str:
    count, size = each.before.shape
    drop, where = facts["before_drop_at_d"], f"at d = {each.head_dim}"
    before = f" and fall by a factor of {drop:.2g} {where}" if np.isfinite(drop) else ""
    after = "softmax"
    if each.rank is not None:
        after = f"learned functions of rank {each.rank} at most"
    return (
        f"{each.name}, {count} matrices of {size} x {size}: the logits have rank {facts['before_rank']:.1f}"
        f"{before}; {facts['before_energy_rank']:.1f} values hold {ENERGY:.0%} of the sum of squares, the "
        f"largest is {facts['before_largest']:.3g}. After the activation ({after}): rank "
        f"{facts['after_rank']:.1f}, {facts['after_energy_rank']:.1f} values, largest "
        f"{facts['after_largest']:.3g}."
    )


def _analyze_weights(run: RestoredRun) -> AnalysisResult:
    matrices, too_large = weight_matrices(run.task.model, run.cfg.analyze.spectra.max_size)
    if not matrices:
        why = f"{run.train_cfg.model.name} has no weight whose smaller side is at most that"
        fix = f"sizes: {', '.join(f'{name} {size}' for name, size in too_large.items()) or 'no matrices'}"
        raise ConfigError.at(run.cfg, ["analyze.spectra.max_size"], why, fix)
    found = {
        name: singular_values(matrix)
        for name, matrix in run.track(matrices.items(), "Decomposing", len(matrices))
    }
    rows: list[list[Any]] = []
    numbers: dict[str, float] = {}
    for name, values in found.items():
        height, width = matrices[name].shape
        rank = int(numerical_rank(values, max(height, width)))
        stable = float(stable_rank(values))
        energy = int(energy_rank(values))
        rows.append([name, height, width, values[0], values[-1], rank, energy, stable])
        numbers |= {f"{name}/rank": float(rank), f"{name}/stable_rank": stable}
    shares = {row[0]: row[-1] / min(row[1], row[2]) for row in rows}
    low, high = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    full = sum(row[5] == min(row[1], row[2]) for row in rows)
    sentences = [
        f"{full} of {len(rows)} weights have full numerical rank.",
        f"The stable rank, the sum of squares over the largest square, is {shares[low]:.1%} of the full rank "
        f"in {low} and {shares[high]:.1%} in {high}.",
    ]
    if too_large:
        sizes = ", ".join(f"{name} ({size[0]} x {size[1]})" for name, size in too_large.items())
        sentences.append(f"Left out, larger than analyze.spectra.max_size: {sizes}.")
    caption = (
        "Weights as matrices of outputs x (inputs, functions, kernel positions). Left: singular values, "
        "relative to the largest. Right: stable rank, the sum of squares over the largest square, relative "
        "to the full rank; that of a random matrix is a quarter if it is square, and more if it is not."
    )
    columns = ["weight", "rows", "columns", "largest", "smallest", "rank", "energy_rank", "stable_rank"]
    table = ResultTable(
        "weights", columns, rows, f"energy_rank: values with {ENERGY:.0%} of the squares.", 60
    )
    every = ResultTable(
        "singular_values", ["weight", "index", "value"],
        [[name, index, value] for name, values in found.items() for index, value in enumerate(values, 1)],
        "All of them.", 0,
    )  # fmt: skip
    limits = (
        "The singular values of a convolution as a linear map differ from those of its weight matrix: they "
        "depend on the size of the image and on the stride.",
    )
    return AnalysisResult(
        sentences, limits, numbers, [Picture("weights", weight_chart(found), caption)], [table, every]
    )
