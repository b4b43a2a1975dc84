"""Evaluate a trained model: `python eval.py ckpt=<run folder, checkpoint or latest>`; `--help` explains."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from kanvision.config import (
    ConfigError,
    exit_with_message,
    is_global_rank_zero,
    launch,
    parse_eval,
)
from kanvision.signals import handle_stop_signals

CONF = Path(__file__).resolve().parent / "conf"


@hydra.main(version_base="1.3", config_path="conf", config_name="eval")
def main(cfg: DictConfig) -> None:
    """Run one evaluation."""
    with exit_with_message(ConfigError):
        config = parse_eval(cfg)
    # Imported late, so that a problem above is reported without waiting for torch.
    from kanvision.app import EVALUATIONS
    from kanvision.checkpoints import CheckpointError
    from kanvision.data.errors import DataError
    from kanvision.tasks import NonFiniteError

    with exit_with_message(ConfigError, CheckpointError, DataError, NonFiniteError):
        EVALUATIONS[config.mode](config)


if __name__ == "__main__":
    stop = "stopped before the end, so results are missing or incomplete; run the same command again"
    with handle_stop_signals(stop, quiet=not is_global_rank_zero()):
        launch(main, "eval", CONF)
