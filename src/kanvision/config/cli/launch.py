"""Start of train.py and eval.py from the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra._internal.utils import run_and_report
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import configure_log
from hydra.types import RunMode
from omegaconf import DictConfig

from kanvision.config.runtime.resolvers import register_resolvers

from .command_line import check_command_line

__all__ = ["launch"]


class _ComposedHydra(Hydra):
    """Hydra with a configuration that is composed already, which its own `run` would compose twice more."""

    def __init__(self, task_name: str, config_loader: ConfigLoader, config: DictConfig) -> None:
        super().__init__(task_name, config_loader)
        self._config = config

    def compose_config(self, *args: Any, **kwargs: Any) -> DictConfig:
        """Set up logging as Hydra does after composing, and return the configuration."""
        configure_log(self._config.hydra.hydra_logging, self._config.hydra.verbose)
        return self._config


def launch(main: Callable[[], Any], config_name: str, config_dir: Path) -> None:
    """Check the command line of the process, then run `main` with it.

    The configuration of a single run is composed once: the composition that was checked is the one that runs.
    A sweep, or a flag of Hydra such as `--cfg`, is left to Hydra, which composes each job by itself.

    Args:
        main: Function decorated with `hydra.main`.
        config_name: `train` or `eval`.
        config_dir: The folder conf/.
    """
    command = check_command_line(config_name, sys.argv[1:], config_dir)
    sys.argv[1:] = command.argv
    register_resolvers()
    config = command.config
    if config is None or config.hydra.mode == RunMode.MULTIRUN:
        main()
        return
    task_function = main.__wrapped__  # type: ignore[attr-defined]
    with initialize_config_dir(str(config_dir), job_name=config_name, version_base="1.3"):
        hydra = _ComposedHydra(config_name, GlobalHydra.instance().config_loader(), config)
        run_and_report(lambda: hydra.run(config.hydra.job.config_name, task_function, overrides=[]))
