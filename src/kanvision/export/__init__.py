"""Trained networks outside of their runs: prediction, files of other programs, sharing.

    predictor = kv.load_run("runs/latest")
    predictor("photo.png").label

Members are imported on first use; nothing here needs Lightning or Hydra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kanvision.lazy import load_on_demand

if TYPE_CHECKING:
    from .predictor import ClassPrediction, ImagePredictor, MaskPrediction
    from .record import InputRecord, NetworkRecord, RecordError

__all__ = [
    "ClassPrediction",
    "ImagePredictor",
    "InputRecord",
    "MaskPrediction",
    "NetworkRecord",
    "RecordError",
]

_NAMES = {
    ".predictor": ("ClassPrediction", "ImagePredictor", "MaskPrediction"),
    ".record": ("InputRecord", "NetworkRecord", "RecordError"),
}
__getattr__ = load_on_demand(__name__, {name: home for home, names in _NAMES.items() for name in names})
