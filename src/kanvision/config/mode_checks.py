"""Keys of `eval.py` that belong to one mode, and are refused in the others."""

from __future__ import annotations

from collections.abc import Iterator

from .problems import Problem, conflict
from .schema import EvalConfig
from .section import Section

__all__ = ["KEYS_OF_MODE", "changed_keys", "mode_problems", "unused"]

KEYS_OF_MODE: dict[str, tuple[str, ...]] = {
    "explain": ("explain",),
    "predict": ("input", "predict"),
    "analyse": ("analysis", "analyse"),
    "check_data": ("check",),
}
"""Keys and sections of the modes that have some of their own."""


def mode_problems(config: EvalConfig) -> list[Problem]:
    """Complaints about keys of another mode that were given a value."""
    problems = []
    default = EvalConfig(ckpt=config.ckpt)
    for mode, names in KEYS_OF_MODE.items():
        keys = [key for name in names for key in changed_keys(config, default, name)]
        if keys and mode != config.mode:
            problems.append(unused(config, keys, f"mode={config.mode}", f"mode={mode}"))
    return problems


def unused(config: EvalConfig, keys: list[str], here: str, there: str) -> Problem:
    """The complaint about keys that do nothing with one setting, but with another."""
    why = f"{here} does not use {'it' if len(keys) == 1 else 'them'}"
    return conflict(config, keys, why, f"leave it out, or take {there}")


def changed_keys(given: Section, default: Section, name: str, prefix: str = "") -> Iterator[str]:
    """Dotted keys below a key, or the key itself, that have another value than their default."""
    value, usual = getattr(given, name), getattr(default, name)
    if isinstance(value, Section):
        for key in type(value).model_fields:
            yield from changed_keys(value, usual, key, f"{prefix}{name}.")
    elif value != usual:
        yield f"{prefix}{name}"
