"""Many runs as one table: what varies between them, their results over seeds, and the runs that failed.

`python -m kanvision.sweep <folder>` makes the table of any folder of runs; a sweep (`train.py -m`) makes its
own when it ends. Nothing here imports torch.
"""

from .callback import SweepReport
from .job import finished_score, lock_job_folder, sweep_job
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
