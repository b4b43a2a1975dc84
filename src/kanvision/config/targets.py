"""What a configuration may call: `_target_` names code, and files of configurations come from anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .problems import Problem
from .schema import TrainConfig

__all__ = ["ALLOWED_TARGETS", "hydra_targets", "run_targets"]

ALLOWED_TARGETS = (
    "kanvision.",
    "torch.",
    "timm.",
    "segmentation_models_pytorch.",
    "torchmetrics.",
    "pytorch_lightning.",
    "albumentations.",
)
"""Packages whose classes callbacks and loggers, and their arguments, may be.

A name can still lead out of them (`torch.os.system`), so whoever builds the object looks at its class."""

HYDRA_TARGETS = (
    "hydra._internal.core_plugins.",
    "hydra.experimental.callbacks.",
    "hydra_plugins.",
    "kanvision.config.FolderLocks",
    "kanvision.sweep.SweepReport",
)
"""What Hydra builds before a run starts: launchers, sweepers, its callbacks."""


def run_targets(config: TrainConfig) -> Iterator[Problem]:
    """Complaints about the run's own section."""
    return _illegal(config.model_dump(), "", ALLOWED_TARGETS)


def hydra_targets(hydra: Any) -> Iterator[Problem]:
    """Complaints about Hydra's section, as plain dicts and lists; logging has factories of its own, `()`."""
    return _illegal(hydra, "hydra", HYDRA_TARGETS)


def _illegal(node: Any, key: str, legal: tuple[str, ...]) -> Iterator[Problem]:
    if isinstance(node, list | tuple):
        node = {str(place): item for place, item in enumerate(node)}
    if not isinstance(node, Mapping):
        return
    for name, value in node.items():
        place = f"{key}.{name}" if key else str(name)
        if name in ("_target_", "()") and not str(value).startswith(legal):
            why = "a configuration may only call what belongs to a known package"
            yield Problem((place,), (f"{place}={value}",), why, f"legal beginnings: {', '.join(legal)}")
        yield from _illegal(value, place, legal)
