"""Training from a notebook or a script: `kanvision.fit`, the same as train.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from kanvision.config import (
    CONF,
    ConfigError,
    ConfigGroups,
    Problem,
    parse_train,
    register_resolvers,
    release_folder,
)
from kanvision.config.cli.command_line import read_command_line
from kanvision.config.cli.launch import run_job
from kanvision.config.cli.quoting import override
from kanvision.config.nested import flatten
from kanvision.config.runtime.resolvers import forget_run_id

if TYPE_CHECKING:
    from .training_run import TrainingRun

__all__ = ["fit"]


def fit(*overrides: str, config_dir: str | Path | None = None, **settings: Any) -> TrainingRun:
    """Train as `python train.py` does with the same settings, in this process.

    The run writes the same folder, is checked in the same way and ends with the same weights::

        run = kv.fit(model="convkan", data="digits", seed=1, trainer={"max_epochs": 5})
        run = kv.fit("trainer=cpu", "trainer.max_epochs=5", model="convkan", basis="chebyshev")
        run.metrics, run.folder, run.task.model

    Args:
        *overrides: Words of the command line, `group=choice` or `key=value`.
        config_dir: Further folder of configuration files, as `--config-dir`.
        **settings: The same as keyword arguments; a mapping sets the keys of a section.

    Returns:
        The run: `metrics`, `folder`, `task` with the `model`, `datamodule`, `trainer`.

    Raises:
        ConfigError: Settings are illegal; the error has all problems.
        DataError: The data are missing or broken.
        CheckpointError: A checkpoint that the settings name is not usable.
    """
    words = [*overrides, *_words(settings)]
    if flags := [word for word in words if word.startswith("-")]:
        why = "flags belong to a command line"
        raise ConfigError([Problem((flag,), (flag,), why, "leave it out") for flag in flags])
    if config_dir is not None:
        words.append(f"--config-dir={config_dir}")
    forget_run_id()
    config = read_command_line("train", words, CONF).config
    if config is None:
        raise ConfigError(
            [Problem(("-m",), ("several values",), "a sweep has several runs", "call fit for each")]
        )
    register_resolvers()
    run: TrainingRun = run_job(_train, "train", config, CONF).return_value
    release_folder(run.folder)
    return run


def _train(cfg: DictConfig) -> TrainingRun:
    from .train import train  # torch and Lightning are loaded after the check

    return train(parse_train(cfg, ConfigGroups([CONF])))


def _words(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the override of each setting; the keys of a mapping have one each."""
    for key, value in flatten(settings).items():
        # keys of the user's own are new
        yield f"{'++' if '.kwargs.' in key else ''}{override(key, value)}"
