"""Checkpoint files: search, integrity, safe loading, and weights for a network."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kanvision.layers import restore_structure
from kanvision.pretrained import find_pretrained, list_pretrained

from .weights import SUFFIX as WEIGHTS_SUFFIX
from .weights import read_weights

__all__ = [
    "CheckpointError",
    "extract_state_dict",
    "find_checkpoint",
    "find_snapshots",
    "load_checkpoint",
    "load_state_dict",
    "match_structure",
    "newest_sound_checkpoint",
    "read_progress",
    "require_resumable",
    "require_same_classes",
]


SUFFIX = ".ckpt"
NAMES = ("best.ckpt", "last.ckpt", "step.ckpt")
TASK_PREFIX = "model."  # prefix of the network in a task
NUM_SHOWN = 5
ARCHIVE = b"PK\x03\x04"
"""First bytes of a file that torch writes."""
OTHER = "take another checkpoint of the run"


class CheckpointError(ValueError):
    """A checkpoint is missing, broken, unsafe, or of another network."""


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint to the CPU; it may hold tensors and primitives only, and no code of it is run.

    Every part of the file is first compared with its checksum. Files of torch before version 1.6 have none.

    Raises:
        CheckpointError: The file is missing, empty, cut off, damaged, no checkpoint, or holds other objects.
    """
    return _load(Path(path), check=True)


class Progress(NamedTuple):
    """Training progress of a checkpoint, in an order from less to more."""

    epochs: int
    """Finished epochs."""
    batches: int
    """Batches of all epochs."""
    steps: int
    """Optimizer steps."""


NO_PROGRESS = Progress(-1, -1, -1)


def read_progress(checkpoint: Mapping[str, Any]) -> Progress:
    """Return the progress of a training checkpoint; `NO_PROGRESS` for weights only."""
    if "loops" not in checkpoint:
        return NO_PROGRESS
    loop = checkpoint["loops"]["fit_loop"]
    epochs, batches = loop["epoch_progress"]["current"], loop["epoch_loop.batch_progress"]["total"]
    return Progress(epochs["processed"], batches["processed"], checkpoint["global_step"])


def _load(path: Path, *, check: bool) -> dict[str, Any]:
    """Load a file after a check of its checksums, or map its tensors to memory without a check."""
    if path.suffix == WEIGHTS_SUFFIX and path.is_file():
        try:
            return read_weights(path)
        except ValueError as error:
            raise CheckpointError(f"{error}; {OTHER}") from None
    if not path.is_file():
        raise CheckpointError(f"{path}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    if path.stat().st_size == 0:
        raise CheckpointError(
            f"{path}: the file is empty; it was probably being written when the disk was full; {OTHER}"
        )
    try:
        if check:
            _check_members(path)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            # checkpoints of timm hold their options as a namespace, which runs no code
            with torch.serialization.safe_globals([argparse.Namespace]):
                mmap = not check and zipfile.is_zipfile(path)
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        # not chained: the message of torch recommends unsafe loading
        raise CheckpointError(_refusal(path, str(error))) from None
    # damage causes nearly any error: of the archive, of the pickle in it, of torch, of the memory
    except Exception as error:
        # messages of other errors are a number or a byte
        shown = isinstance(error, RuntimeError) and str(error)
        reason = str(error).splitlines()[0] if shown else "torch cannot read it"
        raise CheckpointError(f"{path}: the file is cut off or no checkpoint ({reason}); {OTHER}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a checkpoint, which is a dict")
    return content


def _check_members(path: Path) -> None:
    """Compare each part of an archive with its checksum, which `torch.load` does not do."""
    with path.open("rb") as file:
        is_archive = file.read(len(ARCHIVE)) == ARCHIVE
    if not is_archive and not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise CheckpointError(
            f"{path}: the file is damaged, {damaged!r} in it is not as it was written (CRC-32); {OTHER}"
        )


def load_state_dict(model: nn.Module, checkpoint: Mapping[str, Any]) -> None:
    """Load all weights of a checkpoint into a network, after changing its structure accordingly.

    Raises:
        CheckpointError: See `match_structure` and `extract_state_dict`.
    """
    match_structure(model, checkpoint)
    model.load_state_dict(extract_state_dict(model, checkpoint))


def match_structure(model: nn.Module, checkpoint: Mapping[str, Any]) -> None:
    """Repeat the changes of structure of a checkpoint, such as refined grids, in a network.

    Raises:
        CheckpointError: The changes do not fit the network.
    """
    changes = (checkpoint.get("kanvision") or {}).get("structure") or []
    try:
        restore_structure(model, changes)
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"the checkpoint's changes of structure do not fit the network: {error}"
        ) from error


def extract_state_dict(
    model: nn.Module, checkpoint: Mapping[str, Any], *, optional: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """Return the weights of a checkpoint under the names of a network; averages if the run averaged them.

    Args:
        model: The network.
        checkpoint: Checkpoint of a training run, or a state dict of the network.
        optional: Prefixes of names that may be missing, unexpected or of another shape; they are left out.

    Raises:
        CheckpointError: Names or shapes differ; the message lists them and the model of the checkpoint.
    """
    entries = checkpoint.get("state_dict", checkpoint)
    wanted = model.state_dict()
    # a network may have a submodule called `model`, so its own names come first
    own = any(name in wanted for name in entries)
    given = {
        (name if own else name.removeprefix(TASK_PREFIX)): value
        for name, value in entries.items()
        if isinstance(value, Tensor)
    }
    for name in [name for name in given if name.startswith(optional)]:
        if name not in wanted or given[name].shape != wanted[name].shape:
            del given[name]
    wanted = {name: value for name, value in wanted.items() if name in given or not name.startswith(optional)}
    shapes = [
        f"{name} {tuple(given[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in given and given[name].shape != tensor.shape
    ]
    lists = {
        "missing": [name for name in wanted if name not in given],
        "unexpected": [name for name in given if name not in wanted],
        "of another shape": shapes,
    }
    problems = [_shortened(title, names) for title, names in lists.items() if names]
    if problems:
        lines = ["the checkpoint's weights do not fit the network:", *problems, *_origin(checkpoint)]
        raise CheckpointError("\n  ".join(lines))
    return given


def require_resumable(checkpoint: Mapping[str, Any], path: str | Path, max_epochs: int) -> None:
    """Check that training can resume from a checkpoint.

    Args:
        checkpoint: Content of the file.
        path: The file, for the message.
        max_epochs: Number of epochs of the resumed training.

    Raises:
        CheckpointError: The checkpoint holds weights only, or its training is complete.
    """
    if "loops" not in checkpoint:
        raise CheckpointError(f"resume: {path} holds weights alone; legal are checkpoints of train.py")
    if (done := checkpoint["epoch"] + 1) > max_epochs:
        raise CheckpointError(
            f"resume: {path} has {done} epochs behind it, but trainer.max_epochs={max_epochs}; "
            f"legal: {done} or more"
        )


def require_same_classes(checkpoint: Mapping[str, Any], path: str | Path, names: Sequence[str]) -> None:
    """Refuse to go on with data whose classes are others, or in another order, than those of the checkpoint.

    Args:
        checkpoint: What is in the file; one that is too old to hold names is taken as it is.
        path: The file, for the message.
        names: Names of the classes of the data.

    Raises:
        CheckpointError: If they differ.
    """
    trained = (checkpoint.get("kanvision") or {}).get("class_names") or ()
    if not trained or list(trained) == list(names):
        return
    lost = [name for name in trained if name not in names]
    new = [name for name in names if name not in trained]
    parts = [f"{what} {', '.join(some)}" for what, some in (("without", lost), ("with", new)) if some]
    how = " and ".join(parts) or "in another order"
    raise CheckpointError(
        f"resume: {path} was trained on other classes; the data are now {how}. To train on these: "
        "finetune.init_from=<that run> with a new run.dir"
    )


def find_checkpoint(path_or_run: str | Path, *, runs_root: str | Path = "runs") -> Path:
    """Return the file that a file, a run's folder, `latest` or the name of weights in the package means.

    Args:
        path_or_run: A file; a run's folder (or its `checkpoints`): the best checkpoint, or else the last one;
            latest: the newest run under `runs_root`; a name of `kanvision.list_pretrained`.
        runs_root: Folder of all runs.

    Raises:
        CheckpointError: If there is nothing of the kind.
    """
    path = Path(path_or_run)
    if str(path_or_run) == "latest" and not path.exists():
        found = _newest_first(Path(runs_root))
        if not found:
            raise CheckpointError(f"ckpt=latest: no checkpoint below {Path(runs_root).resolve()}")
        path = found[0].parent
    if str(path_or_run) in list_pretrained() and not path.exists():
        return _checked_file(str(path_or_run))
    if path.is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(f"ckpt={path_or_run}: no such file or folder")
    for name in NAMES:
        for candidate in (path / name, path / "checkpoints" / name):
            if candidate.is_file():
                return candidate
    there = ", ".join(str(p) for p in _newest_first(path)[:NUM_SHOWN]) or "none"
    raise CheckpointError(
        f"ckpt={path_or_run}: neither {' nor '.join(NAMES)} in this folder; checkpoints below: {there}"
    )


def _checked_file(name: str) -> Path:
    weights = find_pretrained(name)
    try:
        weights.check()
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    return weights.file


def newest_sound_checkpoint(folder: str | Path) -> Path | None:
    """Return the checkpoint of a run folder with the most progress that can be loaded.

    The order is that of the progress in the files, because copying changes file times; of equal progress,
    `last.ckpt` comes first. Each file that cannot be loaded and might be newer causes a warning.

    Args:
        folder: Run folder, or its folder `checkpoints`.

    Returns:
        The file, or None if no file can be loaded.
    """
    found = []
    for path in _checkpoints_of_run(Path(folder)):
        try:
            found.append((read_progress(_load(path, check=False)), path.name == NAMES[1], path))
        except CheckpointError as error:
            warnings.warn(f"Skipping an unreadable checkpoint: {error}", stacklevel=2)
    for *_, path in sorted(found, reverse=True):
        try:
            load_checkpoint(path)
        except CheckpointError as error:
            warnings.warn(f"Skipping an unreadable checkpoint: {error}", stacklevel=2)
        else:
            return path
    return None


def _checkpoints_of_run(folder: Path) -> list[Path]:
    files = [*folder.glob(f"*{SUFFIX}"), *folder.glob(f"checkpoints/*{SUFFIX}")]
    return [path for path in files if path.is_file() and not path.is_symlink()]


def _newest_first(folder: Path) -> list[Path]:
    """Return the checkpoints below a folder, newest first, without links; of equal times, `last` first."""
    files = [path for path in folder.rglob(f"*{SUFFIX}") if path.is_file() and not path.is_symlink()]
    return sorted(files, key=lambda p: (p.stat().st_mtime_ns, p.name == NAMES[1]), reverse=True)


def _refusal(path: Path, message: str) -> str:
    # a name of its own module, as in `GLOBAL eval`, has no dot
    found = re.findall(r"\bGLOBAL ([\w.]+)|\bclass (\w+(?:\.\w+)+)", message)
    objects = [name for names in found for name in names if name]
    if not objects:
        return f"{path}: not a checkpoint of torch, or a damaged one; nothing of it was run"
    return (
        f"{path}: refused, for it holds Python objects ({', '.join(dict.fromkeys(objects))}) beside tensors "
        "and primitives, and loading those can run any code; nothing of it was run. If you trust its author, "
        "save the bare weights with the software that wrote it: torch.save(model.state_dict(), ...)"
    )


def _shortened(title: str, names: list[str]) -> str:
    more = f", and {len(names) - NUM_SHOWN} more" if len(names) > NUM_SHOWN else ""
    return f"{len(names)} {title}: {', '.join(names[:NUM_SHOWN])}{more}"


def _origin(checkpoint: Mapping[str, Any]) -> list[str]:
    config = (checkpoint.get("kanvision") or {}).get("config") or {}
    model = config.get("model")
    if not isinstance(model, Mapping):
        return []
    return ["made with " + " ".join(f"model.{key}={value}" for key, value in model.items())]


SNAPSHOT = re.compile(rf"epoch_(\d+){re.escape(SUFFIX)}")


def find_snapshots(source: str | Path) -> dict[int, Path]:
    """Return checkpoints by their number of finished epochs, in ascending order.

    The name of a file of `callbacks=snapshots` has the number; other checkpoints contain it. Of several with
    the same number, the snapshot is returned, or else the last one.

    Args:
        source: Folder of checkpoints, or one file.

    Raises:
        CheckpointError: A file cannot be loaded, or is not of a training run.
    """
    source = Path(source)
    files = [source] if source.is_file() else sorted(source.glob(f"*{SUFFIX}"))
    named = {int(match[1]): path for path in files if (match := SNAPSHOT.fullmatch(path.name))}
    others = files if source.is_file() else [source / f"{name}{SUFFIX}" for name in ("best", "last")]
    found = {_epochs(path): path for path in others if path.is_file() and path not in named.values()}
    return dict(sorted((found | named).items()))


def _epochs(path: Path) -> int:
    epoch = load_checkpoint(path).get("epoch")
    if epoch is None:
        raise CheckpointError(f"{path}: does not say after how many epochs it was written")
    return int(epoch) + 1
