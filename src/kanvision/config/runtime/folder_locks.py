"""Locks of the folders of runs and sweeps, before Hydra writes into them."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from kanvision.config.errors import ConfigError, Problem, exit_with_message, is_global_rank_zero

from .resolvers import forget_run_dirs, is_made_up, job_name, rename_run, run_id
from .run_lock import FolderInUseError, lock_folder

__all__ = ["FolderLocks", "lock_run_dir", "lock_sweep_dir"]

LEAST_ROOM = 2**16
"""Bytes that the smallest run writes before its first checkpoint; a full disk is reported here."""


class FolderLocks(Callback):
    """Callback of Hydra that locks the folder of a run or a sweep before Hydra makes it.

    A name from the time of day belongs to one process: another process of the same second gets a number.
    Jobs of a sweep lock their folders themselves (`kanvision.sweep.sweep_job`), on whatever machine they run.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Lock the folder of the run."""
        HydraConfig.instance().set_config(config)  # resolvers read it, and Hydra sets it only afterwards
        if config.trainer.fast_dev_run and config.hydra.run.dir != config.run.dir:
            return  # a trial without a folder
        _shown(lock_run_dir, config)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Lock the folder of the sweep."""
        _shown(lock_sweep_dir, config)


def lock_run_dir(config: DictConfig) -> None:
    """Make and lock `run.dir`; ConfigError if a live run holds it, or it cannot be written."""
    refused: set[Path] = set()
    while True:
        folder = Path(config.run.dir)
        try:
            if is_made_up(folder):
                folder.mkdir(parents=True)
            _lock("run.dir", folder)
            return
        except FileExistsError:
            pass  # another process has made it meanwhile
        except FolderInUseError:
            if folder in refused:
                raise
            refused.add(folder)  # resume=auto may find another run
        forget_run_dirs()


def lock_sweep_dir(config: DictConfig) -> None:
    """Make and lock `hydra.sweep.dir`; ConfigError if a live sweep holds it, or it cannot be written."""
    stem = run_id()
    for number in count(2):
        folder = Path(config.hydra.sweep.dir)
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            if not is_made_up(stem):
                break
            rename_run(f"{stem}_{number}")
            if Path(config.hydra.sweep.dir) == folder:
                break  # the command line sets it
        except OSError:
            break  # _lock reports it
    _lock("hydra.sweep.dir", folder)


def _lock(key: str, folder: Path) -> None:
    try:
        lock_folder(folder, job_name(), key)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(LEAST_ROOM))
    except OSError as error:
        why = f"nothing can be written there: {error.strerror or error}"
        raise ConfigError([Problem((key,), (f"{key}={folder}",), why, f"choose another {key}")]) from None


def _shown(lock: Callable[[DictConfig], None], config: DictConfig) -> None:
    """Lock in the first process; exit at any error, because Hydra would only print a warning."""
    if not is_global_rank_zero():
        return
    try:
        with exit_with_message(ConfigError):
            lock(config)
    except OmegaConfBaseException:
        return  # the name cannot be resolved: Hydra reports it later
    except Exception as error:
        with suppress(OSError):  # the disk of stderr may be full too
            traceback.print_exc()
        raise SystemExit(1) from error
