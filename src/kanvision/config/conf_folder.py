"""Folder of the configuration files: `conf/` of a checkout, or its copy in an installed package."""

from __future__ import annotations

from pathlib import Path

__all__ = ["CONF"]

_PACKAGE = Path(__file__).resolve().parents[1]
CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parents[1] / "conf"
"""Folder with train.yaml and eval.yaml."""
