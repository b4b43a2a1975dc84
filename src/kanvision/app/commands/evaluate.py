"""Program `kanvision eval`, the same as `python eval.py`."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from kanvision.config import (
    CONF,
    ConfigError,
    exit_with_message,
    is_global_rank_zero,
    launch,
    load_plugins,
    parse_eval,
)
from kanvision.signals import handle_stop_signals

from .collection import pause_collection

__all__ = ["run"]


def run(overrides: Sequence[str], *, words: Sequence[str] = ()) -> int:
    """Evaluate with the settings of a command line; return 0, or end the process at a problem."""
    stop = "stopped before the end, so results are missing or incomplete; run the same command again"
    with handle_stop_signals(stop, quiet=not is_global_rank_zero()):
        launch(_main, "eval", overrides, CONF, words=words)
    return 0


def _main(cfg: DictConfig) -> None:
    """Run one evaluation."""
    with exit_with_message(ConfigError):
        load_plugins()  # a launcher may have started this process
        config = parse_eval(cfg)
    # Imported late, so that a problem above is reported without waiting for torch.
    with pause_collection():
        from kanvision.app import load_evaluation
        from kanvision.checkpoints import CheckpointError
        from kanvision.data.errors import DataError
        from kanvision.export.errors import ExportError
        from kanvision.tasks import NonFiniteError

        evaluate = load_evaluation(config.mode)

    with exit_with_message(ConfigError, CheckpointError, DataError, ExportError, NonFiniteError):
        evaluate(config)
