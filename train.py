"""Train a model: `python train.py [group=choice ...] [key=value ...]`; `--help` explains."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from kanvision.config import (
    ConfigError,
    ConfigGroups,
    exit_with_message,
    is_global_rank_zero,
    launch,
    parse_train,
)
from kanvision.signals import handle_stop_signals
from kanvision.sweep import finished_score, lock_job_folder, sweep_job

CONF = Path(__file__).resolve().parent / "conf"


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Run one training; return the best validation score, None for a failed job of a sweep."""
    with sweep_job():
        with exit_with_message(ConfigError):
            lock_job_folder()
            config = parse_train(cfg, ConfigGroups([CONF]))
        if (score := finished_score(config)) is not None:
            return score
        # Imported late, so that a problem above is reported without waiting for torch.
        from kanvision.app.interrupt import RunStoppedError
        from kanvision.app.train import train
        from kanvision.checkpoints import CheckpointError
        from kanvision.data.errors import DataError
        from kanvision.tasks import NonFiniteError

        with exit_with_message(ConfigError, CheckpointError, DataError, NonFiniteError, RunStoppedError):
            return train(config)
    return None


if __name__ == "__main__":
    stop = "stopped before training started; run the same command again"
    with handle_stop_signals(stop, quiet=not is_global_rank_zero()):
        launch(main, "train", CONF)
