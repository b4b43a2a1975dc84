"""Modes and analyses of `eval.py`."""

from __future__ import annotations

from typing import Final, Literal, get_args

Mode = Literal[
    "test", "explain", "predict", "analyze", "functions", "export", "check_data", "report", "benchmark"
]
Analysis = Literal["attention", "functions", "spectra", "histograms", "landscape", "hessian", "transfer"]
ANALYSES: Final[tuple[Analysis, ...]] = get_args(Analysis)
ExportFormat = Literal["pt2", "torchscript", "safetensors", "onnx"]
"""File of a network: of torch.export, of TorchScript, of its weights alone, of ONNX."""
EXPORT_FORMATS: Final[tuple[ExportFormat, ...]] = get_args(ExportFormat)
Quantization = Literal["int8"]
"""Number format of the weights of linear maps."""
TestTimeAugmentation = Literal["none", "hflip", "flips"]
ExplanationMethod = Literal["grad_cam", "integrated_gradients"]
EXPLANATION_METHODS: Final[tuple[ExplanationMethod, ...]] = get_args(ExplanationMethod)
LossImages = Literal["split", "train"]
"""Images of a loss: of the evaluated split, or of the training without augmentation."""
DirectionScaling = Literal["network", "tensor", "filter"]
"""Part of a direction that gets the length of the same weights."""
DIRECTION_SCALINGS: Final[tuple[DirectionScaling, ...]] = get_args(DirectionScaling)
