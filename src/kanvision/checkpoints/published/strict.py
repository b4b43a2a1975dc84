"""Strict comparison of published tensors with an architecture: all differences in one message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import load_file
from torch import Tensor

from kanvision.checkpoints.io import CheckpointError, load_checkpoint

__all__ = ["Problems", "Shape", "Tensors", "below", "most_voted", "only", "read_tensors"]

Shape = tuple[int, ...]
Tensors = Mapping[str, Tensor]
Value = TypeVar("Value")

# keys of the weights in checkpoints of training programs; averages come first
_NESTS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model")
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_WRAPPERS = ("module.", "_orig_mod.")  # of distributed training, of the compiler


def read_tensors(source: str | Path | Mapping[str, Any]) -> dict[str, Tensor]:
    """Return tensors by name from a file (safetensors or torch), a folder with one, or a mapping.

    No code of a file is run. Prefixes of distributed training and of the compiler are removed.

    Raises:
        CheckpointError: There is no such file, it is damaged or unsafe, or holds no tensors.
    """
    content = source if isinstance(source, Mapping) else _read_file(Path(source))
    for nest in _NESTS:
        inner = content.get(nest)
        if (
            isinstance(inner, Mapping)
            and inner
            and all(isinstance(value, Tensor) for value in inner.values())
        ):
            content = inner
            break
    strangers = [
        f"{name} ({type(value).__name__})" for name, value in content.items() if not _is_entry(name, value)
    ]
    if strangers:
        raise CheckpointError(f"the state dict holds more than named tensors: {', '.join(strangers)}")
    if not content:
        raise CheckpointError("the state dict is empty")
    tensors = dict(content)
    for wrapper in _WRAPPERS:
        if all(name.startswith(wrapper) for name in tensors):
            tensors = {name.removeprefix(wrapper): value for name, value in tensors.items()}
    return tensors


def _is_entry(name: Any, value: Any) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor)


def _read_file(path: Path) -> Mapping[str, Any]:
    if path.is_dir():
        found = [path / name for name in _WEIGHT_FILES if (path / name).is_file()]
        if not found:
            raise CheckpointError(f"{path}: a folder with neither {' nor '.join(_WEIGHT_FILES)} in it")
        path = found[0]
    if path.suffix != ".safetensors":
        return load_checkpoint(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        return load_file(path)
    except Exception as error:  # SafetensorError, OSError, KeyError of an unknown dtype
        raise CheckpointError(f"{path}: the file is cut off or not of safetensors ({error})") from error


class Problems:
    """Names that are missing, unexpected or of another shape, collected over all parts of a network."""

    def __init__(self) -> None:
        self.missing: list[str] = []
        self.unexpected: list[str] = []
        self.misshapen: list[str] = []
        self.others: list[str] = []

    def compare(self, found: Mapping[str, Tensor], wanted: Mapping[str, Shape], prefix: str = "") -> None:
        """Add the differences between the tensors of a part and its expected shapes, named with a prefix."""
        self.missing += [prefix + name for name in wanted if name not in found]
        self.unexpected += [prefix + name for name in found if name not in wanted]
        self.misshapen += [
            f"{prefix}{name} {tuple(found[name].shape)}, not {tuple(shape)}"
            for name, shape in wanted.items()
            if name in found and tuple(found[name].shape) != tuple(shape)
        ]

    def raise_if_any(self, what: str) -> None:
        """Raise one error for all problems, if there are any.

        Args:
            what: Name of the architecture, for the message.

        Raises:
            CheckpointError: There are problems.
        """
        lists = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "of another shape": self.misshapen,
        }
        lines = [f"{len(names)} {title}: {', '.join(names)}" for title, names in lists.items() if names]
        lines += self.others
        if lines:
            raise CheckpointError("\n  ".join([f"the published weights do not fit {what}:", *lines]))


def below(found: Tensors, prefix: str) -> dict[str, Tensor]:
    """Return the tensors below a prefix, without the prefix."""
    return {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}


def most_voted(what: str, votes: Iterable[Value]) -> Value:
    """Return the value of most tensors, so that a single wrong shape is the one that is reported.

    Raises:
        CheckpointError: There is no value.
    """
    counts = Counter(votes)
    if not counts:
        raise CheckpointError(f"the published weights do not tell {what}: all tensors that do are missing")
    return counts.most_common(1)[0][0]


def only(options: Mapping[str, Any], legal: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return options with defaults for those that are not given.

    Raises:
        ValueError: An option is unknown.
    """
    unknown = [f"{name}={value!r}" for name, value in options.items() if name not in legal]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: {what} has the options {', '.join(legal) or 'none'}")
    return {**legal, **options}
