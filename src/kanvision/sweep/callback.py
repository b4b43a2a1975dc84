"""What Hydra calls when a sweep ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from kanvision.config import is_global_rank_zero

from .report import report

__all__ = ["SweepReport"]


class SweepReport(Callback):
    """Makes the table of a sweep when its last job is done; exit status 1 when a job has failed.

    Works with each launcher and sweeper, because it reads nothing but the jobs' folders.
    """

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print and write the table.

        Args:
            config: The sweep's configuration.
            **kwargs: What Hydra may add.
        """
        if not is_global_rank_zero():
            return
        if any(table.failures for table in report(Path(config.hydra.sweep.dir))):
            # Hydra turns any other exception of a callback into a warning.
            raise SystemExit(1)
