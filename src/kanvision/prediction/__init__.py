"""Prediction of files of any size, by a network in the form of a function.

predictor = MaskPredictor(probabilities, decisions, mode="binary", names=("field",), ...)
with open_scene(path, bands) as scene:
    predictor.predict(scene, predictor.plan_outputs(path, folder))
"""

from __future__ import annotations

from .class_names import name_outputs
from .classes import find_unusable_pictures, predict_classes
from .inputs import (
    Inputs,
    find_inputs,
    find_name_clashes,
    find_overwritten_files,
    find_unusable_scenes,
    raise_problems,
    resolve_output_file,
)
from .masks import MaskPredictor, Outputs
from .raster import ArrayScene, Bands, Scene, open_scene
from .statistics import Outcome
from .tile_blending import Strip, blend_tiles
from .tiling import Tiling

__all__ = [
    "ArrayScene",
    "Bands",
    "Inputs",
    "MaskPredictor",
    "Outcome",
    "Outputs",
    "Scene",
    "Strip",
    "Tiling",
    "blend_tiles",
    "find_inputs",
    "find_name_clashes",
    "find_overwritten_files",
    "find_unusable_pictures",
    "find_unusable_scenes",
    "name_outputs",
    "open_scene",
    "predict_classes",
    "raise_problems",
    "resolve_output_file",
]
