"""Where results of an evaluation go, and what they say of the classes that were scored."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kanvision.checkpoints import CheckpointError, find_checkpoint
from kanvision.config import EvalConfig
from kanvision.data import ImageDataModule
from kanvision.tasks import Task

from .restore import run_folder

__all__ = ["classes_found", "classes_recorded", "results_folder"]

SCORED_DATA = ("limit_test", "on_bad_sample")
"""Keys of the data that change what is scored; the root has a name of its own."""


def results_folder(cfg: EvalConfig, path: Path, run: Any, kind: str) -> Path:
    """Return the folder of results of one kind: `cfg.output`, or one below the run's own.

    What differs from the run itself (another checkpoint than the run's best, other data, fewer images,
    another precision) is part of the folder's name, so that it does not overwrite the run's own results.

    Args:
        cfg: Says what is evaluated.
        path: The checkpoint.
        run: The run's own configuration, as plain dicts and lists.
        kind: Such as eval.
    """
    if cfg.output:
        return Path(cfg.output)
    return run_folder(path) / kind / "_".join(_differences(cfg, path, run))


def _differences(cfg: EvalConfig, path: Path, run: Any) -> Iterator[str]:
    """Return what differs from the run, as parts of a name."""
    try:
        is_usual = find_checkpoint(run_folder(path)).samefile(path)
    except CheckpointError:  # a folder of other files
        is_usual = len(list(path.parent.glob(f"*{path.suffix}"))) == 1
    if not is_usual:
        yield path.stem
    data, own = cfg.data, run.get("data", {})
    if data.root is not None and (
        own.get("root") is None or _resolve_path(data.root) != _resolve_path(own["root"])
    ):
        # The name says which data; the number tells folders of one name apart.
        name = re.sub(r"[^0-9A-Za-z.-]+", "_", _resolve_path(data.root).name)
        yield f"{name}_{zlib.crc32(str(_resolve_path(data.root)).encode()):08x}"
    for key in SCORED_DATA:
        if (value := getattr(data, key)) not in (None, own.get(key)):
            yield f"{key}_{value}"
    if cfg.trainer.precision not in (None, run.get("trainer", {}).get("precision")):
        yield str(cfg.trainer.precision)


def _resolve_path(root: str) -> Path:
    return Path(root).expanduser().resolve()


def classes_found(task: Task, datamodule: ImageDataModule) -> dict[str, str]:
    """Return a line about classes that are not those of the run one by one; nothing where they are."""
    known, there = task.class_names, datamodule.present_classes
    if not known:
        return {"classes": "not compared: the checkpoint is too old to hold their names; labels are trusted"}
    if there == known:
        return {}
    missing = len(set(known) - set(there))
    few = ", ".join(there[:10]) + (", ..." if len(there) > 10 else "")
    left = f"; predictions are over all {len(known)}" if missing else " by their names"
    return {"classes": f"{len(there)} of the {len(known)} that the network knows ({few}){left}"}


def classes_recorded(task: Task, datamodule: ImageDataModule) -> dict[str, Any]:
    """Return the same for a record: names of the classes that were scored; null where they are not known."""
    if not task.class_names:
        return {"classes": None}
    there = datamodule.present_classes
    return {} if there == task.class_names else {"classes": list(there)}
