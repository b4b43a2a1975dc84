"""Time that the missing runs take, from records or from one epoch that is timed once."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from typing import Any

from .ledger import describe_machine
from .plan import Item
from .queue import Queue, train_elsewhere

__all__ = ["Costs", "print_plan"]

ONE_EPOCH = ("trainer.max_epochs=1", "scheduler.warmup_epochs=0", "test=false")
"""Words of the run that is timed."""


class Costs:
    """Processor seconds of an epoch for each row, by machine, in `docs/results/epochs.json`.

    Args:
        queue: The runs and their records.
    """

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.path = queue.ledger.folder / "epochs.json"
        self.machine = describe_machine()

    def estimate_seconds(self, item: Item) -> float | None:
        """Return the processor seconds of a run; None if no epoch of its row can be timed."""
        recorded = self._recorded_seconds(item)
        if recorded is not None:
            return recorded
        timed = self._read().get(self.machine, {}).get(f"{item.table}/{item.row}")
        if timed is None:
            timed = self._time(item)
        return None if timed is None else timed["cpu_seconds"] * timed["max_epochs"]

    def _recorded_seconds(self, item: Item) -> float | None:
        """Return the mean time of the finished runs of a row."""
        seeds = self.queue.plan.tables[item.table].seeds
        records = (self.queue.ledger.read(Item(item.table, item.row, seed)) for seed in seeds)
        times = [r["train_cpu_seconds"] for r in records if r is not None and r["train_cpu_seconds"]]
        return statistics.fmean(times) if times else None

    def _time(self, item: Item) -> dict[str, Any] | None:
        words = [*self.queue.plan.command(item, item.lr), *ONE_EPOCH]
        epochs = self._max_epochs(item)
        try:
            record = train_elsewhere(words, self.queue.repository)
        except ValueError as error:
            print(f"{item}: {error}", file=sys.stderr)
            return None
        timed = {"cpu_seconds": record["train_cpu_seconds"], "max_epochs": epochs, "commit": record["commit"]}
        content = self._read()
        content.setdefault(self.machine, {})[f"{item.table}/{item.row}"] = timed
        self.path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", "utf-8")
        return timed

    def _max_epochs(self, item: Item) -> int:
        from kanvision.config import compose, parse_train  # a queue of finished rows needs no composition

        words = self.queue.plan.command(item, item.lr)
        return parse_train(compose("train", words, self.queue.repository / "conf")).trainer.max_epochs

    def _read(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.path.read_text("utf-8")) if self.path.is_file() else {}
        return content


def print_plan(queue: Queue, processes: int, tables: Sequence[str]) -> None:
    """Print the missing runs of each row with their hours, in the order of the work."""
    costs, total = Costs(queue), 0.0
    missing: dict[tuple[str, str], list[Item]] = {}
    for item in queue.missing(tables):
        missing.setdefault((item.table, item.row), []).append(item)
    for (table, row), items in missing.items():
        seconds = costs.estimate_seconds(items[0])
        hours = "not timed" if seconds is None else f"{len(items) * seconds / 3600:.2f} h"
        total += len(items) * (seconds or 0.0)
        print(f"{table}/{row}: {len(items)} runs, {hours}", flush=True)
    hours = f"{total / 3600:.1f} hours of one core"
    print(f"{hours}; {total / 3600 / processes:.1f} hours with {processes} processes")
