"""Settings, metrics and failures of runs, read from their folders."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from kanvision.config import format_yaml, live_owner
from kanvision.config.nested import MISSING, value_at
from kanvision.config.renames import rename_record, rename_settings
from kanvision.config.yaml_files import has_bounded_size

__all__ = ["FAILURE", "Run", "read_run", "read_runs", "write_failure"]

# Record of a failed job of a sweep, in the folder of the run.
FAILURE = "failure.json"
INTERRUPTED = "no metrics.json: the run was interrupted, or is running on another machine"
# Every run folder has one of these from the start of the run.
MARKS = (".hydra", "config.yaml", "metrics.json", FAILURE)
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Run:
    """Run, finished or not.

    Attributes:
        folder: Folder of the run.
        overrides: Settings of its command line by key or group, without `+`; values as text.
        record: Content of its metrics.json; empty if there is none.
        failure: Reason why its metrics do not count; None if they do.
        is_finished: The run has a result or a recorded failure; otherwise it is running or was interrupted.
    """

    folder: Path
    overrides: Mapping[str, str] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    failure: str | None = None
    is_finished: bool = True

    def setting(self, key: str) -> str:
        """Return the value of a key or the choice of a group, as set or by default; empty if unknown."""
        if key in self.overrides:
            return self.overrides[key]
        if key in self._choices:
            return plain(format_yaml(self._choices[key]))
        value = value_at(self.config, key)
        return "" if value is MISSING else plain(format_yaml(value))

    @cached_property
    def seed(self) -> str:
        """Seed of the run as text; with the seed of its split if the command line sets one: 42/2981."""
        seed = plain(str(self.record["seed"])) if "seed" in self.record else self.setting("seed")
        split = self.overrides.get("data.split_seed")
        return seed if split is None else f"{seed}/{split}"

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """Configuration with new names; that of Hydra, with `${...}` in it, if the run wrote none."""
        stored = _yaml(self.folder / "config.yaml") or _yaml(self.folder / ".hydra" / "config.yaml")
        return rename_settings(stored)[0]

    @cached_property
    def _choices(self) -> Mapping[str, Any]:
        hydra = _yaml(self.folder / ".hydra" / "hydra.yaml").get("hydra", {})
        return hydra.get("runtime", {}).get("choices", {})  # type: ignore[no-any-return]


def read_runs(folder: Path) -> list[Run]:
    """Return all runs in a folder and its subfolders, in the order of their names; links are skipped.

    Raises:
        ValueError: There is no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; a sweep writes to runs/sweeps/<id>")
    runs = [read_run(path) for path in _run_folders(folder)]
    if not runs:
        raise ValueError(f"{folder}: no run in this folder; a run has {', '.join(MARKS)}")
    return runs


def read_run(folder: Path) -> Run:
    """Return the run of a folder."""
    record, failure = rename_record(_json(folder / "metrics.json")), _json(folder / FAILURE)
    if failure is not None:
        return Run(
            folder, _overrides(folder), record or {}, str(failure.get("reason") or "no reason recorded")
        )
    if record is not None:
        return Run(folder, _overrides(folder), record)
    return Run(folder, _overrides(folder), {}, _unfinished(folder), is_finished=False)


def _unfinished(folder: Path) -> str:
    """Return the reason why a run has no metrics yet."""
    owner = live_owner(folder)
    return INTERRUPTED if owner is None else f"no metrics.json yet: still running ({owner})"


def write_failure(folder: Path, reason: str, trace: str = "") -> None:
    """Record the reason why a run has no result."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"reason": reason, "traceback": trace.splitlines()}, indent=2)
    (folder / FAILURE).write_text(f"{text}\n", "utf-8")


def plain(text: str) -> str:
    """Return the normal form of a setting, in which `1e-3` is `0.001` and `False` is `false`."""
    if text in ("True", "False"):
        return text.lower()
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return repr(number) if math.isfinite(number) else text
    return text


def _run_folders(folder: Path) -> Iterator[Path]:
    if any((folder / mark).exists() for mark in MARKS):
        yield folder
        return
    inner = (path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    for path in sorted(inner, key=_by_number):
        if not path.name.startswith("."):
            yield from _run_folders(path)


def _by_number(path: Path) -> tuple[int, str]:
    """Return a sorting key for the jobs of a sweep, by number: 2 before 10."""
    return (int(path.name), "") if path.name.isdecimal() else (-1, path.name)


def _overrides(folder: Path) -> dict[str, str]:
    path = folder / ".hydra" / "overrides.yaml"
    words = _content(path)
    pairs = (str(word).lstrip("+~").partition("=") for word in words or [])
    return {key: plain(value) for key, _, value in pairs}


def _yaml(path: Path) -> dict[str, Any]:
    content = _content(path)
    return content if isinstance(content, dict) else {}


def _content(path: Path) -> Any:
    """Return the content of a yaml file; None if there is none.

    Raises:
        ValueError: The file, or what its aliases expand to, is larger than any run writes.
    """
    text = path.read_text("utf-8") if path.is_file() else ""
    if not has_bounded_size(text):
        raise ValueError(f"{path}: the file, or what its aliases expand to, is larger than any run writes")
    return yaml.load(text, LOADER)


def _json(path: Path) -> dict[str, Any] | None:
    """Return the content of a json file; None if there is none or it cannot be read."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
