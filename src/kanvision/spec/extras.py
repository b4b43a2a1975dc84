"""Extras of the package: optional packages, by the extra that installs them."""

from __future__ import annotations

from typing import Final

EXTRAS: Final[dict[str, str]] = {
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "huggingface_hub": "hub",
    "hydra_plugins.hydra_submitit_launcher": "slurm",
    "hydra_plugins.hydra_optuna_sweeper": "sweep",
    "wandb": "wandb",
    "mlflow": "mlflow",
}
"""Module that a feature imports -> extra of kanvision."""
