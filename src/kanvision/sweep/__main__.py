"""`python -m kanvision.sweep <folder>`: table of any folder of runs, also of an unfinished sweep."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .report import report


def main(argv: Sequence[str] | None = None, prog: str = "python -m kanvision.sweep") -> int:
    """Print and write the table; return 1 if a run has failed, 2 if there is no run or writing fails."""
    parser = argparse.ArgumentParser(prog=prog, description="Table of a folder of runs.")
    parser.add_argument("folder", type=Path, help="runs/sweeps/<id>, or any folder with runs in it")
    folder = parser.parse_args(argv).folder
    try:
        failures = [failure for table in report(folder) for failure in table.failures]
        return 1 if any(failure.is_finished for failure in failures) else 0
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
