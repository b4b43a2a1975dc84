"""Configurations as plain values, in checkpoints and files of a run, with the plugins that they record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kanvision.plugins import LOADED

from .checks.legal_values import check_schema
from .errors import ConfigError, Problem
from .renames import print_old_names, rename_settings
from .schema.root import TrainConfig
from .yaml_files import MOST_ENTRIES, expanded_size

__all__ = ["KEY", "missing_plugins", "to_primitive", "train_config", "used_plugins"]

KEY = "plugins"
"""Key of the names of plugins."""


def to_primitive(cfg: TrainConfig) -> dict[str, Any]:
    """Return a configuration as plain dicts, lists, texts and numbers, for config.yaml and checkpoints."""
    return cfg.model_dump(mode="json")


def train_config(values: Mapping[str, Any]) -> TrainConfig:
    """Return the configuration from values of `to_primitive`; ConfigError if they do not fit the schema."""
    if expanded_size(values) > MOST_ENTRIES:
        why = f"lists and sections in it expand to more than {MOST_ENTRIES:,} entries"
        raise ConfigError([Problem(("config",), ("the configuration",), why)], "the stored configuration")
    values, old_names = rename_settings(values)
    print_old_names(old_names, " since this run")
    if missing := missing_plugins(values):
        raise ConfigError(missing, "the stored configuration")
    config, problems = check_schema(values, TrainConfig)
    if config is None:
        raise ConfigError(problems, "the stored configuration")
    return config


def missing_plugins(values: Mapping[str, Any]) -> list[Problem]:
    """Return a problem for each plugin that a configuration names and that is not loaded.

    Nothing is imported: a configuration may come from anywhere.
    """
    names = values.get(KEY) or []
    return [
        Problem(
            (KEY,),
            (f"{KEY}=[{name}]",),
            f"the plugin {name} is not loaded; a file or checkpoint only records it",
            f"if you trust it, name it on the command line: {KEY}=[{name}]",
        )
        for name in ([names] if isinstance(names, str) else names)
        if name not in LOADED
    ]


def used_plugins(named: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    """Return the plugins to record: those that are named, and installed ones that a configuration uses."""
    used = (name for name, plugin in LOADED.items() if plugin.is_used(values))
    return list(dict.fromkeys([*named, *used]))
