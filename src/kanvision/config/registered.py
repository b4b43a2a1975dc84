"""Names that timm registers, read from its source text, because importing timm takes seconds."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

__all__ = ["timm_models", "timm_optimizers"]

_MODEL = re.compile(r"^@register_model\s+def (\w+)", re.MULTILINE)
_RENAMED = re.compile(r"register_model_deprecations\(__name__, \{(.*?)\}\)", re.DOTALL)
_KEY = re.compile(r"""['"]([\w.]+)['"]\s*:""")
# More words than optimisers, on purpose: some names are put together from a table.
_OPTIMIZER = re.compile(r"""['"](\w+)['"]""")


@cache
def timm_models() -> frozenset[str]:
    """Model names without tags, old ones included; empty when timm's files are not where we look."""
    names: set[str] = set()
    for text in _texts("timm/models/*.py"):
        names.update(_MODEL.findall(text))
        for block in _RENAMED.findall(text):
            names.update(key.partition(".")[0] for key in _KEY.findall(block))
    return frozenset(names)


@cache
def timm_optimizers() -> frozenset[str]:
    """Optimiser names; empty when timm's files are not where we look."""
    return frozenset(
        name for text in _texts("timm/optim/_optim_factory.py") for name in _OPTIMIZER.findall(text)
    )


def _texts(pattern: str) -> list[str]:
    try:
        folder = Path(str(distribution("timm").locate_file("")))
    except PackageNotFoundError:
        return []
    return [path.read_text("utf-8") for path in folder.glob(pattern)]
