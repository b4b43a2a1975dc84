"""Analysis of the distribution of weights over the epochs of a run (`analysis=histograms`)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kanvision.analysis.histograms import (
    ALL,
    NEAR,
    Counts,
    changed,
    count,
    histogram_chart,
    kinds,
    operator_chart,
    reach,
    training_chart,
)
from kanvision.analysis.results import AnalysisResult, Picture, ResultTable
from kanvision.app.restore import RestoredRun
from kanvision.config import ConfigError

from .inputs import find_run_snapshots, load_snapshot

__all__ = ["histograms"]

FACTS = ("number", "below", "above", "mean", "std", "kurtosis", "near_zero")
Found = Mapping[str, Mapping[int, Counts]]
Distances = Mapping[str, Mapping[int, float]]


def histograms(run: RestoredRun) -> AnalysisResult:
    """Count all weights and each kind of weights: charts of some epochs, statistics of all saved epochs."""
    options = run.cfg.analyze.histograms
    groups, snapshots = kinds(run.task.model), find_run_snapshots(run)
    shown = _shown(run, list(snapshots))
    limits = {kind: options.limit if kind == ALL else 0.0 for kind in groups}
    for epoch in (shown[0], shown[-1]):
        weights = load_snapshot(run, snapshots[epoch])
        for kind in groups:
            if kind != ALL:
                limits[kind] = max(limits[kind], reach(weights, groups[kind]))
    found: dict[str, dict[int, Counts]] = {kind: {} for kind in groups}
    distances: dict[str, dict[int, float]] = {kind: {} for kind in groups}
    start = load_snapshot(run, min(snapshots.items())[1])
    for epoch, path in run.track(list(snapshots.items()), "Counting"):
        weights = load_snapshot(run, path)
        for kind, names in groups.items():
            found[kind][epoch] = count(weights, names, limits[kind], options.num_bins)
            distances[kind][epoch] = changed(start, weights, names)
    drawn = {kind: {epoch: by_epoch[epoch] for epoch in shown} for kind, by_epoch in found.items()}
    pictures = [
        Picture(
            "histograms",
            histogram_chart(drawn, limits),
            f"Share of the weights in each of {options.num_bins} bins after some epochs. All weights between "
            f"-{options.limit:g} and {options.limit:g}, each kind over the range of nearly all of its "
            "weights; in brackets their number. Weights that start with one value, such as biases, exceed "
            "their panel.",
        )
    ]
    if len(snapshots) > 1:
        caption = (
            "Each kind of weights after every saved epoch. The range is that of the histograms. Right: "
            "distance from the weights of the first saved epoch, relative to their norm."
        )
        pictures.append(Picture("over_training", training_chart(found, distances), caption))
    operators = operator_chart(run.task.model, load_snapshot(run, snapshots[shown[-1]]))
    if operators is not None:
        caption = (
            f"Operators of KArAt after epoch {shown[-1]}: coefficients a, b of the functions and W, each "
            "head by itself, in its own standard deviations; dotted, a normal distribution."
        )
        pictures.append(Picture("operators", operators, caption))
    return AnalysisResult(
        _sentences(run, drawn, distances, list(snapshots)),
        LIMITS,
        _numbers(found, distances),
        pictures,
        _tables(drawn, found, distances, limits),
    )


LIMITS = (
    "A histogram ignores the position of a weight: two networks with equal histograms may compute different "
    "functions.",
    "Weights of a run with a moving average (EMA) are the averages.",
)


def _shown(run: RestoredRun, saved: list[int]) -> list[int]:
    """Return the epochs to draw."""
    epochs = run.cfg.analyze.histograms.epochs
    if epochs is None:
        return sorted({saved[0], saved[len(saved) // 2], saved[-1]})
    if wrong := [epoch for epoch in epochs if epoch not in saved]:
        why = f"the run has saved no weights after epoch {', '.join(map(str, wrong))}"
        fix = f"legal: {', '.join(map(str, saved))}; train with callbacks=snapshots to save every epoch"
        raise ConfigError.at(run.cfg, ["analyze.histograms.epochs"], why, fix)
    return sorted(set(epochs))


def _sentences(run: RestoredRun, drawn: Found, distances: Distances, saved: list[int]) -> list[str]:
    first, last = min(drawn[ALL]), max(drawn[ALL])
    limit = run.cfg.analyze.histograms.limit
    start, end = drawn[ALL][first], drawn[ALL][last]
    sentences = [
        f"The run has saved the weights after epochs {', '.join(map(str, saved))}."
        if any(path.name.startswith("epoch_") for path in find_run_snapshots(run).values())
        else f"The run has saved the weights after epoch {' and '.join(map(str, saved))} only; train with "
        "callbacks=snapshots to save those of every epoch."
    ]
    inside = 1 - (end.below + end.above) / end.number
    sentences.append(
        f"After epoch {last} {inside:.1%} of all {end.number:,} weights are between -{limit:g} and "
        f"{limit:g}, {end.near_zero:.1%} within {NEAR * limit:g} of 0."
    )
    if first != last:
        sentences.append(
            f"After epoch {first} it was {start.near_zero:.1%}; the total variation distance of the two "
            f"histograms is {total_variation(start, end):.1%}."
        )
        stds = [f"{kind} {each[first].std:.3g} to {each[last].std:.3g}" for kind, each in drawn.items()]
        sentences.append(f"Standard deviations, epoch {first} to {last}: {'; '.join(stds)}.")
        ways = [f"{kind} {by_epoch[last]:.2g}" for kind, by_epoch in distances.items()]
        sentences.append(
            f"Distance |w - w0| / |w0| of epoch {last} from epoch {saved[0]}: {'; '.join(ways)}."
        )
    return sentences


def total_variation(start: Counts, end: Counts) -> float:
    """Return the total variation distance of two histograms, with two more bins outside of the range."""
    shares = [np.array([c.below, *c.inside, c.above]) / c.number for c in (start, end)]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def _numbers(found: Found, distances: Distances) -> dict[str, float]:
    last = max(found[ALL])
    numbers: dict[str, float] = {}
    for kind, by_epoch in found.items():
        counts = by_epoch[last]
        numbers |= {
            f"{kind}/number": float(counts.number),
            f"{kind}/std": counts.std,
            f"{kind}/near_zero": counts.near_zero,
            f"{kind}/moved": total_variation(by_epoch[min(by_epoch)], counts),
            f"{kind}/changed": distances[kind][last],
        }
    return numbers


def _tables(
    drawn: Found, found: Found, distances: Distances, limits: Mapping[str, float]
) -> list[ResultTable]:
    facts = [
        [kind, epoch, *(getattr(c, key) for key in FACTS), distances[kind][epoch]]
        for kind, by_epoch in found.items()
        for epoch, c in by_epoch.items()
    ]
    columns = ["kind", "epoch", *FACTS, "changed"]
    bins: list[list[object]] = []
    for kind, by_epoch in drawn.items():
        for epoch, c in by_epoch.items():
            edges = [-np.inf, *np.linspace(-limits[kind], limits[kind], len(c.inside) + 1), np.inf]
            counts = [c.below, *c.inside, c.above]
            bins += [
                [kind, epoch, low, high, n] for low, high, n in zip(edges, edges[1:], counts, strict=False)
            ]
    return [
        ResultTable(
            "weights",
            columns,
            facts,
            "below, above: outside of the drawn range; changed: |w - w0| / |w0|, from the first epoch.",
            60,
        ),
        ResultTable(
            "histograms", ["kind", "epoch", "low", "high", "count"], bins, "Counts in bins, all weights.", 0
        ),
    ]
