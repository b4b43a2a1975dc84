"""Configurations of `train.py` and `eval.py`: type, legal values, default and meaning of every key.

The files of `conf/` state the values that differ from these defaults. Nothing here imports torch, so that
errors of a command line appear at once. Unknown keys are errors everywhere except in `basis` and in the
arguments of a `_target_`, whose legal keys are those of their own file and class.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from kanvision.spec.data import EvalSplit, FaultPolicy
from kanvision.spec.evaluation import Analysis, ExportFormat, Mode, Quantization
from kanvision.spec.training import Accelerator, Direction, Precision

from .base import Count, PluginNames, Section
from .data import AnyData, AugmentConfig, MixupConfig
from .evaluation import AnalysisConfig, CheckingConfig, ExplanationConfig, ExportConfig, PredictionConfig
from .models import AnyModel, BasisConfig
from .training import (
    EMAConfig,
    FinetuneConfig,
    LossConfig,
    MetricsConfig,
    OptimizerConfig,
    PenaltyConfig,
    RecipeConfig,
    SchedulerConfig,
    TrainerConfig,
)


class RunConfig(Section):
    """Output folder of a run."""

    root: str = "runs"
    """Folder of all runs."""
    name: str
    """Folder below `root`, by default <model>_<data>."""
    dir: str
    """Folder of this run, one for all its processes."""
    keep: Count | None = None
    """Number of finished runs of this name to keep when the run has finished, the newest; null: all."""


class TrainConfig(Section):
    """Configuration of `train.py`."""

    model: AnyModel
    """The network; its keys depend on the family."""
    basis: BasisConfig
    """Basis of the KAN layers, for models that take a basis."""
    data: AnyData
    """The data set."""
    recipe: RecipeConfig
    """Recipe: source of the training settings."""
    augment: AugmentConfig
    """Training augmentation."""
    mixup: MixupConfig
    """Mixup and CutMix."""
    optimizer: OptimizerConfig
    """The optimizer."""
    scheduler: SchedulerConfig
    """The learning-rate schedule."""
    loss: LossConfig
    """The loss."""
    metrics: MetricsConfig = MetricsConfig()
    """Metrics of masks, and those of plugins."""
    penalty: PenaltyConfig = PenaltyConfig()
    """Penalties on the KAN layers."""
    finetune: FinetuneConfig = FinetuneConfig()
    """Weights that training starts from, and the part of them that it trains."""
    ema: EMAConfig | None = None
    """Exponential moving average of the weights; null: off."""
    trainer: TrainerConfig
    """The Lightning Trainer."""
    plugins: PluginNames = Field([])
    """Packages that add models, bases, data and more, imported if the command line names them; in a file: a
    record."""
    callbacks: dict[str, dict[str, Any]]
    """Lightning callbacks by name, each a `_target_` with its arguments."""
    logger: dict[str, dict[str, Any]]
    """Lightning loggers by name, each a `_target_` with its arguments."""
    run: RunConfig
    """Where the run writes."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """Seed of weights, order and augmentation; ranks and loader workers derive their own seeds."""
    resume: str | None = None
    """Checkpoint or run folder to resume; auto: the newest unfinished run of this name; null: a new run."""
    test: bool = True
    """Test the best checkpoint after training."""
    monitor: str
    """Metric that chooses the best checkpoint."""
    monitor_mode: Direction = "max"
    """Direction in which `monitor` improves."""


class EvalDataConfig(Section):
    """Overrides of the run's data for evaluation; null keeps the value of the run."""

    root: str | None = None
    """Folder on disk."""
    batch_size: Count | None = None
    """Images in a batch of one process."""
    num_workers: Annotated[int, Field(ge=0)] | None = None
    """Loader processes of each process, at most one for each core."""
    limit_test: Count | None = None
    """Maximal number of images of `split`."""
    foreground: Literal["all"] | list[int] | None = None
    """Own masks: stored values of the foreground; all: every value but zero."""
    threshold: Annotated[int, Field(ge=0, le=254)] | None = None
    """Own masks: gray level above which a pixel is foreground; 0: by `foreground`."""
    download: bool | None = None
    """Download the data set if it is missing; null: no, also if the run did."""
    on_bad_sample: FaultPolicy | None = None
    """Samples that cannot be read: raise: the evaluation ends; skip: they are omitted and reported."""
    max_bad_samples: Annotated[int, Field(ge=0)] | None = None
    """Number of unreadable files that on_bad_sample=skip tolerates; one more ends the evaluation."""
    max_pixels: Count | None = None
    """Maximal number of pixels of an image."""


class EvalTrainerConfig(Section):
    """Device and precision of the evaluation."""

    accelerator: Accelerator = "auto"
    """Kind of device; gpu: cuda or mps, whichever is there."""
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    """Number of devices."""
    precision: Precision | None = None
    """Number format; null: that of the run."""
    enable_progress_bar: bool = True
    """Show the progress bar."""


class EvalConfig(Section):
    """Configuration of `eval.py`."""

    plugins: PluginNames = Field([])
    """Packages to import, as for `train.py`."""
    ckpt: str
    """Checkpoint file, run folder (its best checkpoint), latest, or name of weights in the package."""
    mode: Mode = "test"
    """Program: test metrics, explanations, predictions of own images, an analysis of the network, its learned
    functions (short for analyze, analysis=functions), its export to files, or a check of every file of its
    data (without `ckpt`: of `data=<name>`). Without `ckpt`: report and benchmark."""
    analysis: Analysis | None = None
    """Analysis of mode=analyze."""
    format: Annotated[list[ExportFormat], Field(min_length=1)] | None = None
    """Formats of the files of mode=export."""
    quantize: Quantization | None = None
    """Write an ONNX file with 8-bit weights too, and score it beside the other; null: no."""
    split: EvalSplit = "test"
    """Split of the data."""
    input: str | None = None
    """Image file or folder of images for mode=predict."""
    output: str | None = None
    """Folder of the results; null: the folder of the run, or that of the checkpoint."""
    data: EvalDataConfig = EvalDataConfig()
    """Overrides of the run's data."""
    trainer: EvalTrainerConfig = EvalTrainerConfig()
    """Device and precision of the evaluation."""
    images: bool = True
    """Write the scores of each image and class, charts, and a gallery in mode=test."""
    explain: ExplanationConfig = ExplanationConfig()
    """Settings of mode=explain."""
    predict: PredictionConfig = PredictionConfig()
    """Settings of mode=predict."""
    analyze: AnalysisConfig = AnalysisConfig()
    """Settings of mode=analyze, a section for each analysis."""
    export: ExportConfig = ExportConfig()
    """Settings of mode=export."""
    check: CheckingConfig = CheckingConfig()
    """Settings of mode=check_data."""
    run_root: str = "runs"
    """Folder of the runs that `ckpt=latest` considers."""

    @model_validator(mode="before")
    @classmethod
    def _expand_mode(cls, values: Any) -> Any:
        """Replace mode=functions by mode=analyze analysis=functions; the rules refuse another analysis."""
        if isinstance(values, dict) and values.get("mode") == "functions" and values.get("analysis") is None:
            return {**values, "mode": "analyze", "analysis": "functions"}
        return values
