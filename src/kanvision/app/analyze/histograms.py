"""`analysis=histograms`: how the weights of a run are distributed over its epochs."""

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
from kanvision.config.errors import problem_at

from .inputs import find_run_snapshots, load_snapshot

__all__ = ["histograms"]

FACTS = ("number", "below", "above", "mean", "std", "kurtosis", "near_zero")
Found = Mapping[str, Mapping[int, Counts]]
Distances = Mapping[str, Mapping[int, float]]


def histograms(run: RestoredRun) -> AnalysisResult:
    """Counts of all weights and of each kind: charts of some epochs, facts of all that the run has kept."""
    options = run.cfg.analyze.histograms
    groups, kept = kinds(run.task.model), find_run_snapshots(run)
    shown = _shown(run, list(kept))
    limits = {kind: options.limit if kind == ALL else 0.0 for kind in groups}
    for epoch in (shown[0], shown[-1]):
        weights = load_snapshot(run, kept[epoch])
        for kind in groups:
            if kind != ALL:
                limits[kind] = max(limits[kind], reach(weights, groups[kind]))
    found: dict[str, dict[int, Counts]] = {kind: {} for kind in groups}
    distances: dict[str, dict[int, float]] = {kind: {} for kind in groups}
    start = load_snapshot(run, min(kept.items())[1])
    for epoch, path in run.track(list(kept.items()), "Counting"):
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
            f"-{options.limit:g} and {options.limit:g}, each kind where nearly all of its own are; in "
            "brackets how many there are. What starts as one number, such as biases, leaves its panel.",
        )
    ]
    if len(kept) > 1:
        caption = (
            "Of each kind, after every epoch that the run has kept. The range is that of the histograms. "
            "Right: distance from the first of them, relative to its norm."
        )
        pictures.append(Picture("over_training", training_chart(found, distances), caption))
    operators = operator_chart(run.task.model, load_snapshot(run, kept[shown[-1]]))
    if operators is not None:
        caption = (
            f"Operators of KArAt after epoch {shown[-1]}: coefficients a, b of the functions and W, each "
            "head by itself, in its own standard deviations; dotted, a normal distribution."
        )
        pictures.append(Picture("operators", operators, caption))
    return AnalysisResult(
        _sentences(run, drawn, distances, list(kept)),
        LIMITS,
        _numbers(found, distances),
        pictures,
        _tables(drawn, found, distances, limits),
    )


LIMITS = (
    "A histogram forgets where a weight is: two networks with the same one can compute anything.",
    "Weights that are averaged over training (EMA) are the averages.",
)


def _shown(run: RestoredRun, kept: list[int]) -> list[int]:
    """Epochs to draw."""
    wanted = run.cfg.analyze.histograms.epochs
    if wanted is None:
        return sorted({kept[0], kept[len(kept) // 2], kept[-1]})
    if wrong := [epoch for epoch in wanted if epoch not in kept]:
        why = f"the run has kept no weights after epoch {', '.join(map(str, wrong))}"
        fix = f"legal: {', '.join(map(str, kept))}; train with callbacks=snapshots to keep every epoch's"
        raise ConfigError([problem_at(run.cfg, ["analyze.histograms.epochs"], why, fix)])
    return sorted(set(wanted))


def _sentences(run: RestoredRun, drawn: Found, distances: Distances, kept: list[int]) -> list[str]:
    first, last = min(drawn[ALL]), max(drawn[ALL])
    limit = run.cfg.analyze.histograms.limit
    start, end = drawn[ALL][first], drawn[ALL][last]
    sentences = [
        f"The run has kept the weights after epochs {', '.join(map(str, kept))}."
        if any(path.name.startswith("epoch_") for path in find_run_snapshots(run).values())
        else f"The run has kept the weights after epoch {' and '.join(map(str, kept))} alone; train with "
        "callbacks=snapshots to keep those of every epoch."
    ]
    inside = 1 - (end.below + end.above) / end.number
    sentences.append(
        f"After epoch {last} {inside:.1%} of all {end.number:,} weights are between -{limit:g} and "
        f"{limit:g}, {end.near_zero:.1%} within {NEAR * limit:g} of 0."
    )
    if first != last:
        sentences.append(
            f"After epoch {first} there were {start.near_zero:.1%} so near 0; {moved(start, end):.1%} of all "
            f"weights would have to change their bin to make one histogram the other."
        )
        stds = [f"{kind} {each[first].std:.3g} to {each[last].std:.3g}" for kind, each in drawn.items()]
        sentences.append(f"Standard deviations, epoch {first} to {last}: {'; '.join(stds)}.")
        ways = [f"{kind} {by_epoch[last]:.2g}" for kind, by_epoch in distances.items()]
        sentences.append(f"Distance |w - w0| / |w0| of epoch {last} from epoch {kept[0]}: {'; '.join(ways)}.")
    return sentences


def moved(start: Counts, end: Counts) -> float:
    """Total variation distance of two histograms, what is outside of the range counted as two more bins."""
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
            f"{kind}/moved": moved(by_epoch[min(by_epoch)], counts),
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
            "below, above: outside of the range that is drawn; changed: |w - w0| / |w0|, from the first.",
            60,
        ),
        ResultTable(
            "histograms", ["kind", "epoch", "low", "high", "count"], bins, "Counts in bins, all weights.", 0
        ),
    ]
