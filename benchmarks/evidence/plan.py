"""Declared list of runs: tables of conf/tables, their seeds and learning rates, and the order of the work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, model_validator

from kanvision.config.cards import tables
from kanvision.config.experiments import Experiment, ExperimentTable, list_experiments
from kanvision.config.schema.base import Section
from kanvision.config.yaml_files import YamlLoader

__all__ = ["REPOSITORY", "Comparison", "Item", "Plan", "read_table_file"]

REPOSITORY = Path(__file__).resolve().parents[2]
PLAN = "docs/results/plan.yaml"


@dataclass(frozen=True)
class Item:
    """Run of the list: a compared seed, or a learning rate that is tried on the seed for tuning.

    Attributes:
        table: Name of a file of conf/tables, without its suffix.
        row: Name of a row of the table.
        seed: Seed of the run.
        lr: Learning rate that is tried; None for a compared run.
    """

    table: str
    row: str
    seed: int
    lr: float | None = None

    @property
    def name(self) -> str:
        """Name of the record: `seed_1` or `lr_0.001`."""
        return f"seed_{self.seed}" if self.lr is None else f"lr_{self.lr:g}"

    @property
    def path(self) -> Path:
        """Path of the record below docs/results, and of the run below runs/evidence, without a suffix."""
        return Path(self.table, self.row, self.name)

    def __str__(self) -> str:
        return self.path.as_posix()


class Comparison(Section):
    """Protocol of one table."""

    seeds: list[int]
    """Compared seeds, the same for all rows."""
    baseline: str | None = None
    """Row that every other row is compared with; null: no row is."""
    metric: str = "test/acc1"
    """Metric of the test that is compared; larger is better."""
    learning_rates: list[float] = Field([])
    """Rates of which the best one on validation images is taken for each row; empty: that of the row."""
    tuning_seed: int = 0
    """Seed of the runs that choose the rate; it is never compared."""
    splits_by_seed: bool = False
    """Whether each seed has its own split of the data, so that the seeds have different images."""
    arguments: list[str] = Field([])
    """Further words of the command."""
    shows: str
    """Question that the table answers, with its limits, as prose."""

    @model_validator(mode="after")
    def _check_seeds(self) -> Comparison:
        if len(set(self.seeds)) != len(self.seeds) or len(self.seeds) < 3:
            raise ValueError("seeds: at least three different ones are compared")
        if self.learning_rates and self.tuning_seed in self.seeds:
            raise ValueError("tuning_seed: a compared seed must not choose the learning rate")
        return self


class Step(Section):
    """Step of the work: rows of one table."""

    table: str
    """Table, a key of `tables`."""
    rows: list[str] | Literal["all"] = "all"
    """Rows, in the order in which they are run; all: those of the file."""


class Plan(Section):
    """Content of docs/results/plan.yaml."""

    tables: dict[str, Comparison]
    """Protocol of each table."""
    queue: list[Step]
    """Steps, the most urgent first; within a step all rows get a seed before any gets the next."""

    @classmethod
    def load(cls, repository: Path = REPOSITORY) -> Plan:
        """Read the plan of a checkout, and check its names.

        Raises:
            ValueError: A key, a table or a row is unknown.
        """
        plan = cls.model_validate(yaml.load((repository / PLAN).read_text("utf-8"), YamlLoader))
        plan.find_rows([repository / "conf"])
        return plan

    def find_rows(self, folders: Iterable[Path]) -> None:
        """Find the experiments of all rows.

        Raises:
            ValueError: A table or a row is unknown.
        """
        self._experiments.clear()
        for table, rows in tables(list_experiments(folders).values()).items():
            if table in self.tables:
                names = read_table_file(rows[0].table).rows
                self._experiments[table] = dict(zip(names, rows, strict=True))
        faults = [
            f"tables.{name}: conf/tables has no such file"
            for name in self.tables.keys() - self._experiments.keys()
        ]
        faults += [
            f"queue: {step.table} is no key of tables" for step in self.queue if step.table not in self.tables
        ]
        for table, row in self._named_rows():
            if table in self._experiments and row not in self._experiments[table]:
                faults.append(f"{row}: {table}.yaml has no such row")
        if faults:
            raise ValueError("; ".join(faults))

    def _named_rows(self) -> Iterator[tuple[str, str]]:
        yield from ((step.table, row) for step in self.queue if step.rows != "all" for row in step.rows)
        yield from ((name, table.baseline) for name, table in self.tables.items() if table.baseline)

    @cached_property
    def _experiments(self) -> dict[str, dict[str, Experiment]]:
        return {}

    def rows(self, table: str) -> dict[str, Experiment]:
        """Return the experiments of a table by the names of its rows."""
        return self._experiments[table]

    def items(self, tables: Iterable[str] = ()) -> list[Item]:
        """Return all runs in the order of the work; those of some tables only, if any are given."""
        chosen, found = set(tables), dict[Item, None]()
        for step in self.queue:
            if chosen and step.table not in chosen:
                continue
            comparison = self.tables[step.table]
            rows = list(self.rows(step.table)) if step.rows == "all" else step.rows
            for row in rows:
                for lr in comparison.learning_rates:
                    found[Item(step.table, row, comparison.tuning_seed, lr)] = None
            for seed in comparison.seeds:
                found |= dict.fromkeys(Item(step.table, row, seed) for row in rows)
        return list(found)

    def tuning(self, item: Item) -> list[Item]:
        """Return the runs that choose the learning rate of a compared run."""
        if item.lr is not None:
            return []
        table = self.tables[item.table]
        return [Item(item.table, item.row, table.tuning_seed, lr) for lr in table.learning_rates]

    def command(self, item: Item, lr: float | None) -> list[str]:
        """Return the words of `train.py` for a run.

        Args:
            item: The run.
            lr: Learning rate; None for that of the row.
        """
        comparison, experiment = self.tables[item.table], self.rows(item.table)[item.row]
        words = [f"experiment={experiment.name}", *comparison.arguments, f"seed={item.seed}"]
        words += [] if lr is None else [f"optimizer.lr={lr:g}"]
        return words + (["test=false"] if item.lr is not None else [])


def read_table_file(path: Path) -> ExperimentTable:
    """Return a file of conf/tables; its rows have their short names."""
    return ExperimentTable.model_validate(yaml.load(path.read_text("utf-8"), YamlLoader))
