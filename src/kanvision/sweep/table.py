"""Table of runs: grouped by varied settings, averaged over seeds, best first."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kanvision.spec.training import DIRECTIONS

from .runs import Run

__all__ = ["MORE_NUMBERS", "NUMBERS", "Failure", "Row", "Spread", "SweepTable", "tables", "tabulate"]

NUMBERS = {"parameters": "parameters", "flops": "GFLOP / image", "train_seconds": "seconds"}
"""Heading of each cost of a run, by its name in metrics.json."""
MORE_NUMBERS = {"train_cpu_seconds": "CPU seconds", "peak_memory_mb": "peak memory, MB"}
"""Costs in files and pages alone."""
# Rows are averaged over seeds; the other keys are folders.
NOT_VARIED = ("seed", "data.split_seed", "run.dir", "run.name", "run.root", "resume")


@dataclass(frozen=True)
class Spread:
    """Mean of `count` values and their sample standard deviation (n - 1; None for one value)."""

    mean: float
    std: float | None
    count: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the mean, mean ± t std / sqrt(count); None for one value."""
        if self.std is None:
            return None
        from kanvision.statistics import t_quantile  # scipy

        half = t_quantile(self.count - 1) * self.std / self.count**0.5
        return self.mean - half, self.mean + half

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """Return the spread of some values; None if there are none."""
        if not values:
            return None
        std = statistics.stdev(values) if len(values) > 1 else None
        # The mean of equal integers is that integer.
        mean = values[0] if len(set(values)) == 1 else statistics.fmean(values)
        return cls(mean, std, len(values))


@dataclass(frozen=True)
class Failure:
    """Run without a result."""

    run: Run
    reason: str

    @property
    def headline(self) -> str:
        """First line of the reason."""
        return self.reason.strip().partition("\n")[0]

    @property
    def is_finished(self) -> bool:
        """True if the run has failed, False if it is running or was interrupted."""
        return self.run.is_finished


@dataclass(frozen=True)
class Row:
    """Row of a table: the runs that differ only in their seeds.

    Attributes:
        settings: Value of each varied key.
        runs: Finished runs.
        failures: Runs without a result.
        metrics: Spread of each metric over `runs`, without metrics that no run has.
        numbers: Spread of parameters, FLOPs and seconds.
    """

    settings: Mapping[str, str]
    runs: Sequence[Run]
    failures: Sequence[Failure]
    metrics: Mapping[str, Spread] = field(default_factory=dict)
    numbers: Mapping[str, Spread] = field(default_factory=dict)


@dataclass(frozen=True)
class SweepTable:
    """Table of runs.

    Attributes:
        keys: Varied keys.
        shared: Overrides with the same value in all runs.
        metrics: Names of the metrics, the one that the rows are sorted by first.
        mode: Direction of the best value, `max` or `min`.
        rows: Rows, the best first, rows without a value last.
        facts: Commit, version of torch and device of the runs; several values if they differ.
    """

    keys: Sequence[str]
    shared: Mapping[str, str]
    metrics: Sequence[str]
    mode: str
    rows: Sequence[Row]
    facts: Mapping[str, Sequence[str]]

    @property
    def failures(self) -> list[Failure]:
        """Runs without a result."""
        return [failure for row in self.rows for failure in row.failures]

    @property
    def num_runs(self) -> int:
        """Number of runs, with and without a result."""
        return sum(len(row.runs) + len(row.failures) for row in self.rows)


def tables(runs: Sequence[Run]) -> list[SweepTable]:
    """Return a table for each metric that runs are sorted by, because only a common metric compares them."""
    finished, groups = [run for run in runs if run.record], list[list[Run]]()
    while finished:
        by, _ = _sort_metric(finished)
        groups.append([run for run in finished if by in run.record] or finished)
        taken = {id(run) for run in groups[-1]}
        finished = [run for run in finished if id(run) not in taken]
    rest: list[Run] = []
    for run in runs:
        if not run.record:
            (_like(run, groups) or rest).append(run)
    return [tabulate(group) for group in [*groups, rest] if group]


def _like(run: Run, groups: Sequence[list[Run]]) -> list[Run] | None:
    """Return the group that a run without a result probably belongs to; None if it is unknown."""
    if len(groups) == 1:
        return groups[0]
    facts: tuple[Callable[[Run], str], ...] = (
        lambda run: str(run.config.get("monitor") or ""),
        lambda run: run.setting("data"),
    )
    for fact in facts:
        value = fact(run)
        found = next((group for group in groups if value and value in map(fact, group)), None)
        if found is not None:
            return found
    return None


def tabulate(runs: Sequence[Run]) -> SweepTable:
    """Return the table of some runs.

    A run counts as failed if it has no metrics, or if the metric that the rows are sorted by is not a
    finite number.
    """
    keys, shared = _varied(runs)
    by, mode = _sort_metric(runs)
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(run.setting(key) for key in keys), []).append(run)
    found = [_row(dict(zip(keys, values, strict=True)), group, by) for values, group in groups.items()]
    names = dict.fromkeys(name for run in runs for name in run.record if _is_metric(name))
    metrics = sorted(names, key=lambda name: (name != by, not name.startswith("test/")))
    return SweepTable(keys, shared, metrics, mode, _best_first(found, by, mode), _facts(runs))


def _varied(runs: Sequence[Run]) -> tuple[list[str], dict[str, str]]:
    """Return the keys with several values, and the other keys with their value."""
    given = dict.fromkeys(key for run in runs for key in run.overrides if key not in NOT_VARIED)
    values = {key: {run.setting(key) for run in runs} for key in given}
    varied = [key for key in given if len(values[key]) > 1]
    return varied, {key: next(iter(values[key])) for key in given if key not in varied}


def _sort_metric(runs: Iterable[Run]) -> tuple[str, str]:
    """Return the metric that rows are sorted by, with its direction: the monitored metric, of the test."""
    finished = [run for run in runs if run.record]
    # Configurations by hand may lack them; those of runs always have them.
    monitors = ((run.config.get("monitor"), run.config.get("monitor_mode")) for run in finished)
    monitor, mode = next(((str(name), str(mode)) for name, mode in monitors if name), ("", ""))
    names = dict.fromkeys(name for run in finished for name in run.record if _is_metric(name))
    twin = f"test/{monitor.partition('/')[2]}"
    wanted = (twin, f"best_{monitor}", *(name for name in names if name.startswith("test/")), *names)
    by = next((name for name in wanted if name in names), twin)
    if mode not in DIRECTIONS:
        mode = "min" if any(word in by for word in ("loss", "error", "ece")) else "max"
    return by, mode


def _is_metric(name: str) -> bool:
    return name.startswith(("test/", "best_"))


def _row(settings: Mapping[str, str], group: Sequence[Run], by: str) -> Row:
    good, failures = [], []
    for run in group:
        reason = run.failure
        if reason is None and by in run.record and run.record[by] is None:
            reason = f"{by} is not a finite number"
        if reason is None:
            good.append(run)
        else:
            failures.append(Failure(run, reason))
    names = dict.fromkeys(name for run in good for name in run.record if _is_metric(name))
    return Row(settings, good, failures, _spreads(good, names), _spreads(good, [*NUMBERS, *MORE_NUMBERS]))


def _spreads(runs: Sequence[Run], names: Iterable[str]) -> dict[str, Spread]:
    values = {name: [run.record[name] for run in runs if _is_number(run.record.get(name))] for name in names}
    return {name: spread for name in values if (spread := Spread.of(values[name])) is not None}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _best_first(rows: Iterable[Row], by: str, mode: str) -> list[Row]:
    def sort_key(row: Row) -> tuple[bool, float, float]:
        if by not in row.metrics:
            return (True, 0.0, 0.0)
        size = row.numbers["parameters"].mean if "parameters" in row.numbers else 0.0
        mean = row.metrics[by].mean
        return (False, -mean if mode == "max" else mean, size)

    return sorted(rows, key=sort_key)


def _facts(runs: Iterable[Run]) -> dict[str, list[str]]:
    """Return commit, version of torch and device of the runs; times are comparable on one machine only."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        record = run.record
        torch = record.get("versions", {}).get("torch") if record else None
        device, threads = record.get("device"), record.get("threads")
        about = {
            "commit": record.get("commit"),
            "torch": torch,
            "device": f"{device} ({threads} threads)" if device and threads else device,
        }
        for name, value in about.items():
            if value is not None:
                found.setdefault(name, {})[str(value)] = None
    return {name: list(values) for name, values in found.items()}
