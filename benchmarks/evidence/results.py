"""Results of a table: scores of each row over its seeds, compared with the baseline."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from kanvision.config.experiments import Experiment
from kanvision.statistics import Interval, holm_correction, mean_interval, paired_t_test

from .ledger import Ledger, is_right
from .plan import Comparison, Item, Plan

__all__ = ["Contrast", "Estimate", "RowResult", "TableResult", "Verdict", "compare", "read_table"]

Verdict = Literal["better", "worse", "not separated"]
ALPHA = 0.05
"""Bound of the risk that any verdict of a table is wrong about seeds, if no row differs."""

Records = Mapping[int, Mapping[str, Any]]
"""Record of each seed."""
MIN_SEEDS = 3
"""Number of seeds below which a row has no number."""
ALIKE = ("parameters", "images", "data_fingerprint")
"""Facts that all records of a row share."""


@dataclass(frozen=True)
class Estimate:
    """Mean with its 95 % interval of Student's t."""

    mean: float
    interval: Interval

    @classmethod
    def from_values(cls, values: Sequence[float]) -> Estimate:
        """Return the estimate of two or more values."""
        found = mean_interval(values)
        assert found is not None
        return cls(statistics.fmean(values), found)


@dataclass(frozen=True)
class Contrast:
    """Difference between a row and the baseline, in points.

    Attributes:
        over_seeds: Difference over the common seeds.
        over_images: Difference over the test images, for the networks of these seeds; None without
            predictions. It says nothing about another seed.
        count: Number of common seeds.
        p_value: P-value of the paired t-test over seeds; None if their differences are equal.
        p_adjusted: P-value after Holm's correction for the rows of the table.
    """

    over_seeds: Estimate
    over_images: Estimate | None
    count: int
    p_value: float | None
    p_adjusted: float | None = None

    @property
    def verdict(self) -> Verdict:
        """Verdict by rule: separated if the corrected p-value is below 0.05."""
        if self.p_adjusted is None or self.p_adjusted >= ALPHA:
            return "not separated"
        return "better" if self.over_seeds.mean > 0 else "worse"


@dataclass(frozen=True)
class RowResult:
    """Row of a table with at least three finished seeds.

    Attributes:
        name: Name of the row.
        experiment: Row in conf/tables.
        records: Record of each seed.
        score: Mean of the metric over the seeds with its interval, in percent.
        contrast: Difference from the baseline; None for the baseline, and with fewer than three common seeds.
    """

    name: str
    experiment: Experiment
    records: Records
    score: Estimate
    contrast: Contrast | None = None

    @property
    def verdict(self) -> Verdict | None:
        """Verdict by rule; None without a contrast."""
        return None if self.contrast is None else self.contrast.verdict

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
        records = {seed: ledger.read(item, plan.tuning(item)) for seed, item in items.items()}
        found = {seed: record for seed, record in records.items() if record is not None}
        if len(found) < MIN_SEEDS:
            missing.append(row)
            continue
        _check_alike(f"{name}/{row}", found, ALIKE[:1] if comparison.splits_by_seed else ALIKE)
        score = Estimate.from_values(list(_scores(comparison, found).values()))
        rows.append(RowResult(row, experiment, found, score))
    rows = _compare_rows(comparison, rows)
    commits = Counter(record["commit"] for row in rows for record in row.records.values())
    most = max(sorted(commits), key=commits.__getitem__, default="")
    best_first = sorted(rows, key=lambda row: -row.score.mean)
    return TableResult(name, comparison, best_first, missing, most, sorted(commits))


def _scores(comparison: Comparison, records: Records) -> dict[int, float]:
    return {seed: 100 * record["metrics"][comparison.metric] for seed, record in records.items()}


def _compare_rows(comparison: Comparison, rows: list[RowResult]) -> list[RowResult]:
    """Return the rows with their contrasts, corrected for the number of rows that are compared."""
    baseline = next((row for row in rows if row.name == comparison.baseline), None)
    if baseline is None:
        return rows
    found = {
        row.name: compare(row.records, baseline.records, comparison) for row in rows if row is not baseline
    }
    tested = [(name, c.p_value) for name, c in found.items() if c is not None and c.p_value is not None]
    adjusted = dict(zip((name for name, _ in tested), holm_correction([p for _, p in tested]), strict=True))
    contrasts = {
        name: contrast and replace(contrast, p_adjusted=adjusted.get(name))
        for name, contrast in found.items()
    }
    return [replace(row, contrast=contrasts.get(row.name)) for row in rows]


def compare(row: Records, baseline: Records, comparison: Comparison) -> Contrast | None:
    """Compare two rows over their common seeds; None if there are fewer than three."""
    seeds = sorted(row.keys() & baseline.keys())
    if len(seeds) < MIN_SEEDS:
        return None
    scores, reference = _scores(comparison, row), _scores(comparison, baseline)
    one, other = [scores[seed] for seed in seeds], [reference[seed] for seed in seeds]
    differences = [a - b for a, b in zip(one, other, strict=True)]
    images = None
    if all("right" in records[seed] for records in (row, baseline) for seed in seeds):
        # of the same images, so that hard ones cancel
        pairs = [is_right(row[seed]).astype(int) - is_right(baseline[seed]) for seed in seeds]
        images = Estimate.from_values((100 * np.mean(pairs, axis=0)).tolist())
    test = paired_t_test(one, other)
    return Contrast(Estimate.from_values(differences), images, len(seeds), test.p_value)


def _check_alike(row: str, records: Records, keys: Sequence[str]) -> None:
    for key in keys:
        if len({str(record[key]) for record in records.values()}) > 1:
            raise ValueError(f"docs/results/{row}: records differ in {key}; run its seeds again")
