"""Groups of the folder conf/, their choices, and the content of their files."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kanvision.plugins import conf_folders

from .errors import ConfigError, Problem
from .experiments import GROUP, TABLES, Experiment, find_experiment, list_experiments
from .nested import MISSING, value_at
from .program import program
from .suggestions import closest_first
from .yaml_files import read_yaml

__all__ = ["ConfigGroups"]


class ConfigGroups:
    """Groups of configuration files, and the choices of each group.

    Args:
        folders: conf/ and further folders of the same layout; earlier ones take precedence. Those of plugins
            follow.
        config_name: File whose defaults list names the groups.
    """

    def __init__(self, folders: Sequence[Path], config_name: str = "train") -> None:
        self.folders = (*folders, *conf_folders())
        self.defaults = self._defaults(config_name)

    def _defaults(self, config_name: str) -> dict[str, str | None]:
        """Return the groups in the order of the defaults list, with their default choices."""
        path = self._find(config_name)
        found: dict[str, str | None] = {}
        for entry in _raw(path).get("defaults", []) if path else []:
            if isinstance(entry, Mapping):
                (group, choice), *_ = entry.items()
                words = str(group).split()
                if "override" not in words:
                    found[words[-1]] = choice
        return found

    def _find(self, name: str) -> Path | None:
        paths = (folder / f"{name}.yaml" for folder in self.folders)
        return next((path for path in paths if path.is_file()), None)

    @property
    def groups(self) -> list[str]:
        """Names of the groups, in the order of the defaults list."""
        return list(self.defaults)

    @property
    def experiments(self) -> dict[str, Experiment]:
        """Rows of all tables by name; ConfigError if a table is malformed."""
        return list_experiments(self.folders)

    def experiment(self, name: str) -> Experiment | None:
        """Return the row of a name, or None; only the tables of its paper are read.

        Raises:
            ConfigError: One of these tables is malformed, or a file has the same name.
        """
        found = find_experiment(self.folders, name)
        if found and (path := self._find(f"{GROUP}/{name}")):
            why = f"{found.table} has a row of that name"
            raise ConfigError([Problem((GROUP,), (str(path),), why, "rename the file")])
        return found

    def has(self, group: str, choice: str) -> bool:
        """Return True if it is a legal choice of a group."""
        is_row = group == GROUP and self.experiment(choice) is not None
        return is_row or choice in self._files(group)

    def of(self, group: str) -> list[str]:
        """Return the legal choices of a group, without files whose names start with an underscore."""
        return sorted([*self._files(group), *(self.experiments if group == GROUP else ())])

    def listing(self, group: str, near: Sequence[str] = ()) -> str:
        """Return the legal choices of a group in words, the closest first; of experiments these alone."""
        if group == GROUP and (rows := self.experiments):
            start = ", ".join([*near, "..."]) if near else "..."
            listing = f"{program('train')} --help {GROUP}=<table>"
            return f"legal: {start} ({len(rows)} rows of conf/tables; {listing})"
        names = closest_first(near, self.of(group))
        return f"legal: {', '.join(names)}" if names else f"conf/{group} holds no file yet"

    def _files(self, group: str) -> set[str]:
        names = {
            path.relative_to(folder / group).with_suffix("").as_posix()
            for folder in self.folders
            for path in (folder / group).rglob("*.yaml")
        }
        return {name for name in names if not any(part.startswith("_") for part in name.split("/"))}

    def comment(self, group: str, choice: str) -> str:
        """Return the remarks at the top of a file as one line; empty if it has none."""
        path = self._find(f"{group}/{choice}")
        lines = path.read_text("utf-8").splitlines() if path else []
        remarks = itertools.takewhile(lambda line: line.startswith("#"), lines)
        words = [line.lstrip("# ") for line in remarks if not line.startswith("# @package")]
        return " ".join(words)

    def content(self, group: str, choice: str) -> dict[str, Any]:
        """Return the content of a file, merged with the files of the same group in its defaults list."""
        values = self._values(group, choice)
        bases = [
            self.content(group, entry)
            for entry in values.pop("defaults", [])
            if isinstance(entry, str) and entry != "_self_" and not entry.startswith("/")
        ]
        return _plain(OmegaConf.merge(*bases, values))

    def _values(self, group: str, choice: str) -> dict[str, Any]:
        """Return the content of a file or of a row of a table, with its defaults list."""
        if group == GROUP and (experiment := self.experiment(choice)):
            return experiment.config()
        path = self._find(f"{group}/{choice}")
        return _raw(path) if path else {}

    def overridden(self, group: str, choice: str) -> dict[str, str]:
        """Return the choices of other groups that a file makes (`override /model: kat`)."""
        entries = self._values(group, choice).get("defaults", [])
        pairs = (pair for entry in entries if isinstance(entry, Mapping) for pair in entry.items())
        return {
            str(key).split()[-1].lstrip("/").partition("@")[0]: str(value)
            for key, value in pairs
            if "override" in str(key)
        }

    def source(self, chosen: Mapping[str, Any], key: str) -> Path | None:
        """Return the chosen file that sets a dotted key; the last one if several do."""
        for group in reversed(self.groups):
            names = chosen.get(group)
            for name in [names] if isinstance(names, str) else names or []:
                row = self.experiment(name) if group == GROUP else None
                path = row.table if row else self._find(f"{group}/{name}")
                if path and _sets(path, self.content(group, name), group, key):
                    return path
        return None


def _raw(path: Path) -> dict[str, Any]:
    content = read_yaml(path)
    return {str(key): value for key, value in content.items()} if isinstance(content, dict) else {}


def _plain(node: Any) -> dict[str, Any]:
    values = OmegaConf.to_container(node, resolve=False) if isinstance(node, DictConfig) else {}
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _sets(path: Path, values: Mapping[str, Any], group: str, key: str) -> bool:
    """Return True if a file sets a key; without `@package _global_` a file sets keys of its own section."""
    if path.parent.name != TABLES and "@package _global_" not in path.read_text("utf-8"):
        section, _, key = key.partition(".")
        if section != group:
            return False
    return value_at(values, key) is not MISSING
