"""Program `kanvision train`, the same as `python train.py`."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from kanvision.config import (
    CONF,
    ConfigError,
    ConfigGroups,
    exit_with_message,
    is_global_rank_zero,
    launch,
    load_plugins,
    parse_train,
)
from kanvision.signals import handle_stop_signals
from kanvision.sweep import finished_score, lock_job_folder, sweep_job

from .collection import pause_collection

__all__ = ["run"]


def run(overrides: Sequence[str], *, words: Sequence[str] = ()) -> int:
    """Train with the settings of a command line; return 0, or end the process at a problem."""
    stop = "stopped before training started; run the same command again"
    with handle_stop_signals(stop, quiet=not is_global_rank_zero()):
        launch(_main, "train", overrides, CONF, words=words)
    return 0


def _main(cfg: DictConfig) -> float | None:
    """Run one training; return the best validation score, None for a failed job of a sweep."""
    with sweep_job():
        with exit_with_message(ConfigError):
            load_plugins()  # a launcher may have started this process
            lock_job_folder()
            config = parse_train(cfg, ConfigGroups([CONF]))
        if (score := finished_score(config)) is not None:
            return score
        # Imported late, so that a problem above is reported without waiting for torch.
        with pause_collection():
            from kanvision.app.interrupt import RunStoppedError
            from kanvision.app.train import train
            from kanvision.checkpoints import CheckpointError
            from kanvision.data.errors import DataError
            from kanvision.tasks import NonFiniteError

        with exit_with_message(ConfigError, CheckpointError, DataError, NonFiniteError, RunStoppedError):
            return train(config).score
    return None
