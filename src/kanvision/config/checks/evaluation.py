"""Keys of `eval.py` that belong to one mode, and are refused in the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kanvision.config.errors import Problem, problem_at
from kanvision.config.schema.base import Section
from kanvision.config.schema.evaluation import AnalysisConfig
from kanvision.config.schema.root import EvalConfig
from kanvision.spec.evaluation import ANALYSES, Mode

__all__ = [
    "KEYS_OF_MODE",
    "analysis_problems",
    "changed_keys",
    "mode_problems",
    "prediction_problems",
    "unused",
]


def analysis_problems(config: EvalConfig) -> Iterator[Problem]:
    """Complaints about mode=analyze; none in other modes."""
    if config.mode != "analyze":
        return
    if config.analysis is None:
        why = "mode=analyze needs to know what to look at"
        yield problem_at(config, ["analysis"], why, f"legal: {', '.join(ANALYSES)}")
        return
    for name in ANALYSES:
        if name != config.analysis and hasattr(config.analyze, name):
            keys = list(changed_keys(config.analyze, AnalysisConfig(), name, "analyze."))
            if keys:
                yield unused(config, keys, f"analysis={config.analysis}", f"analysis={name}")
    if config.trainer.devices not in (1, "auto"):
        yield problem_at(config, ["trainer.devices"], "mode=analyze runs on one device", "leave it out")


OF_DATA = ("root", "num_workers", "limit_test", "foreground", "threshold", "download", "max_pixels")
"""Keys of the run's data set, which prediction does not read."""


def prediction_problems(config: EvalConfig) -> Iterator[Problem]:
    """Complaints about mode=predict; none in other modes."""
    if config.mode != "predict":
        return
    if config.input is None:
        yield problem_at(
            config, ["input"], "mode=predict needs images", "give an image file or a folder of images"
        )
    elif not Path(config.input).expanduser().exists():
        why = f"there is no file or folder {config.input}"
        yield problem_at(config, ["input"], why, "give an image file or a folder of images")
    unused = [f"data.{key}" for key in OF_DATA if getattr(config.data, key) is not None]
    unused += ["split"] if config.split != "test" else []
    if unused:
        why = "mode=predict reads no data set, but what input names"
        yield problem_at(config, unused, why, f"leave {'it' if len(unused) == 1 else 'them'} out")
    if config.trainer.devices not in (1, "auto"):
        yield problem_at(config, ["trainer.devices"], "mode=predict runs on one device", "leave it out")
    predict = config.predict
    if predict.resize and (tiled := [k for k in ("tile", "overlap") if getattr(predict, k) is not None]):
        keys = ["predict.resize", *(f"predict.{key}" for key in tiled)]
        yield problem_at(config, keys, "an image that is resized has no tiles", "leave one of them out")
    if None not in (predict.tile, predict.overlap) and predict.overlap >= predict.tile:  # type: ignore[operator]
        why = "tiles cannot share all of their pixels"
        yield problem_at(
            config, ["predict.overlap", "predict.tile"], why, "a quarter or half of a tile is usual"
        )


KEYS_OF_MODE: dict[Mode, tuple[str, ...]] = {
    "test": (),
    "explain": ("explain",),
    "predict": ("input", "predict"),
    "analyze": ("analysis", "analyze"),
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
    return problem_at(config, keys, why, f"leave it out, or take {there}")


def changed_keys(given: Section, default: Section, name: str, prefix: str = "") -> Iterator[str]:
    """Dotted keys below a key, or the key itself, that have another value than their default."""
    value, usual = getattr(given, name), getattr(default, name)
    if isinstance(value, Section):
        for key in type(value).model_fields:
            yield from changed_keys(value, usual, key, f"{prefix}{name}.")
    elif value != usual:
        yield f"{prefix}{name}"
