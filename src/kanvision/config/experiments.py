"""Published experiments: rows of the tables in conf/tables, with their settings and their numbers.

A table `<paper>_<table>.yaml` holds once what its rows share: source, hardware, cost, protocol, chosen files
and settings. A row, `experiment=<paper>/<row>`, holds its numbers and what differs. docs/experiments.md has
the format.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, field_validator

from .conf_folder import CONF
from .errors import ConfigError, Problem
from .program import program
from .schema.base import Section
from .schema.keys import format_yaml
from .schema.root import TrainConfig
from .suggestions import closest
from .yaml_files import read_yaml

__all__ = ["GROUP", "TABLES", "Experiment", "ExperimentTable", "find_experiment", "list_experiments"]

GROUP = "experiment"
"""Group whose choices are the rows, besides any files in conf/experiment."""
TABLES = "tables"
"""Folder of the tables."""
ROW = "<row>"

Number = float | Annotated[str, Field(pattern=r"^(< )?\d+(\.\d+)?( ± \d+(\.\d+)?)?$")]
Score = Number | list[Number] | dict[str, Number | list[Number]]
"""One number, or those of several runs in the order of the sweep, by the value of its other keys."""


class _Shared(Section):
    """Fields of a table that its rows inherit, and may override."""

    title: str
    """Model and data in words."""
    source: str
    """Publication or document that states the numbers."""
    hardware: str
    """Hardware that a run needs, and that of the publication."""
    cost: str | None = None
    """Batch, epochs, hours or memory."""
    protocol: str | None = None
    """Rule by which the numbers were measured."""
    arguments: str = ""
    """Further words of the command, with placeholders such as `data.root=<folder>`."""
    expected: str | None = None
    """Score to expect, where it is not the published or measured one."""
    remarks: list[str] = Field([])
    """Differences from the published run, and doubts about its numbers; a row adds to those of its table."""
    choose: dict[str, str] = Field({})
    """Choices of the groups of conf/."""
    set: dict[str, Any] = Field({})
    """Values by dotted key."""
    sweep: dict[str, list[Any]] = Field({})
    """Values that several runs (`-m`) give to each key."""

    @field_validator("set", "sweep")
    @classmethod
    def _check_keys(cls, values: dict[str, Any]) -> dict[str, Any]:
        legal = [*FIELDS, *TrainConfig.model_fields]
        for key in values:
            if key.partition(".")[0] not in TrainConfig.model_fields:
                guess = " or ".join(closest(key.partition(".")[0], legal))
                raise ValueError(f"{key} is no field and no key{f'; did you mean {guess}?' if guess else ''}")
            if any(other.startswith(f"{key}.") for other in values):
                raise ValueError(f"{key} is set as a whole and in part")
        return values


class ExperimentTable(_Shared):
    """Table of experiments, a file of conf/tables."""

    notes: dict[str, str] = Field({})
    """Remarks by a short name, which rows give in their place."""
    experiments: Annotated[str, Field(pattern=rf"^\w+/[^/]*{ROW}[^/]*$")]
    """Names of its rows, such as `kat/imagenet_<row>`."""
    rows: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    """Fields of an experiment by its name, and what differs: `basis: rbf`, `model.size: 8`."""


class Experiment(_Shared):
    """Experiment: a run that reproduces a result, with the published and measured numbers."""

    name: str
    """Choice of `experiment`, for example `kat/imagenet_tiny`."""
    table: Path
    """File of its table."""
    params: int | str | None = None
    """Number of parameters; rounded as published if it ends in M."""
    published: dict[str, Score] = Field({})
    """Published numbers, in percent, by the metric that a test logs."""
    measured: dict[str, Score] = Field({})
    """Numbers of our own runs."""

    @field_validator("remarks")
    @classmethod
    def _check_remarks(cls, remarks: list[str]) -> list[str]:
        for remark in remarks:
            if " " not in remark:
                raise ValueError(f"{remark} is no remark of several words, and no name in the table's notes")
        return remarks

    @property
    def command(self) -> str:
        """Command line of the experiment."""
        words = (program("train"), f"{GROUP}={self.name}", "-m" if self.sweep else "", self.arguments)
        return " ".join(filter(None, words))

    def config(self) -> dict[str, Any]:
        """Return the content of an equal file of conf/experiment."""
        content: dict[str, Any] = {
            "defaults": [{f"override /{group}": choice} for group, choice in self.choose.items()]
        }
        for key, value in self.set.items():
            *parents, last = key.split(".")
            node = content
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = value
        if self.sweep:
            params = {key: ",".join(map(format_yaml, values)) for key, values in self.sweep.items()}
            content["hydra"] = {"sweeper": {"params": params}}
        return content


FIELDS = [name for name in Experiment.model_fields if name not in ("name", "table", "choose", "set")]
"""Keys of a row that are no settings."""


def list_experiments(folders: Iterable[Path], paper: str = "") -> dict[str, Experiment]:
    """Return the rows of all tables by name, or those of the tables of one paper.

    Args:
        folders: conf/ and further folders of the same layout.
        paper: Start of the names of its tables and experiments; empty for all papers.

    Raises:
        ConfigError: A table is malformed, or two of them have the same row.
    """
    pattern = f"{paper}_*.yaml" if paper else "*.yaml"
    rows: dict[str, Experiment] = {}
    problems: list[Problem] = []
    for path in (path for folder in folders for path in sorted((folder / TABLES).glob(pattern))):
        table, faults = _read(path, path.stat().st_mtime_ns)
        problems += faults
        for name in sorted(table.keys() & rows.keys()):
            problems.append(_problem(path, name, f"is a row of {rows[name].table.name} too"))
        rows |= table
    if problems:
        raise ConfigError(problems, "the tables of experiments")
    return rows


def find_experiment(folders: Iterable[Path], name: str) -> Experiment | None:
    """Return the row of a name, or None; only the tables of its paper are read."""
    paper = name.partition("/")[0]
    return list_experiments(folders, paper).get(name) if re.fullmatch(r"\w+", paper) else None


@cache
def _read(path: Path, stamp: int) -> tuple[dict[str, Experiment], list[Problem]]:
    """Return the rows of a table by name, and its problems; `stamp` distinguishes versions of the file."""
    del stamp
    try:
        table = ExperimentTable.model_validate(read_yaml(path))
    except ConfigError as error:
        return {}, list(error.problems)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return {}, [_problem(path, "", f"cannot be read: {' '.join(str(error).split())}")]
    except ValidationError as error:
        return {}, _value_problems(path, "", error)
    paper = table.experiments.partition("/")[0]
    if not path.name.startswith(f"{paper}_"):
        return {}, [_problem(path, "experiments", f"the tables of {paper}/ are files {paper}_<table>.yaml")]
    homes = {path.parents[1], CONF}
    groups = [folder.name for home in homes for folder in home.iterdir() if folder.is_dir()]
    found: dict[str, Experiment] = {}
    problems: list[Problem] = []
    for row, content in table.rows.items():
        name = table.experiments.replace(ROW, row)
        try:
            values = _merge(table, content, groups)
            found[name] = Experiment.model_validate({**values, "name": name, "table": path})
        except ValidationError as error:
            problems += _value_problems(path, f"rows.{row}.", error)
    return found, problems


def _merge(table: ExperimentTable, row: Mapping[str, Any], groups: Sequence[str]) -> dict[str, Any]:
    """Return the fields of a row with those of its table; its other keys choose a file or set a value."""
    fields = {key: value for key, value in row.items() if key in FIELDS}
    chosen = {key: value for key, value in row.items() if key in groups or "/" in key}
    values = {key: value for key, value in row.items() if key not in fields and key not in chosen}
    shared = {name: getattr(table, name) for name in _Shared.model_fields}
    both: dict[str, Any] = {"choose": {**table.choose, **chosen}, "set": {**table.set, **values}}
    remarks = fields.get("remarks", [])
    if isinstance(remarks, list):
        both["remarks"] = [*table.remarks, *(table.notes.get(str(remark), remark) for remark in remarks)]
    return {**shared, **fields, **both}


def _value_problems(path: Path, prefix: str, error: ValidationError) -> list[Problem]:
    """Return one problem for each key with an error of pydantic."""
    found: dict[str, Problem] = {}
    for item in error.errors(include_url=False):
        # the further parts of a location name the alternatives that a value could be
        parts = [str(part) for part in item["loc"][:2]]
        if item["loc"][:1] in (("published",), ("measured",)):
            message = "expected a number, '<mean> ± <spread>', or a list or mapping of them"
        else:
            message = item["msg"].removeprefix("Value error, ")
            message = message[:1].lower() + message[1:]
        key = (prefix + ".".join(parts)).rstrip(".")
        found.setdefault(key, _problem(path, key, message))
    return list(found.values())


def _problem(path: Path, key: str, why: str) -> Problem:
    file = "/".join(path.parts[-3:])
    return Problem((key,), (f"{file}: {key}" if key else file,), why)
