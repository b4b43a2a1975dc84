"""Files that record a run: config.yaml, metrics.json, the link to the latest run, and old runs to remove."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import subprocess
import sys
import uuid
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

import kanvision
from kanvision import plugins
from kanvision.config import live_owner
from kanvision.config.runtime.run_folder import is_finished
from kanvision.lazy import import_optional

__all__ = [
    "environment",
    "peak_memory_mb",
    "remove_old_runs",
    "update_latest_link",
    "write_config",
    "write_metrics",
]

PACKAGES = ("torch", "torchvision", "timm", "pytorch-lightning", "torchmetrics", "hydra-core")
PACKAGE = Path(__file__).resolve().parents[1]


def environment() -> dict[str, Any]:
    """Return what results depend on beside the configuration: commit, versions, machine."""
    return {
        "commit": _commit(),
        "versions": {
            "kanvision": kanvision.__version__,
            **{name: version(name) for name in PACKAGES},
            **plugins.versions(),
        },
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
    }


def _commit() -> str | None:
    """Return the commit of the code, marked +dirty if files outside docs/ differ from it.

    Outside a git checkout of kanvision it is the one that an installed package was built from, or the value
    of KANVISION_COMMIT, as in an image (docker/Dockerfile); else None. A checkout around an installed package
    is another project.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(PACKAGE), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() == PACKAGE.parents[1]:
            commit = git("rev-parse", "--short=12", "HEAD")
            code = (":(top)", ":(top,exclude)docs")  # new records in docs/results change no run
            changed = git("status", "--porcelain", "--untracked-files=no", "--", *code)
            return f"{commit}+dirty" if changed else commit
    except (OSError, subprocess.SubprocessError):
        pass
    built = PACKAGE / "commit.txt"  # setup.py writes it
    return (built.read_text("utf-8") if built.is_file() else "") or os.environ.get("KANVISION_COMMIT") or None


def peak_memory_mb() -> float | None:
    """Return the largest memory so far in MB: of tensors on a GPU, else of the process; None if unknown.

    The memory of a process is that of all runs in it, so a later job of a sweep has no number of its own.
    """
    global _num_runs
    _num_runs += 1
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return round(torch.cuda.max_memory_allocated() / 1e6, 1)
    resource = import_optional("resource")  # not on Windows
    if resource is None or _num_runs > 1:
        return None
    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6, 1)


_num_runs = 0


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write the resolved configuration as `config.yaml`."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))


def write_metrics(path: Path, record: Mapping[str, Any]) -> None:
    """Write results as json; NaN and infinity, which json does not have, become null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
    _write(path, json.dumps(finite, indent=2, allow_nan=False) + "\n")


def update_latest_link(root: Path, folder: Path) -> None:
    """Link `<root>/latest` to a run; warn where links are not allowed or the name is taken."""
    link = root / "latest"
    try:
        root.mkdir(parents=True, exist_ok=True)
        if link.exists() and not link.is_symlink():
            raise FileExistsError("it is a file or a folder of its own")
        # replaced in one step: jobs of a sweep that start together write the link at the same time
        draft = root / f".latest_{uuid.uuid4().hex}"
        draft.symlink_to(os.path.relpath(folder, root), target_is_directory=True)
        draft.replace(link)
    except OSError as error:
        warnings.warn(f"{link} does not point to {folder}: {error}", stacklevel=2)


def _write(path: Path, text: str) -> None:
    # replaced in one step, by a draft of this writer alone: a reader never sees part of a file
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        draft.write_text(text)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def remove_old_runs(folder: Path, keep: int) -> list[Path]:
    """Remove, and return, the oldest finished runs beside a run; `keep` finished ones are left with it.

    Only folders with a `config.yaml` and a `metrics.json`, which a run writes last, are removed: those of
    unfinished and of live runs stay, as do links and all other files.
    """
    others = [other for other in folder.parent.iterdir() if other.is_dir() and not other.is_symlink()]
    finished = [
        other
        for other in others
        if is_finished(other) and (other / "config.yaml").is_file() and not other.samefile(folder)
    ]
    finished = [other for other in finished if live_owner(other) is None]
    finished.sort(key=lambda other: (other / "metrics.json").stat().st_mtime)
    removed = finished[: max(0, len(finished) - (keep - 1))]
    for other in removed:
        shutil.rmtree(other)
    return removed
