"""`python -m kanvision.sweep <folder>`: table of any folder of runs, also of an unfinished sweep."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .report import report


def main() -> int:
    """Print and write the table; return 1 if a run has failed, 2 if there is no run or writing fails."""
    parser = argparse.ArgumentParser(prog="python -m kanvision.sweep", description=__doc__)
    parser.add_argument("folder", type=Path, help="runs/sweeps/<id>, or any folder with runs in it")
    folder = parser.parse_args().folder
    try:
        return 1 if any(table.failures for table in report(folder)) else 0
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
