"""Keys of `eval.py` that belong to one mode, and are refused in the others."""

from __future__ import annotations

from collections.abc import Iterator

from .problems import Problem, conflict
from .schema import EvalConfig
from .section import Section

__all__ = ["KEYS_OF_MODE", "mode_problems"]

KEYS_OF_MODE: dict[str, tuple[str, ...]] = {"explain": ("explain",), "predict": ("input", "predict")}
"""Keys and sections of the modes that have some of their own."""


def mode_problems(config: EvalConfig) -> list[Problem]:
    """Complaints about keys of another mode that were given a value."""
    problems = []
    for mode, names in KEYS_OF_MODE.items():
        if mode == config.mode:
            continue
        changed = [key for name in names for key in _changed(config, name)]
        if changed:
            why = f"mode={config.mode} does not use {'it' if len(changed) == 1 else 'them'}"
            problems.append(conflict(config, changed, why, f"leave it out, or take mode={mode}"))
    return problems


def _changed(config: EvalConfig, name: str) -> Iterator[str]:
    """Dotted keys below a key, or the key itself, that have another value than their default."""
    value = getattr(config, name)
    default = EvalConfig.model_fields[name].default
    if not isinstance(value, Section):
        if value != default:
            yield name
        return
    for key in type(value).model_fields:
        if getattr(value, key) != getattr(default, key):
            yield f"{name}.{key}"
