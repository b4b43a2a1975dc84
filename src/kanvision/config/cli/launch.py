"""Start of the programs that Hydra configures: train and eval."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir, version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import _run_hydra, get_args_parser, run_and_report
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobReturn, configure_log
from hydra.types import RunMode
from omegaconf import DictConfig

from kanvision.config.runtime.resolvers import register_resolvers

from .command_line import check_command_line

__all__ = ["launch", "run_job"]

PRINTING = ("--help", "-h", "--hydra-help", "--info", "-i", "--cfg", "-c")
"""Flags of commands that only print."""


class _ComposedHydra(Hydra):
    """Hydra with a configuration that is composed already, which its own `run` would compose twice more."""

    def __init__(self, task_name: str, config_loader: ConfigLoader, config: DictConfig) -> None:
        super().__init__(task_name, config_loader)
        self._config = config

    def compose_config(self, *args: Any, **kwargs: Any) -> DictConfig:
        """Set up logging as Hydra does after composing, and return the configuration."""
        configure_log(self._config.hydra.hydra_logging, self._config.hydra.verbose)
        return self._config


def launch(
    task: Callable[[DictConfig], Any],
    config_name: str,
    argv: Sequence[str],
    config_dir: Path,
    words: Sequence[str] = (),
) -> None:
    """Check a command line, then run a function of its configuration.

    The configuration of a single run is composed once: the composition that was checked is the one that runs.
    A sweep, or a flag of Hydra such as `--cfg`, is left to Hydra, which composes each job by itself.

    Args:
        task: Function of the configuration.
        config_name: `train` or `eval`.
        argv: Command line without the name of the program.
        config_dir: The folder conf/.
        words: Words between the name of the program and `argv`, with which Lightning starts other ranks.
    """
    if any(word.partition("=")[0] in PRINTING for word in argv) and hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `--help | head` ends without an error
    command = check_command_line(config_name, argv, config_dir)
    sys.argv[1:] = [*words, *command.argv]
    register_resolvers()
    config = command.config
    if config is None or config.hydra.mode == RunMode.MULTIRUN:
        version.setbase("1.3")
        parser = get_args_parser()
        _run_hydra(parser.parse_args(command.argv), parser, task, str(config_dir), config_name)
        return
    run_and_report(lambda: run_job(task, config_name, config, config_dir))


def run_job(
    task: Callable[[DictConfig], Any], config_name: str, config: DictConfig, config_dir: Path
) -> JobReturn:
    """Run a function of a composed configuration as a job of Hydra: its folder, its locks, its resolvers."""
    with initialize_config_dir(str(config_dir), job_name=config_name, version_base="1.3"):
        hydra = _ComposedHydra(config_name, GlobalHydra.instance().config_loader(), config)
        return hydra.run(config.hydra.job.config_name, task, overrides=[])
