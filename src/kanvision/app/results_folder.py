"""Folders of the results of an evaluation."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kanvision.checkpoints import CheckpointError, find_checkpoint
from kanvision.config import EvalConfig
from kanvision.pretrained import FOLDER as PRETRAINED

__all__ = ["results_folder", "run_folder"]

SCORED_DATA = ("limit_test", "on_bad_sample")
"""Keys of the data, beside the root, that change what is scored."""


def run_folder(path: Path) -> Path:
    """Return the folder of the run that a checkpoint belongs to, or the checkpoint's own folder.

    Results of weights in the package are below the current folder, in runs/<name>.
    """
    if path.is_relative_to(PRETRAINED):
        return Path("runs", path.parent.name)
    return path.parent.parent if path.parent.name == "checkpoints" else path.parent


def results_folder(cfg: EvalConfig, path: Path, train_config: Any, kind: str) -> Path:
    """Return the folder of results of one kind: `cfg.output`, or one below the run's own.

    Differences from the run itself (another checkpoint than the run's best, other data, fewer images, another
    precision) are part of the folder's name, so that the run's own results are not overwritten.
    """
    if cfg.output:
        return Path(cfg.output)
    return run_folder(path) / kind / "_".join(_differences(cfg, path, train_config))


def _differences(cfg: EvalConfig, path: Path, train_config: Any) -> Iterator[str]:
    """Yield the differences from the run, as parts of a name."""
    try:
        is_best = find_checkpoint(run_folder(path)).samefile(path)
    except CheckpointError:  # a folder of other files
        is_best = len(list(path.parent.glob(f"*{path.suffix}"))) == 1
    if not is_best:
        yield path.stem
    data, own = cfg.data, train_config.get("data", {})
    if data.root is not None:
        root = _resolve_path(data.root)
        if own.get("root") is None or root != _resolve_path(own["root"]):
            # with a checksum, since several folders may have one name
            name = re.sub(r"[^0-9A-Za-z.-]+", "_", root.name)
            yield f"{name}_{zlib.crc32(str(root).encode()):08x}"
    for key in SCORED_DATA:
        if (value := getattr(data, key)) not in (None, own.get(key)):
            yield f"{key}_{value}"
    if cfg.trainer.precision not in (None, train_config.get("trainer", {}).get("precision")):
        yield str(cfg.trainer.precision)


def _resolve_path(root: str) -> Path:
    return Path(root).expanduser().resolve()
