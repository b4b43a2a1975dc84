"""Keys of `eval.py mode=check_data`."""

from __future__ import annotations

from typing import Literal

from .data_schema import AnyData
from .section import Count, Section


class CheckingConfig(Section):
    """How mode=check_data looks."""

    num_workers: Count | None = None
    """Processes that look at files; null: one a core."""
    rows: Count = 20
    """Findings that are printed; the file has all."""


class CheckConfig(Section):
    """The whole configuration of `eval.py mode=check_data data=<name>`, which needs no checkpoint."""

    mode: Literal["check_data"] = "check_data"
    """Look at every file of a data set and list what is wrong with each."""
    data: AnyData
    """The data set, as `train.py` takes it."""
    check: CheckingConfig = CheckingConfig()
    """How it looks."""
    output: str | None = None
    """Folder of the list check_data.csv; null: <run_root>/checks/<data>."""
    run_root: str = "runs"
    """Folder of all runs."""
