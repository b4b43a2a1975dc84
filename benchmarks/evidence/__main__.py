"""Command line: `python -m benchmarks.evidence`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import benchmarks.evidence

from .ledger import Ledger
from .plan import REPOSITORY, Plan
from .queue import Queue


def main() -> int:
    """Run the command; return 1 if a run failed or a check is not passed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence",
        description=benchmarks.evidence.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--hours", type=float, default=2.0, help="time for runs (default: 2)")
    parser.add_argument("--processes", type=int, default=2, help="runs at a time (default: 2)")
    parser.add_argument("--table", action="append", default=[], help="work on this table only; repeatable")
    parser.add_argument("--runs", type=Path, default=Path("runs/evidence"), help="folder of the runs")
    args = parser.parse_args()
    plan = Plan.load()
    if unknown := [name for name in args.table if name not in plan.tables]:
        parser.error(f"--table {unknown[0]}: expected one of {', '.join(plan.tables)}")
    queue = Queue(plan, Ledger(REPOSITORY / "docs" / "results"), args.runs.resolve())
    queue.work(args.hours, args.processes, args.table)
    return 1 if queue.failed else 0


if __name__ == "__main__":
    sys.exit(main())
