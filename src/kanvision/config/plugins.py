"""Plugins of a command line: their import, and what they add to the schema."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from kanvision import plugins
from kanvision.plugins import LOADED, Plugin, PluginError

from .conf_folder import CONF
from .errors import ConfigError, Problem, is_global_rank_zero
from .extension import add_free_sections, extend_schema
from .stored_config import KEY

__all__ = ["load_plugins"]

_extended: set[str] = set()
"""Plugins whose files and names the schema knows."""


def load_plugins(overrides: Sequence[str] | None = None) -> None:
    """Import installed plugins and those that overrides name (None: of this job); extend the schema.

    Raises:
        ConfigError: A plugin of the overrides cannot be imported.
    """
    if overrides is None:
        overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    notes, problems = plugins.import_installed(), []
    installed = set(LOADED)
    for word, name in _typed_names(overrides):
        try:
            plugins.import_plugin(name)
        except PluginError as error:
            problems.append(Problem((KEY,), (word,), f"plugin {name}: {error}"))
    for plugin in [plugin for name, plugin in LOADED.items() if name not in _extended]:
        try:
            _add_files(plugin)
        except PluginError as error:
            message = f"plugin {plugin.name}: {error}"
            if plugin.name in installed:
                notes.append(message)
            else:
                problems.append(Problem((KEY,), (f"{KEY}={plugin.name}",), message))
    if set(LOADED) - _extended:
        extend_schema()
        _extended.update(LOADED)
    if is_global_rank_zero():
        for note in notes:
            print(f"Note: {note}", file=sys.stderr)
    if problems:
        raise ConfigError(problems, "the command line")


def _add_files(plugin: Plugin) -> None:
    """Add the files of a plugin; PluginError if one has the name of a file of kanvision or a plugin."""
    if plugin.conf is None:
        return
    others = [CONF, *(other.conf for other in LOADED.values() if other.conf not in (None, plugin.conf))]
    for path in sorted(plugin.conf.rglob("*.yaml")):
        name = path.relative_to(plugin.conf)
        for folder in others:
            if folder is not None and (folder / name).exists():
                raise PluginError(f"{path}: {folder / name} has that name; rename the file")
    add_free_sections(plugin.conf)


def _typed_names(overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the overrides of the key with each plugin that they name."""
    parser = OverridesParser.create()
    for word in overrides:
        if word.lstrip("+").partition("=")[0] != KEY:
            continue
        try:
            value: Any = parser.parse_override(word).value()
        except HydraException:
            continue  # the check of all overrides says why
        for name in value if isinstance(value, list) else [value]:
            if isinstance(name, str):
                yield word, name
