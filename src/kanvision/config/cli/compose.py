"""Hydra's own composition, open to questions before a run starts."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from kanvision.config.defaults import register_defaults
from kanvision.config.errors import ConfigError
from kanvision.config.runtime.resolvers import register_resolvers
from kanvision.config.runtime.run_folder import CHOSEN_LATER
from kanvision.config.secrets import references
from kanvision.config.table_source import register_experiments

__all__ = ["REFUSALS", "Composer", "Override", "compose", "composer", "reason", "without_hydra"]

# What Hydra raises at overrides that it cannot follow.
REFUSALS = (HydraException, OmegaConfBaseException, ValueError)


def reason(error: Exception) -> str:
    """Hydra's or OmegaConf's complaint without its preamble and pointers to web pages."""
    if isinstance(error, ConfigError):
        return " ".join(line for problem in error.problems for line in problem.lines())
    if str(error).startswith("Could not override"):
        return "unknown key"
    if isinstance(error.__cause__, OmegaConfBaseException):
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip() and "https://hydra.cc" not in line]
    return lines[0].strip() if lines else type(error).__name__


class Composer:
    """Composes one configuration with different overrides; made by `composer`."""

    def __init__(self, config_name: str, folders: Sequence[Path]) -> None:
        self._config_name = config_name
        self.searchpath = tuple(f"file://{path}" for path in folders)
        """Where Hydra looks besides conf/."""
        self._fixed = [f"hydra.searchpath=[{','.join(self.searchpath)}]"] if folders else []
        self._parser = OverridesParser.create()
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def parse(self, override: str) -> Override:
        """An override taken apart; HydraException if its grammar is wrong."""
        return self._parser.parse_override(override)

    def plugin_choices(self, group: str) -> list[str]:
        """Choices of one of Hydra's own groups, those of installed plugins included."""
        return list(GlobalHydra.instance().config_loader().get_group_options(group))

    def compose(self, choices: Sequence[str], values: Sequence[Override]) -> DictConfig:
        """The configuration with Hydra's own section.

        Args:
            choices: Overrides of groups and of Hydra's own settings, as typed.
            values: Overrides of keys.

        Raises:
            HydraException: Hydra refuses one of them.
        """
        key = tuple(choices)
        if key not in self._composed:
            overrides = [*self._fixed, *choices]
            self._composed[key] = hydra_compose(self._config_name, overrides, return_hydra_config=True)
        cfg = copy.deepcopy(self._composed[key])
        # What Hydra does with them too; composing anew for each value of a sweep would take too long.
        ConfigLoaderImpl._apply_overrides_to_config(list(values), cfg)
        return cfg


@contextmanager
def composer(config_name: str, config_dir: Path, folders: Sequence[Path] = ()) -> Iterator[Composer]:
    """A composer for a file of conf/; Hydra's global state is left as it was.

    Args:
        config_name: The main file without its suffix.
        config_dir: The folder conf/.
        folders: Further folders to search.
    """
    register_resolvers()
    register_experiments([config_dir, *folders])
    register_defaults()
    before = HydraConfig.instance().cfg
    with initialize_config_dir(str(config_dir.resolve()), version_base="1.3"):
        try:
            yield Composer(config_name, folders)
        finally:
            HydraConfig.instance().cfg = before


def without_hydra(cfg: DictConfig) -> DictConfig:
    """The user's part of a composed configuration, with `${hydra:...}` answered and no run folder chosen."""
    HydraConfig.instance().set_config(cfg)
    task = copy.deepcopy(cfg)
    with open_dict(task):
        del task["hydra"]
        # Choosing a folder looks at the disk and exports the choice: that is for the run itself.
        if "run" in task and "${run_dir:" in str(OmegaConf.to_container(task.run, resolve=False)):
            task.run.dir = CHOSEN_LATER
    return task


def compose(config_name: str, overrides: Sequence[str], config_dir: Path) -> DictConfig:
    """Compose a configuration as the command line would, without running anything.

    References to variables of the environment stay as they are, see `kanvision.config.secrets`.

    Args:
        config_name: `train` or `eval`.
        overrides: As on the command line.
        config_dir: The folder conf/.

    Raises:
        HydraException: Hydra refuses an override.
    """
    with composer(config_name, config_dir) as composing:
        task = without_hydra(composing.compose(overrides, []))
        kept = references(task)
        OmegaConf.resolve(task)
        for key, raw in kept.items():
            OmegaConf.update(task, key, raw)
        return task
