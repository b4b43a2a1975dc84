"""Trained networks outside of their runs: prediction, files of other programs, sharing.

    predictor = kv.load_run("runs/latest")
    predictor("photo.png").label

Members are imported on first use; nothing here needs Lightning or Hydra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kanvision.lazy import load_on_demand

if TYPE_CHECKING:
    from .errors import ExportError
    from .hub import from_pretrained, push, save_pretrained
    from .predictor import ClassPrediction, ImagePredictor, MaskPrediction
    from .record import InputRecord, NetworkRecord, RecordError
    from .write import ExportedFile, export_network

__all__ = [
    "ClassPrediction",
    "ExportError",
    "ExportedFile",
    "ImagePredictor",
    "InputRecord",
    "MaskPrediction",
    "NetworkRecord",
    "RecordError",
    "export_network",
    "from_pretrained",
    "push",
    "save_pretrained",
]

_NAMES = {
    ".errors": ("ExportError",),
    ".hub": ("from_pretrained", "push", "save_pretrained"),
    ".predictor": ("ClassPrediction", "ImagePredictor", "MaskPrediction"),
    ".record": ("InputRecord", "NetworkRecord", "RecordError"),
    ".write": ("ExportedFile", "export_network"),
}
__getattr__ = load_on_demand(__name__, {name: home for home, names in _NAMES.items() for name in names})
