"""Results of a table: scores of each row over its seeds, compared with the baseline."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kanvision.config.experiments import Experiment

from .ledger import Ledger, is_right
from .plan import Comparison, Item, Plan
from .statistics import (
    Contrast,
    Interval,
    Verdict,
    adjust_holm,
    bootstrap_interval,
    compare,
    mean_interval,
)

__all__ = ["RowResult", "TableResult", "read_table"]

MIN_SEEDS = 3
"""Number of seeds below which a row has no number."""
ALIKE = ("parameters", "images", "data_fingerprint")
"""Facts that all records of a row share."""


@dataclass(frozen=True)
class RowResult:
    """Row of a table with at least three finished seeds.

    Attributes:
        name: Name of the row.
        experiment: Row in conf/tables.
        records: Record of each seed.
        score: Mean of the metric over the seeds with its interval, in percent.
        contrast: Difference from the baseline in points; None for the baseline, and without common seeds.
        p: P-value of the contrast after Holm's correction over the rows of the table; NaN without a contrast.
        over_images: Difference from the baseline over test images by bootstrap, in points; None without one.
    """

    name: str
    experiment: Experiment
    records: Mapping[int, Mapping[str, Any]]
    score: Interval
    contrast: Contrast | None = None
    p: float = math.nan
    over_images: Interval | None = None

    @property
    def verdict(self) -> Verdict | None:
        """Verdict by rule; None without a contrast."""
        return None if self.contrast is None else self.contrast.verdict(self.p)

    def cpu_minutes(self, commit: str) -> float | None:
        """Return the mean processor time of training at one commit, in minutes; None if there is none."""
        times = [r["train_cpu_seconds"] for r in self.records.values() if r["commit"] == commit]
        known = [time for time in times if time is not None]
        return statistics.fmean(known) / 60 if known else None


@dataclass(frozen=True)
class TableResult:
    """Finished rows of a table.

    Attributes:
        name: Name of the file in conf/tables.
        comparison: Protocol of the table.
        rows: Finished rows, the best first.
        missing: Rows with fewer than three finished seeds.
        commit: Commit of most records, at which processor times are compared.
        commits: All commits of the records.
    """

    name: str
    comparison: Comparison
    rows: list[RowResult]
    missing: list[str]
    commit: str
    commits: list[str]

    @property
    def baseline(self) -> RowResult | None:
        """Finished baseline, if there is one."""
        return next((row for row in self.rows if row.name == self.comparison.baseline), None)


def read_table(plan: Plan, ledger: Ledger, name: str) -> TableResult:
    """Read the finished rows of a table, and compare them with its baseline.

    Raises:
        ValueError: The records of a row are of different networks or data.
    """
    comparison, rows, missing = plan.tables[name], list[RowResult](), list[str]()
    for row, experiment in plan.rows(name).items():
        items = {seed: Item(name, row, seed) for seed in comparison.seeds}
        found = {seed: record for seed, item in items.items() if (record := ledger.read(item)) is not None}
        if len(found) < MIN_SEEDS:
            missing.append(row)
            continue
        _check_alike(name, row, found)
        scores = _scores(comparison, found)
        rows.append(RowResult(row, experiment, found, mean_interval(list(scores.values()))))
    rows = _compare_rows(comparison, rows)
    commits = Counter(record["commit"] for row in rows for record in row.records.values())
    most = max(sorted(commits), key=commits.__getitem__, default="")
    best_first = sorted(rows, key=lambda row: -row.score.mean)
    return TableResult(name, comparison, best_first, missing, most, sorted(commits))


def _scores(comparison: Comparison, records: Mapping[int, Mapping[str, Any]]) -> dict[int, float]:
    return {seed: 100 * record["metrics"][comparison.metric] for seed, record in records.items()}


def _compare_rows(comparison: Comparison, rows: list[RowResult]) -> list[RowResult]:
    """Return the rows with their contrasts, corrected for the number of rows that are compared."""
    baseline = next((row for row in rows if row.name == comparison.baseline), None)
    if baseline is None:
        return rows
    reference = _scores(comparison, baseline.records)
    others = {
        row.name: compare(_scores(comparison, row.records), reference) for row in rows if row != baseline
    }
    contrasts = {name: contrast for name, contrast in others.items() if contrast is not None}
    adjusted = dict(zip(contrasts, adjust_holm([c.p for c in contrasts.values()]), strict=True))
    return [
        RowResult(
            row.name,
            row.experiment,
            row.records,
            row.score,
            contrasts[row.name],
            adjusted[row.name],
            _compare_images(row, baseline),
        )
        if row.name in contrasts
        else row
        for row in rows
    ]


def _compare_images(row: RowResult, baseline: RowResult) -> Interval | None:
    """Return the difference over test images, in points; None if predictions were not kept."""
    seeds = sorted(row.records.keys() & baseline.records.keys())
    pairs = [(row.records[seed], baseline.records[seed]) for seed in seeds]
    if not all("right" in record for pair in pairs for record in pair):
        return None
    found = bootstrap_interval([is_right(a) for a, _ in pairs], [is_right(b) for _, b in pairs])
    return Interval(100 * found.mean, 100 * found.low, 100 * found.high)


def _check_alike(table: str, row: str, records: Mapping[int, Mapping[str, Any]]) -> None:
    for key in ALIKE:
        if len({str(record[key]) for record in records.values()}) > 1:
            raise ValueError(f"docs/results/{table}/{row}: records differ in {key}; run its seeds again")
