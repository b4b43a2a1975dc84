"""Sweeps: jobs, and a table of runs with varied settings, results over seeds, and failed runs.

`python -m kanvision.sweep <folder>` prints the table of any folder of runs; a sweep (`train.py -m`) prints
its table at the end. Nothing here imports torch.
"""

from .job import SweepReport, finished_score, lock_job_folder, sweep_job
from .report import report
from .runs import Run, read_runs
from .table import Row, Spread, SweepTable, tables, tabulate

__all__ = [
    "Row",
    "Run",
    "Spread",
    "SweepReport",
    "SweepTable",
    "finished_score",
    "lock_job_folder",
    "read_runs",
    "report",
    "sweep_job",
    "tables",
    "tabulate",
]
