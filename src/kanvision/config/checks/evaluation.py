"""Rules on the configuration of `eval.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kanvision import plugins
from kanvision.config.schema.base import Section
from kanvision.config.schema.evaluation import AnalysisConfig
from kanvision.config.schema.root import EvalConfig
from kanvision.plugins import find_arguments
from kanvision.pretrained import list_pretrained
from kanvision.spec.evaluation import ANALYSES, EXPORT_FORMATS, Mode

from .rules import CHECKPOINT, Rule

__all__ = ["KEYS_BY_MODE", "RULES"]

KEYS_BY_MODE: dict[Mode, tuple[str, ...]] = {
    "test": ("images",),
    "explain": ("explain",),
    "predict": ("input", "predict"),
    "analyze": ("analysis", "analyze"),
    "functions": (),
    "export": ("format", "quantize", "export"),
    "check_data": ("check",),
    "report": (),
    "benchmark": (),
}
"""Keys and sections of one mode alone; the other modes refuse them."""
IMAGES = "give an image file or a folder of images"
NOT_FOR_PREDICTION = (
    "root",
    "num_workers",
    "limit_test",
    "foreground",
    "threshold",
    "download",
    "max_pixels",
)
"""Keys of the run's data set, which mode=predict does not read."""


def _changed_keys(given: Section, default: Section, name: str, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys at or below a key that have another value than their default."""
    value, usual = getattr(given, name), getattr(default, name)
    if isinstance(value, Section):
        for key in type(value).model_fields:
            yield from _changed_keys(value, usual, key, f"{prefix}{name}.")
    elif value != usual:
        yield f"{prefix}{name}"


def _missing_checkpoint(ckpt: str, root: str) -> dict[str, str] | None:
    latest = ckpt == "latest"
    path = Path(root, "latest") if latest else Path(ckpt)
    if path.exists() or ckpt in list_pretrained():
        return None
    return {"why": f"there is no run in {root}" if latest else f"there is no file or folder {path}"}


def _keys_of_other_modes(config: EvalConfig, mode: str) -> list[dict[str, Any]]:
    default = EvalConfig(ckpt=config.ckpt)
    found = {
        other: [key for name in names for key in _changed_keys(config, default, name)]
        for other, names in KEYS_BY_MODE.items()
        if other != mode
    }
    return [{"keys": keys, "other": other} for other, keys in found.items() if keys]


def _unknown_arguments(kwargs: dict[str, Any], analysis: str | None) -> dict[str, str] | None:
    """Return what to say of arguments that an analysis of a plugin does not take."""
    legal = find_arguments(plugins.ANALYSES[analysis])[1:] if analysis in plugins.ANALYSES else []
    unknown = [key for key in kwargs if key not in legal]
    fix = f"legal: {', '.join(legal)}" if legal else "leave them out"
    return {"names": ", ".join(unknown), "legal": fix} if unknown else None


def _keys_of_other_analyses(mode: str, analysis: str | None, config: AnalysisConfig) -> list[dict[str, Any]]:
    if mode != "analyze" or analysis is None:
        return []
    found = {
        name: list(_changed_keys(config, AnalysisConfig(), name, "analyze."))
        for name in ANALYSES
        if name != analysis and hasattr(config, name)
    }
    return [{"keys": keys, "other": name} for name, keys in found.items() if keys]


def _keys_of_data(config: EvalConfig) -> dict[str, Any] | None:
    keys = [f"data.{key}" for key in NOT_FOR_PREDICTION if getattr(config.data, key) is not None]
    keys += ["split"] if config.split != "test" else []
    return {"keys": keys} if keys and config.mode == "predict" else None


def _keys_of_scores(config: EvalConfig) -> dict[str, Any] | None:
    keys = list(_changed_keys(config, EvalConfig(ckpt=config.ckpt), "data"))
    keys += ["split"] if config.split != "test" else []
    return {"keys": keys} if keys and config.mode == "export" and config.quantize is None else None


def _tiles_of_resized(mode: str, predict: Any) -> dict[str, Any] | None:
    keys = [f"predict.{key}" for key in ("tile", "overlap") if getattr(predict, key) is not None]
    return {"keys": ["predict.resize", *keys]} if mode == "predict" and predict.resize and keys else None


# fmt: off
RULES = (
    Rule("", _keys_of_other_modes, "not used by mode={mode}", "leave out, or take mode={other}",
         reads="* mode"),
    Rule("input", lambda path, mode: mode == "predict" and path is None,
         "mode=predict needs images", IMAGES, reads="input mode"),
    Rule("input",
         lambda path, mode: mode == "predict" and path is not None and not Path(path).expanduser().exists(),
         "there is no file or folder {input}", IMAGES, reads="input mode"),
    Rule("", _keys_of_data, "mode=predict reads the images of `input` and no data set", "leave out",
         reads="*"),
    Rule("", _keys_of_scores, "mode=export reads images for the scores of quantize alone", "leave out",
         reads="*"),
    Rule("format", lambda given, mode: mode == "export" and given is None,
         "mode=export needs formats", f"legal: format=[{','.join(EXPORT_FORMATS)}], or some of them",
         reads="format mode"),
    Rule("quantize format",
         lambda quantize, given: quantize is not None and given is not None and "onnx" not in given,
         "the file with 8-bit weights is made of the ONNX file", "add onnx to format",
         reads="quantize format"),
    Rule("quantize export.img_size",
         lambda quantize, size: quantize is not None and size is not None,
         "scores are those of images of the size of the run", "leave one of them out",
         reads="quantize export.img_size"),
    Rule("", _tiles_of_resized, "an image that is resized has no tiles", "leave one of them out",
         reads="mode predict"),
    Rule("predict.overlap predict.tile",
         lambda overlap, tile, mode: mode == "predict" and None not in (overlap, tile) and overlap >= tile,
         "tiles cannot share all of their pixels", "a quarter or half of a tile is usual",
         reads="predict.overlap predict.tile mode"),
    Rule("analysis", lambda analysis, mode: mode == "analyze" and analysis is None,
         "mode=analyze needs an analysis", f"legal: {', '.join(ANALYSES)}", reads="analysis mode"),
    Rule("analysis", lambda analysis, mode: mode == "functions",
         "mode=functions is short for mode=analyze analysis=functions", "leave it out, or take mode=analyze",
         reads="analysis mode"),
    Rule("analyze.kwargs analysis", _unknown_arguments, "no arguments of the analysis: {names}", "{legal}"),
    Rule("", _keys_of_other_analyses, "not used by analysis={analysis}",
         "leave out, or take analysis={other}", reads="mode analysis analyze"),
    Rule("trainer.devices",
         lambda devices, mode: mode in ("predict", "analyze", "export") and devices not in (1, "auto"),
         "mode={mode} runs on one device", "leave it out", reads="trainer.devices mode"),
    Rule("ckpt mode", lambda _, mode: mode in ("report", "benchmark"), "mode={mode} does not read ckpt",
         "leave ckpt out; runs and checkpoints stand in input= (report) or models= (benchmark)"),
    Rule("ckpt", _missing_checkpoint, "{why}", CHECKPOINT, reads="ckpt run_root"),
)
# fmt: on
