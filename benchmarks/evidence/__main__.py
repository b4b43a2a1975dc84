"""Command line: `python -m benchmarks.evidence`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import benchmarks.evidence

from .check import check_row
from .costs import print_plan
from .ledger import Ledger
from .pages import write_pages
from .plan import REPOSITORY, Plan
from .queue import Queue


def main() -> int:
    """Run the command; return 1 if a run failed or a check was not passed."""
    args = _parse_arguments()
    if args.pages:
        print("\n".join(write_pages()) or "all pages agree with the records")
        return 0
    plan = Plan.load()
    if unknown := [name for name in args.table if name not in plan.tables]:
        sys.exit(f"--table {unknown[0]}: expected one of {', '.join(plan.tables)}")
    queue = Queue(plan, Ledger(REPOSITORY / "docs" / "results"), args.runs.resolve())
    if args.plan:
        print_plan(queue, args.processes, args.table)
        return 0
    if args.check is not None:
        table, _, row = args.check.partition("/")
        if table not in plan.tables or row not in plan.rows(table):
            sys.exit(f"--check {args.check}: expected <table>/<row> of docs/results/plan.yaml")
        return 0 if check_row(queue, table, row, args.seed) else 1
    queue.work(args.hours, args.processes, args.table)
    return 1 if queue.failed else 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence",
        description=benchmarks.evidence.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--hours", type=float, default=2.0, help="time for runs (default: 2)")
    parser.add_argument("--processes", type=int, default=2, help="runs at a time (default: 2)")
    parser.add_argument("--table", action="append", default=[], help="work on this table only; repeatable")
    parser.add_argument("--runs", type=Path, default=Path("runs/evidence"), help="folder of the runs")
    parser.add_argument("--plan", action="store_true", help="list what is missing, with hours, and stop")
    parser.add_argument("--check", metavar="TABLE/ROW", help="run one seed of a row again, and compare it")
    parser.add_argument("--seed", type=int, help="seed for --check (default: the first recorded one)")
    parser.add_argument("--pages", action="store_true", help="write the pages from the records, and stop")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
