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

__getattr__ = load_on_demand(__name__)
