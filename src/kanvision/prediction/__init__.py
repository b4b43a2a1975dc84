"""Predictions for files of any size, by a network that is given as a function.

predictor = MaskPredictor(probabilities, decisions, mode="binary", names=("field",), ...)
with open_scene(path, bands) as scene:
    predictor.predict(scene, predictor.outputs(path, folder))
"""

from __future__ import annotations

from .classes import predict_classes, unusable_pictures
from .inputs import (
    Inputs,
    find_inputs,
    output_file,
    overwriting_problems,
    refuse,
    twin_problems,
    unusable_scenes,
)
from .masks import MaskPredictor, Outputs
from .raster import Bands, Scene, open_scene
from .statistics import Outcome
from .tile_blending import Strip, blend_tiles
from .tiling import Tiling

__all__ = [
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
    "open_scene",
    "output_file",
    "overwriting_problems",
    "predict_classes",
    "refuse",
    "twin_problems",
    "unusable_pictures",
    "unusable_scenes",
]
