"""What does not fit together in a configuration of `eval.py mode=predict`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .problems import Problem, conflict
from .schema import EvalConfig

__all__ = ["prediction_problems"]

OF_DATA = ("root", "num_workers", "limit_test", "foreground", "threshold", "download", "max_pixels")
"""Keys of the run's data set, which prediction does not read."""


def prediction_problems(config: EvalConfig) -> Iterator[Problem]:
    """Complaints about mode=predict; none in other modes."""
    if config.mode != "predict":
        return
    if config.input is None:
        yield conflict(
            config, ["input"], "mode=predict needs images", "give an image file or a folder of images"
        )
    elif not Path(config.input).expanduser().exists():
        why = f"there is no file or folder {config.input}"
        yield conflict(config, ["input"], why, "give an image file or a folder of images")
    unused = [f"data.{key}" for key in OF_DATA if getattr(config.data, key) is not None]
    unused += ["split"] if config.split != "test" else []
    if unused:
        why = "mode=predict reads no data set, but what input names"
        yield conflict(config, unused, why, f"leave {'it' if len(unused) == 1 else 'them'} out")
    if config.trainer.devices not in (1, "auto"):
        yield conflict(config, ["trainer.devices"], "mode=predict runs on one device", "leave it out")
    predict = config.predict
    if predict.resize and (tiled := [k for k in ("tile", "overlap") if getattr(predict, k) is not None]):
        keys = ["predict.resize", *(f"predict.{key}" for key in tiled)]
        yield conflict(config, keys, "an image that is resized has no tiles", "leave one of them out")
    if None not in (predict.tile, predict.overlap) and predict.overlap >= predict.tile:  # type: ignore[operator]
        why = "tiles cannot share all of their pixels"
        yield conflict(
            config, ["predict.overlap", "predict.tile"], why, "a quarter or half of a tile is usual"
        )
