"""Names that timm registers, read from its source text, because importing timm takes seconds."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

__all__ = ["OWN_MODELS", "is_own", "timm_models"]

OWN_MODELS = (
    "attention_unet_*",
    "conv_kan_*",
    "conv_mlp_*",
    "convkan_*",
    "dense_kan_*",
    "kan_unet_*",
    "kanc_mlp_*",
    "karat_*",
    "kat_*",
    "kkan_*",
    "nested_unet_*",
    "rd_kan_*",
    "res_kan_*",
    "rolling_unet_*",
    "u2_kan_*",
    "u_mamba_*",
    "ukan_*",
    "unet_*",
    "unext_*",
    "vgg_kan_*",
    "vit_micro_*",
)
"""Names that kanvision adds to timm's registry, as wildcard patterns."""

_MODEL = re.compile(r"^@register_model\s+def (\w+)", re.MULTILINE)
_RENAMED = re.compile(r"register_model_deprecations\(__name__, \{(.*?)\}\)", re.DOTALL)
_KEY = re.compile(r"""['"]([\w.]+)['"]\s*:""")


def is_own(name: str) -> bool:
    """Whether a model of this name, with or without a tag, would be one of kanvision's."""
    return any(fnmatch(name, pattern) for pattern in OWN_MODELS)


@cache
def timm_models() -> frozenset[str]:
    """Model names without tags, old ones included; empty when timm's files are not where we look."""
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
