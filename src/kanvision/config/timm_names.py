"""Names that timm registers, read from its source text, because importing timm takes seconds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from .schema.base import ModelConfig
from .schema.keys import section_types, tag_values
from .schema.root import TrainConfig

__all__ = ["OWN_PREFIXES", "is_own", "timm_models"]


def _own_prefixes() -> Iterator[str]:
    for family in section_types(TrainConfig.model_fields["model"].annotation):
        assert issubclass(family, ModelConfig)
        prefixes = family.registered_prefixes
        yield from tag_values(family) if prefixes is None else prefixes


OWN_PREFIXES = tuple(_own_prefixes())
"""Starts of the names that kanvision adds to timm's registry."""

_MODEL = re.compile(r"^@register_model\s+def (\w+)", re.MULTILINE)
_RENAMED = re.compile(r"register_model_deprecations\(__name__, \{(.*?)\}\)", re.DOTALL)
_KEY = re.compile(r"""['"]([\w.]+)['"]\s*:""")


def is_own(name: str) -> bool:
    """Return True if a name, with or without a tag, belongs to a model of kanvision."""
    return any(name.startswith(f"{prefix}_") for prefix in OWN_PREFIXES)


@cache
def timm_models() -> frozenset[str]:
    """Return timm's model names without tags, with deprecated names; empty if its files are not found."""
    names: set[str] = set()
    for text in _texts("timm/models/*.py"):
        names.update(_MODEL.findall(text))
        for block in _RENAMED.findall(text):
            names.update(key.partition(".")[0] for key in _KEY.findall(block))
    return frozenset(names)


def _texts(pattern: str) -> list[str]:
    try:
        folder = Path(str(distribution("timm").locate_file("")))
    except PackageNotFoundError:
        return []
    return [path.read_text("utf-8") for path in folder.glob(pattern)]
