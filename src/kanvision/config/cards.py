"""Published experiments in words: the card of a row, the list of a table, and docs/experiments.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .experiments import GROUP, Experiment
from .program import program
from .schema.keys import format_yaml

__all__ = ["card", "scores", "table_text", "tables"]


def tables(experiments: Iterable[Experiment]) -> dict[str, list[Experiment]]:
    """Return the rows of each table, by its name."""
    found: dict[str, list[Experiment]] = {}
    for experiment in experiments:
        found.setdefault(experiment.table.stem, []).append(experiment)
    return found


def scores(numbers: Mapping[str, Any]) -> str:
    """Return numbers by metric as one line, for example `acc1 74.6, acc5 92.1`."""
    return "; ".join(f"{metric} {_number(value)}" for metric, value in numbers.items())


def _number(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_number(item)}" for key, item in value.items())
    return " / ".join(map(str, value)) if isinstance(value, list) else str(value)


def _params(experiment: Experiment) -> str:
    return f"{experiment.params:,}" if isinstance(experiment.params, int) else experiment.params or ""


def card(experiment: Experiment) -> str:
    """Return the card of an experiment: its fields, one on each line."""
    settings = [f"{group}={choice}" for group, choice in experiment.choose.items()]
    settings += [f"{key}={format_yaml(value)}" for key, value in experiment.set.items()]
    runs = [f"{key}={','.join(map(format_yaml, values))}" for key, values in experiment.sweep.items()]
    fields = [
        ("title", experiment.title),
        ("command", experiment.command),
        ("hardware", experiment.hardware),
        ("cost", experiment.cost),
        ("parameters", _params(experiment)),
        ("published", scores(experiment.published) or "none"),
        ("protocol", experiment.protocol),
        ("our runs", scores(experiment.measured) or "none"),
        ("expected", _expected(experiment)),
        ("source", experiment.source),
        *(("remark", remark) for remark in experiment.remarks),
        ("settings", " ".join(settings)),
        ("runs", " ".join(runs)),
        ("table", "/".join(experiment.table.parts[-3:])),
    ]
    lines = [f"  {name:<12}{text}" for name, text in fields if text]
    return "\n".join([f"{GROUP}={experiment.name}", *lines])


def _expected(experiment: Experiment) -> str:
    if experiment.expected:
        return experiment.expected
    known = experiment.measured or experiment.published
    basis = "measured here" if experiment.measured else "as published"
    return f"{scores(known)}, {basis}{' but for the remarks' if experiment.remarks else ''}" if known else ""


def table_text(rows: Sequence[Experiment]) -> str:
    """Return a table as text: its shared fields, then one line for each row."""
    first = rows[0]
    width = max(len(row.name) for row in rows)
    lines = [f"{first.table.stem}: {len(rows)} rows of {'/'.join(first.table.parts[-3:])}"]
    for row in rows:
        known = scores(row.measured or row.published) or row.expected or ""
        lines.append(f"    {row.name:<{width}}  {known}")
    return "\n".join([*lines, "", f"Card of a row: {program('train')} {GROUP}={first.name} --info"])
