"""Callback of Hydra at the end of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from kanvision.config import is_global_rank_zero

from .report import report

__all__ = ["SweepReport"]


class SweepReport(Callback):
    """Callback that reports a sweep after its last job; the exit status is 1 if a job has failed.

    It works with every launcher and sweeper, because it reads only the folders of the jobs.
    """

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print and write the table.

        Args:
            config: Configuration of the sweep.
            **kwargs: Further arguments of Hydra.
        """
        if not is_global_rank_zero():
            return
        if any(table.failures for table in report(Path(config.hydra.sweep.dir))):
            # Hydra turns any other exception of a callback into a warning.
            raise SystemExit(1)
