"""One table of measurements: csv and markdown with machine, versions and commit."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch

import kanvision

from .cases import Case
from .measure import Measured, spread

__all__ = ["RATIOS", "describe_run", "list_rows", "write_table"]

_MIB = 2**20
RATIOS = ("kanvision / this, step", "kanvision / this, forward")


def list_rows(case: Case, measured: Mapping[str, Measured], is_cuda: bool) -> list[dict[str, Any]]:
    """Return a row for each contender of a case.

    A ratio is the median of those of each turn, in processor time, or in wall time on a GPU.
    """
    first, rows = next(iter(measured.values())), []
    clock = "wall" if is_cuda else "cpu"
    for contender, found in measured.items():
        row: dict[str, Any] = {"case": case.name, "shape": "x".join(map(str, case.shape))}
        row |= {"contender": contender, "parameters": found.parameters}
        for part in ("step", "forward"):
            for name, times in getattr(found, part)._asdict().items():
                low, middle, high = spread(times)
                row |= {f"{part} {name} ms": middle, f"{part} {name} q1": low, f"{part} {name} q3": high}
        for key, part in zip(RATIOS, ("step", "forward"), strict=True):
            ours, this = (getattr(getattr(each, part), clock) for each in (first, found))
            row[key] = median(a / b for a, b in zip(ours, this, strict=True))
        row |= {"kept MiB": found.kept_bytes / _MIB, "peak MiB": found.peak_bytes / _MIB}
        rows.append(row | {"first step ms": found.first_step})
    return rows


def describe_run(**facts: Any) -> dict[str, str]:
    """Return machine, versions, commit and settings for the header of a table."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _find_commit(),
        "machine": _find_machine(),
        "cores": f"{os.cpu_count()}, load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "",
        "versions": f"kanvision {kanvision.__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}",
        "command": " ".join(["python -m", _find_module(), *sys.argv[1:]]),
        **{key: str(value) for key, value in facts.items()},
    }


def _find_module() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return "benchmarks" if spec is None else spec.name.removesuffix(".__main__")


def _find_machine() -> str:
    """Return the name of the processor, and of the GPU if there is one."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line for line in info.read_text("utf-8").splitlines() if line.startswith("model name")]
        cpu = names[0].partition(": ")[2] if names else cpu
    return f"{cpu}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else cpu


def _find_commit() -> str:
    """Return the commit, with a mark if tracked files differ from it."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write_table(path: Path, facts: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write `path`.csv with all numbers, and `path`.md with medians and the quartiles of a step."""
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        file.writelines(f"# {key}: {value}\n" for key, value in facts.items())
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    lines = [f"- {key}: {value}" for key, value in facts.items()]
    columns = [key for key in rows[0] if not key.endswith((" q1", " q3"))]
    lines += ["", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = [_format(row[key]) for key in columns]
        place = columns.index("step cpu ms")
        cells[place] += f" [{_format(row['step cpu q1'])}, {_format(row['step cpu q3'])}]"
        lines.append(f"| {' | '.join(cells)} |")
    path.with_suffix(".md").write_text("\n".join(lines) + "\n", "utf-8")


def _format(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
