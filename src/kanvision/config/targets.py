"""Classes that a configuration may name (`_target_`), so that a file from elsewhere cannot run other code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kanvision.plugins import prefixes

from .errors import Problem
from .nested import walk
from .schema.keys import format_yaml
from .schema.root import TrainConfig

__all__ = ["ALLOWED_TARGETS", "allowed_targets", "foreign_targets", "hydra_problems", "override_problems"]

ALLOWED_TARGETS = (
    "kanvision.",
    "torch.",
    "timm.",
    "segmentation_models_pytorch.",
    "torchmetrics.",
    "pytorch_lightning.",
    "albumentations.",
)
"""Packages whose classes callbacks, loggers and their arguments may be.

A name can still refer to another package (`torch.os.system`), so the class is checked when it is built."""

HYDRA_TARGETS = (
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
    "hydra.experimental.callbacks.LogJobReturnCallback",
    "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    "kanvision.config.FolderLocks",
    "kanvision.sweep.SweepReport",
    "optuna.samplers.CmaEsSampler",
    "optuna.samplers.GridSampler",
    "optuna.samplers.MOTPESampler",
    "optuna.samplers.NSGAIISampler",
    "optuna.samplers.RandomSampler",
    "optuna.samplers.TPESampler",
)
"""Full names of the classes that Hydra may build before a run starts."""

LOGGING_TARGETS = ("logging.", "colorlog.")
"""Beginnings of the classes of log handlers and formatters."""

REFERENCES = re.compile(
    r"\$\{(seed|run\.\w+|hydra\.sweep\.dir|hydra\.job\.\w+|hydra\.runtime\.(output_dir|cwd))\}"
)
"""Values that Hydra's own section may refer to: texts and numbers, never a section with a class."""

BUILT = ("callbacks", "launcher", "sweeper", "job_logging", "hydra_logging", "job", "searchpath")
"""Keys of Hydra's section from which it builds objects or loads code."""

COMMANDS = ("setup", "python", "srun_args", "additional_parameters")
"""Keys of a launcher that hold shell commands."""


def foreign_targets(config: TrainConfig) -> list[str]:
    """Return the dotted keys of classes in a training configuration that belong to no known package."""
    targets = _targets(config.model_dump(), "", ("_target_", "()"))
    return [key for key, target in targets if not target.startswith(allowed_targets())]


def allowed_targets() -> tuple[str, ...]:
    """Return `ALLOWED_TARGETS` and the packages of imported plugins."""
    return (*ALLOWED_TARGETS, *prefixes())


def hydra_problems(
    hydra: Mapping[str, Any], typed: Sequence[str], folders: Sequence[str]
) -> Iterator[Problem]:
    """Yield the problems of settings that would make Hydra run other code or other programs.

    Args:
        hydra: Hydra's own section, as plain dicts and lists.
        typed: Keys that the command line sets; commands of a launcher are legal there, and not in files.
        folders: Further folders of configurations from a flag of the command line.
    """
    for key, text in walk({name: hydra.get(name) for name in BUILT}, "hydra"):
        if isinstance(text, str) and "${" in REFERENCES.sub("", text):  # which could hold a class
            yield _problem(key, text, "is only resolved when it is used", "write the value itself")
    for key, target in _targets(hydra, "hydra", ("_target_", "()", "class")):
        is_logging = key.startswith(("hydra.job_logging.", "hydra.hydra_logging."))
        if is_logging and not target.startswith(LOGGING_TARGETS):
            yield _unknown(key, target, f"legal beginnings: {', '.join(LOGGING_TARGETS)}")
        elif not is_logging and not key.endswith(".class") and target not in HYDRA_TARGETS:
            yield _unknown(key, target, f"legal: {', '.join(HYDRA_TARGETS)}")
    job, sweeper, launcher = (_section(hydra, name) for name in ("job", "sweeper", "launcher"))
    for name in ("env_set", "env_copy"):
        if job.get(name):
            why = "a configuration does not change the environment of the program"
            yield _problem(f"hydra.job.{name}", job[name], why, "set variables in the shell that starts it")
    if foreign := [path for path in hydra.get("searchpath") or () if path not in folders]:
        why = "configurations come from conf/ and from one more folder"
        yield _problem("hydra.searchpath", foreign, why, "name that folder with --config-dir=<folder>")
    if search := sweeper.get("custom_search_space"):
        why = "names code that would be run"
        yield _problem(
            "hydra.sweeper.custom_search_space", search, why, "list the settings in hydra.sweeper.params"
        )
    for name in COMMANDS:
        key = f"hydra.launcher.{name}"
        if launcher.get(name) and not any(word == key or word.startswith(f"{key}.") for word in typed):
            yield _problem(key, launcher[name], "commands do not come from files", f"type it: {key}=...")


def override_problems(hydra: Mapping[str, Any], words: Sequence[str]) -> Iterator[Problem]:
    """Yield the problems of overrides that a file adds to those of the command line.

    Hydra appends to the list in its section, and the jobs of a sweep read from it which plugins were typed.
    """
    section = _section(hydra, "overrides")
    added = [word for kind in ("task", "hydra") for word in section.get(kind) or () if word not in words]
    if added:
        why = "a file does not add overrides to the command line"
        yield _problem("hydra.overrides", added, why, "leave them out, or type them")
    params = _section(_section(hydra, "sweeper"), "params")
    for key, value in params.items():
        if str(key).lstrip("+") == "plugins":
            why = "a file does not name plugins to import"
            yield _problem(f"hydra.sweeper.params.{key}", value, why, "type it: plugins=[<package>]")


def _section(hydra: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = hydra.get(name)
    return section if isinstance(section, Mapping) else {}


def _problem(key: str, value: Any, why: str, fix: str) -> Problem:
    return Problem((key,), (f"{key}={format_yaml(value)}",), why, fix)


def _unknown(key: str, target: str, fix: str) -> Problem:
    why = "a configuration may only call what belongs to a known package"
    return Problem((key,), (f"{key}={target}",), why, fix)


def _targets(node: Any, key: str, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the dotted keys that name a class or a function, with that name."""
    return ((path, str(value)) for path, value in walk(node, key) if path.rpartition(".")[2] in names)
