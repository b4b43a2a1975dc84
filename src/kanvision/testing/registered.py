"""Names that tested plugins have registered, by kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import timm

from kanvision import plugins
from kanvision.bases import BASES
from kanvision.config import CONF, ConfigGroups
from kanvision.data import READERS, SEGMENTATION_READERS

__all__ = ["KINDS", "choices"]

_GROUPS = ("model", "data", "callbacks", "logger", "recipe", "experiment")


def choices() -> ConfigGroups:
    """Return the choices of conf/ and of all plugins."""
    return ConfigGroups([CONF])


def _names(registry: Iterable[str]) -> list[str]:
    """Return the registered names that are in a registry."""
    found = {name for plugin in plugins.LOADED.values() for name in plugin.names}
    return sorted(found & set(registry))


def _files() -> list[str]:
    """Return the files of the folders of plugins as choices, such as `model=mini_kan`."""
    found = []
    for folder in plugins.conf_folders():
        for group in _GROUPS:
            paths = (folder / group).rglob("*.yaml")
            found += [f"{group}={_choice(path, folder / group)}" for path in paths if path.name[0] != "_"]
    rows = [
        row.name for row in choices().experiments.values() if row.table.parents[1] in plugins.conf_folders()
    ]
    return sorted([*found, *(f"experiment={name}" for name in rows)])


def _choice(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


KINDS: dict[str, Callable[[], list[str]]] = {
    "basis_name": lambda: _names(BASES),
    "model_name": lambda: _names(timm.list_models()),
    "reader_name": lambda: _names([*READERS, *SEGMENTATION_READERS]),
    "loss_name": lambda: _names(plugins.LOSSES),
    "metric_name": lambda: _names(plugins.METRICS),
    "file_choice": _files,
}
"""Names to test by the argument of the tests that take one."""
