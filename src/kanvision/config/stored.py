"""Configurations as plain values, in checkpoints and in the files of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import ConfigError, Problem
from .plugin_records import missing_plugins
from .renames import print_old_names, rename_settings
from .schema.root import TrainConfig
from .schema_problems import check_schema
from .yaml_limits import MOST_ENTRIES, expanded_size

__all__ = ["to_primitive", "train_config"]


def to_primitive(cfg: TrainConfig) -> dict[str, Any]:
    """Return a configuration as plain dicts, lists, texts and numbers, for config.yaml and checkpoints."""
    return cfg.model_dump(mode="json")


def train_config(values: Mapping[str, Any]) -> TrainConfig:
    """Return the configuration from the plain values of `to_primitive`.

    Raises:
        ConfigError: The values do not fit the schema, for example those of another version.
    """
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
