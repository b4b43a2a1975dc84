"""Validation of a composed configuration; all problems are reported at once."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .checks import batch_size, callbacks, data, evaluation, losses_and_metrics, models, training
from .checks.legal_values import Schema, check_schema
from .checks.rules import Rule, find_problems
from .errors import ConfigError, Problem
from .groups import ConfigGroups
from .renames import print_old_names, rename_settings
from .schema.root import EvalConfig, TrainConfig
from .schema.standalone import STANDALONE, StandaloneConfig
from .secrets import environment_problems, is_kept_reference, without_values
from .stored_config import KEY, missing_plugins, used_plugins
from .yaml_files import MOST_ENTRIES, referred_size

__all__ = ["EVAL_RULES", "TRAIN_RULES", "check", "parse_eval", "parse_settings", "parse_train"]

TRAIN_RULES: tuple[Rule, ...] = (
    *losses_and_metrics.RULES,
    *data.RULES,
    *models.RULES,
    *batch_size.RULES,
    *training.RULES,
    *callbacks.RULES,
)
EVAL_RULES: tuple[Rule, ...] = evaluation.RULES


def parse_train(cfg: DictConfig, choices: ConfigGroups | None = None) -> TrainConfig:
    """Return the checked configuration of `train.py`.

    Args:
        cfg: Composed configuration, without Hydra's own section.
        choices: The folder conf/, to name legal choices and to know the keys of each basis; None skips both.

    Raises:
        ConfigError: Values are missing, illegal or do not fit together; the error has all problems.
    """
    config = _parse(cfg, TrainConfig, choices)
    return config.model_copy(update={KEY: used_plugins(config.plugins, config.model_dump())})


def parse_eval(cfg: DictConfig) -> EvalConfig | StandaloneConfig:
    """Return the checked configuration of `eval.py`; ConfigError as for `parse_train`."""
    if "ckpt" in cfg:
        return _parse(cfg, EvalConfig, None)
    return _parse(cfg, STANDALONE[cfg.mode], None)


def _parse(cfg: DictConfig, root: type[Schema], choices: ConfigGroups | None) -> Schema:
    config, problems = check(cfg, root, choices)
    if config is None or problems:
        raise ConfigError(problems)
    return config


def parse_settings(cfg: DictConfig) -> TrainConfig | None:
    """Return a composed configuration if it fits the schema; rules across keys are not checked."""
    return check_schema(rename_settings(_resolved(cfg)[0])[0], TrainConfig)[0]


def check(
    cfg: DictConfig, root: type[Schema], choices: ConfigGroups | None = None
) -> tuple[Schema | None, list[Problem]]:
    """Return the configuration, None if it does not fit the schema, and all problems."""
    raw: Any = OmegaConf.to_container(cfg, resolve=False)
    if referred_size(raw) > MOST_ENTRIES:
        why = f"references (${{name}}) in it expand to more than {MOST_ENTRIES:,} entries"
        return None, [Problem(("conf",), ("the configuration",), why, "refer to fewer sections")]
    values, unresolved = _resolved(cfg)
    values, old_names = rename_settings(values)
    print_old_names(old_names)
    if missing := missing_plugins(values):
        return None, missing
    config, problems = check_schema(values, root)
    unresolved += environment_problems(cfg, root)
    problems = [without_values(problem, cfg) for problem in problems]
    known = {key for problem in unresolved for key in problem.keys}
    problems = unresolved + [problem for problem in problems if problem.keys[0] not in known]
    if config is not None and not problems:
        if isinstance(config, TrainConfig):
            problems = train_problems(config, choices)
        elif isinstance(config, EvalConfig):
            problems = find_problems(config, EVAL_RULES)
    return config, problems


def train_problems(config: TrainConfig, choices: ConfigGroups | None = None) -> list[Problem]:
    """Return the problems of a training configuration."""
    problems = find_problems(config, TRAIN_RULES)
    if choices is None:
        return problems
    problems = [models.name_legal_kinds(problem, choices) for problem in problems]
    return [*problems, *models.basis_problems(config, choices)]


def _resolved(cfg: DictConfig) -> tuple[dict[str, Any], list[Problem]]:
    """Return all values of `cfg` with interpolations resolved, without missing and unresolvable ones."""
    problems: list[Problem] = []

    def content(node: Any, key: str) -> Any:
        if isinstance(node, DictConfig):
            if node._is_none():
                return None
            return {str(name): value for name in node for value in entry(node, name, _join(key, name))}
        if isinstance(node, ListConfig):
            return [value for i in range(len(node)) for value in entry(node, i, f"{key}[{i}]")]
        return node

    def entry(parent: Any, name: Any, key: str) -> list[Any]:
        if OmegaConf.is_missing(parent, name):
            return []
        raw = parent._get_node(name)._value()
        if is_kept_reference(key, raw):
            return [raw]
        try:
            return [content(parent[name], key)]
        except OmegaConfBaseException as error:
            given = f"{key}={OmegaConf.to_container(parent, resolve=False)[name]}"  # type: ignore[index]
            # without the preamble of OmegaConf
            message = str(error).splitlines()[0].rpartition("raised while resolving interpolation: ")[2]
            why = f"cannot be resolved: {message}"
            if all(problem.why != why for problem in problems):
                problems.append(Problem((key,), (given,), why))
            return []

    return content(cfg, ""), problems


def _join(prefix: str, name: object) -> str:
    return f"{prefix}.{name}" if prefix else str(name)
