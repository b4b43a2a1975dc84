"""Paired tests of the rows of a table: over seeds, and over the images of the test."""

from __future__ import annotations

import csv
import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from .runs import Run
from .table import Row, SweepTable

__all__ = ["Comparison", "compare_rows", "image_scores_file"]

MOST_ROWS = 6
"""Largest number of rows of which all pairs are compared; of more rows, each is compared with the best."""
SCORES = {"correct": "acc1", "iou": "iou"}
"""Metric of a column of images.csv, by the name of the column."""


@dataclass(frozen=True)
class Comparison:
    """Paired comparison of two rows."""

    first: Row
    second: Row
    metric: str
    seeds: tuple[str, ...]
    """Seeds that both rows have."""
    difference: float | None
    """Mean difference over these seeds, first minus second."""
    interval: tuple[float, float] | None
    """95 % interval of the mean difference over seeds."""
    p_seeds: float | None
    """Paired t-test over seeds."""
    p_wilcoxon: float | None
    """Wilcoxon's test over seeds."""
    note: str
    """Reason why a test over seeds is missing or cannot be significant."""
    num_images: int = 0
    difference_images: float | None = None
    """Mean difference of the images' scores, each the mean over the common seeds."""
    interval_images: tuple[float, float] | None = None
    """95 % bootstrap interval over images."""
    p_images: float | None = None
    """McNemar's test for one seed of a classifier, otherwise the paired t-test over images."""
    p_seeds_holm: float | None = None
    p_images_holm: float | None = None


def image_scores_file(run: Run) -> Path:
    """Return the file of the scores of single images that `eval.py` writes for the run's best checkpoint."""
    return run.folder / "eval" / "test" / "images.csv"


def compare_rows(table: SweepTable) -> list[Comparison]:
    """Compare rows that have the same data and a common seed, by the first metric, with Holm's p-values."""
    if not table.metrics:
        return []
    rows = [row for row in table.rows if row.runs]
    pairs = list(itertools.combinations(rows, 2))
    if len(rows) > MOST_ROWS:
        pairs = [(rows[0], row) for row in rows[1:]]
    found = [_compare(*pair, table.metrics[0]) for pair in pairs if _has_same_data(*pair)]
    return _adjust([each for each in found if each.seeds])


def _has_same_data(first: Row, second: Row) -> bool:
    return {_data(run) for run in first.runs} == {_data(run) for run in second.runs}


def _data(run: Run) -> tuple[str, str]:
    return str(run.record.get("data") or run.setting("data")), run.setting("data.root")


def _compare(first: Row, second: Row, metric: str) -> Comparison:
    from kanvision.statistics import mean_interval, paired_t_test, wilcoxon_test  # numpy and scipy

    ours, theirs = (_by_seed(row, metric) for row in (first, second))
    seeds = tuple(seed for seed in ours if seed in theirs)
    differences = [float(ours[seed].record[metric] - theirs[seed].record[metric]) for seed in seeds]
    one, other = ([float(runs[seed].record[metric]) for seed in seeds] for runs in (ours, theirs))
    by_t, by_ranks = paired_t_test(one, other), wilcoxon_test(one, other)
    found = Comparison(
        first,
        second,
        metric,
        seeds,
        statistics.fmean(differences) if differences else None,
        mean_interval(differences),
        by_t.p_value,
        by_ranks.p_value,
        "; ".join(dict.fromkeys(filter(None, (by_t.note, by_ranks.note and f"Wilcoxon: {by_ranks.note}")))),
    )
    return _compare_images(found, [ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])


def _by_seed(row: Row, metric: str) -> dict[str, Run]:
    """Return a run for each seed; a seed with several runs is left out, because pairs are not known."""
    found: dict[str, list[Run]] = {}
    for run in row.runs:
        if isinstance(run.record.get(metric), int | float):
            found.setdefault(run.seed, []).append(run)
    return {seed: runs[0] for seed, runs in found.items() if len(runs) == 1}


def _compare_images(found: Comparison, ours: Sequence[Run], theirs: Sequence[Run]) -> Comparison:
    from kanvision.statistics import mcnemar_test, paired_bootstrap, paired_t_test

    tables = [[_read_scores(image_scores_file(run), found.metric) for run in runs] for runs in (ours, theirs)]
    everything = [table for side in tables for table in side]
    if not everything or not all(everything):
        return found
    names = [name for name in everything[0] if all(name in table for table in everything)]
    # Images of which one run has no score would make the sets differ.
    if any(len(table) != len(names) for table in everything):
        return found
    first, second = ([statistics.fmean(table[name] for table in side) for name in names] for side in tables)
    is_binary = len(ours) == 1 and {*first, *second} <= {0.0, 1.0}
    test = mcnemar_test(first, second) if is_binary else paired_t_test(first, second)
    return replace(
        found,
        num_images=len(names),
        difference_images=statistics.fmean(first) - statistics.fmean(second),
        interval_images=paired_bootstrap(first, second),
        p_images=test.p_value,
    )


@cache
def _read_scores(path: Path, metric: str) -> Mapping[str, float]:
    """Return the score of each image of a file; empty if there is none, or none of the metric."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        column = next(
            (name for name in rows.fieldnames or () if SCORES.get(name) == metric.partition("/")[2]), None
        )
        return {} if column is None else {row["image"]: float(row[column]) for row in rows}


def _adjust(found: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons with adjusted p-values; seeds and images are two families of tests."""
    seeds = _holm([each.p_seeds for each in found])
    images = _holm([each.p_images for each in found])
    return [
        replace(each, p_seeds_holm=by_seed, p_images_holm=by_image)
        for each, by_seed, by_image in zip(found, seeds, images, strict=True)
    ]


def _holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return adjusted p-values; tests that are not defined stay None and do not count."""
    from kanvision.statistics import holm_correction

    adjusted = iter(holm_correction([value for value in p_values if value is not None]))
    return [None if value is None else next(adjusted) for value in p_values]
