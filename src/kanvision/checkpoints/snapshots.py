"""The checkpoints of a run as stations of its training."""

from __future__ import annotations

import re
from pathlib import Path

from .io import SUFFIX, CheckpointError, load_checkpoint

__all__ = ["find_snapshots"]

SNAPSHOT = re.compile(rf"epoch_(\d+){re.escape(SUFFIX)}")


def find_snapshots(place: str | Path) -> dict[int, Path]:
    """Checkpoints by the number of epochs behind them, in order.

    Those of `callbacks=snapshots` tell it by their name, best and last by what is in them. Of several with
    the same number the snapshot counts, or else the last.

    Args:
        place: A folder of checkpoints, or one file.

    Raises:
        CheckpointError: A file cannot be loaded, or is none of a training run.
    """
    place = Path(place)
    files = [place] if place.is_file() else sorted(place.glob(f"*{SUFFIX}"))
    named = {int(match[1]): path for path in files if (match := SNAPSHOT.fullmatch(path.name))}
    others = files if place.is_file() else [place / f"{name}{SUFFIX}" for name in ("best", "last")]
    found = {_epochs(path): path for path in others if path.is_file() and path not in named.values()}
    return dict(sorted((found | named).items()))


def _epochs(path: Path) -> int:
    epoch = load_checkpoint(path).get("epoch")
    if epoch is None:
        raise CheckpointError(f"{path}: does not say after how many epochs it was written")
    return int(epoch) + 1
