"""Configurations of the modes of `eval.py` that need no checkpoint: check_data, report, benchmark."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from kanvision.spec.evaluation import Mode
from kanvision.spec.training import Accelerator

from .base import Count, PluginNames, Section
from .data import AnyData
from .evaluation import CheckingConfig

__all__ = ["STANDALONE", "BenchmarkConfig", "CheckConfig", "ReportConfig", "StandaloneConfig"]


class StandaloneConfig(Section):
    """Keys of every mode without a checkpoint."""

    plugins: PluginNames = Field([])
    """Packages to import, as for `train.py`."""
    mode: Mode
    """Program."""
    output: str | None = None
    """Folder of the results; null: a folder in `run_root`."""
    run_root: str = "runs"
    """Folder of all runs."""


class CheckConfig(StandaloneConfig):
    """Configuration of `eval.py mode=check_data data=<name>`, which needs no checkpoint."""

    mode: Literal["check_data"] = "check_data"
    """Check of every file of a data set."""
    data: AnyData
    """The data set, as for `train.py`."""
    check: CheckingConfig = CheckingConfig()
    """Settings of the check."""


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class ReportConfig(StandaloneConfig):
    """Configuration of `eval.py mode=report input=[<folders of runs>]`."""

    mode: Literal["report"] = "report"
    """Comparison of runs over seeds and images."""
    input: Annotated[list[str], Field(min_length=1)]
    """Runs, or folders that hold runs, such as runs/sweeps/<id>."""

    _input = field_validator("input", mode="before")(_as_list)


class BenchmarkConfig(StandaloneConfig):
    """Configuration of `eval.py mode=benchmark models=[<names, runs or checkpoints>]`."""

    mode: Literal["benchmark"] = "benchmark"
    """Cost of models side by side."""
    models: Annotated[list[str], Field(min_length=1)]
    """Names of models, `<name>:plain` for the plain twin, run folders or checkpoint files."""
    batch_sizes: list[Count] = Field(default_factory=lambda: [1, 8], min_length=1)
    """Numbers of images of a forward pass."""
    num_passes: Annotated[int, Field(ge=5)] = 30
    """Number of measured passes of each batch size; the models take turns."""
    img_size: Count | None = None
    """Side of the images; null: that of each model."""
    in_chans: Count = 3
    """Number of channels of models by name."""
    num_classes: Annotated[int, Field(ge=2)] = 10
    """Number of classes of models by name."""
    accelerator: Accelerator = "auto"
    """Kind of device; gpu: cuda or mps, whichever is there."""
    training: bool = False
    """Measure forward and backward passes in training mode instead of predictions."""

    _models = field_validator("models", mode="before")(_as_list)


STANDALONE: dict[str, type[StandaloneConfig]] = {
    "check_data": CheckConfig,
    "report": ReportConfig,
    "benchmark": BenchmarkConfig,
}
"""Configuration of each mode; check_data takes the data set of a checkpoint too."""
