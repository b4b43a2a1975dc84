"""Values from the environment, `${oc.env:NAME}`, some of which are secrets that a run must not record.

Paths, numbers and words of the schema are resolved and recorded. Callbacks and loggers keep the reference,
also in the recorded configuration, and resolve it when the object is built. Other keys refuse a reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from .errors import Problem
from .schema.base import Section
from .schema.keys import keys_by_name

__all__ = ["environment_problems", "is_kept_reference", "references", "without_values"]

PATHS = frozenset(
    {
        *("data.root", "data.split_file", "data.palette"),
        *("data.train_shards", "data.val_shards", "data.test_shards"),
        *("model.init_from", "model.teacher", "finetune.init_from", "resume"),
        *("run.root", "run.name", "run.dir"),
        *("ckpt", "input", "output", "run_root", "analyze.transfer.root"),
    }
)
"""Keys that hold a file or folder."""
OBJECTS = ("callbacks", "logger")
"""Sections of objects that the run itself builds."""
_ALONE = re.compile(r"[^$]*\$\{oc\.env:\w+\}[^$]*")


def is_kept_reference(key: str, raw: Any) -> bool:
    """Return True if the value of a key stays a reference to a variable until its object is built."""
    in_object = key.partition(".")[0] in OBJECTS
    return in_object and isinstance(raw, str) and _ALONE.fullmatch(raw) is not None


def environment_problems(cfg: DictConfig, root: type[Section]) -> Iterator[Problem]:
    """Yield the problems of variables of the environment in keys whose values may be secrets."""
    index = keys_by_name(root)
    for key, raw in references(cfg).items():
        if is_kept_reference(key, raw):
            continue
        fix = "set the value itself; loggers read their keys from the environment"
        if key.partition(".")[0] in OBJECTS:
            why = "a value in callbacks and loggers may hold one variable of the environment"
            yield Problem((key,), (f"{key}={raw}",), why, "split the value")
            continue
        schema_key = re.sub(r"\[\d+\]", "", key)
        kinds = [entry.expected for entry in index.get(schema_key, ())]
        if schema_key not in PATHS and (
            not kinds or any(re.search("text|section|anything", k) for k in kinds)
        ):
            why = (
                "the value of the variable would be written to config.yaml and every checkpoint in plain text"
            )
            yield Problem((key,), (f"{key}={raw}",), why, fix)


def without_values(problem: Problem, cfg: DictConfig) -> Problem:
    """Return a problem that shows references to variables instead of their values."""
    raw = references(cfg)
    pairs = zip(problem.keys, problem.given, strict=True)
    return problem.typed_as(*(f"{key}={raw[key]}" if key in raw else given for key, given in pairs))


def references(cfg: DictConfig) -> dict[str, str]:
    """Return the references of a configuration to variables of the environment, by dotted keys."""
    return dict(_references(OmegaConf.to_container(cfg, resolve=False), ""))


def _references(node: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _references(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _references(value, f"{key}[{index}]")
    elif isinstance(node, str) and "oc.env" in node:
        yield key, node
