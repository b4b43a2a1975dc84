"""Every key a user can set: its type, its legal values and what it means.

The yaml files of `conf/` hold the values, these classes hold the rules. Nothing here imports torch, so that a
mistake in a command line is answered at once. Unknown keys are refused everywhere but in `basis` and in the
arguments of a `_target_`, whose legal keys are those of their own yaml file and class.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .base import Accelerator, Count, Precision, Section
from .data import AnyData, AugmentConfig, MixupConfig
from .evaluation import Analysis, AnalysisConfig, CheckingConfig, ExplanationConfig, PredictionConfig
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
    """Where a run writes."""

    root: str = "runs"
    """Folder of all runs."""
    name: str
    """Folder of this kind of run, by default <model>_<data>."""
    dir: str
    """Folder of this run; the same for all processes."""


class TrainConfig(Section):
    """The whole configuration of `train.py`."""

    model: AnyModel
    """The network; each model file has keys of its own."""
    basis: BasisConfig
    """Functions of the KAN layers, for models that take a basis."""
    data: AnyData
    """The data set."""
    recipe: RecipeConfig
    """Where the training settings come from."""
    augment: AugmentConfig
    """Training augmentation."""
    mixup: MixupConfig
    """Mixing of images."""
    optimizer: OptimizerConfig
    """The optimizer."""
    scheduler: SchedulerConfig
    """The learning-rate schedule."""
    loss: LossConfig
    """The loss."""
    metrics: MetricsConfig = MetricsConfig()
    """What is measured of masks."""
    penalty: PenaltyConfig = PenaltyConfig()
    """Penalties on the KAN layers."""
    finetune: FinetuneConfig = FinetuneConfig()
    """What training starts from, and how much of it is trained."""
    ema: EMAConfig | None = None
    """Moving average of the weights; null: off."""
    trainer: TrainerConfig
    """The Trainer."""
    callbacks: dict[str, dict[str, Any]]
    """Lightning callbacks by name; each is a `_target_` with its arguments."""
    logger: dict[str, dict[str, Any]]
    """Lightning loggers by name; each is a `_target_` with its arguments."""
    run: RunConfig
    """Where the run writes."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """Seed of weights, order, augmentation; ranks and workers derive their own."""
    resume: str | None = None
    """Checkpoint or run folder to go on from; auto: the newest unfinished run of this name."""
    test: bool = True
    """Test the best checkpoint after training."""
    monitor: str = "val/acc1"
    """Metric that chooses the best checkpoint."""
    monitor_mode: Literal["min", "max"] = "max"
    """Whether less or more of it is better."""


class EvalDataConfig(Section):
    """Keys of the run's data that may be changed for evaluation; null keeps the run's own."""

    root: str | None = None
    """Folder on disk."""
    batch_size: Count | None = None
    """Images per step and device."""
    num_workers: Annotated[int, Field(ge=0)] | None = None
    """Loader processes per device; never more than cores."""
    limit_test: Count | None = None
    """Use at most this many images of `split`, for trials."""
    foreground: Literal["all"] | list[int] | None = None
    """Own masks: stored values that are foreground, or all but zero."""
    threshold: Annotated[int, Field(ge=0, le=254)] | None = None
    """Own masks: gray level above which a pixel is foreground; 0: `foreground` decides."""
    download: bool | None = None
    """Fetch the data set when it is missing; null: no, whatever the run did."""
    on_bad_sample: Literal["raise", "skip"] | None = None
    """Samples that cannot be read: raise ends the evaluation; skip leaves them out and says so."""
    max_bad_samples: Annotated[int, Field(ge=0)] | None = None
    """Bad files that an evaluation with on_bad_sample=skip goes on without; one more ends it."""
    max_pixels: Count | None = None
    """Most pixels of an image."""


class EvalTrainerConfig(Section):
    """Where evaluation runs."""

    accelerator: Accelerator = "auto"
    """Kind of device; gpu: cuda or mps, whichever is there."""
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    """Number of devices."""
    precision: Precision | None = None
    """Number format; null keeps the run's own."""
    enable_progress_bar: bool = True
    """Show the progress bar."""


class EvalConfig(Section):
    """The whole configuration of `eval.py`."""

    ckpt: str
    """Checkpoint file, run folder (its best checkpoint), or latest."""
    mode: Literal["test", "explain", "predict", "analyze", "check_data"] = "test"
    """What to do: measure the model, find out what its answers rest on, let it answer, look inside it, or
    look at every file of its data (which without `ckpt` is done for `data=<name>`)."""
    analysis: Analysis | None = None
    """What mode=analyze looks at."""
    split: Literal["val", "test"] = "test"
    """Which images to use."""
    input: str | None = None
    """Image file, or folder of images, that mode=predict predicts."""
    output: str | None = None
    """Folder of the results; null: the run's own folder, or beside the checkpoint."""
    data: EvalDataConfig = EvalDataConfig()
    """Keys of the data that evaluation may change."""
    trainer: EvalTrainerConfig = EvalTrainerConfig()
    """Where evaluation runs."""
    explain: ExplanationConfig = ExplanationConfig()
    """What mode=explain explains, and how."""
    predict: PredictionConfig = PredictionConfig()
    """How mode=predict goes through images, and what it writes."""
    analyze: AnalysisConfig = AnalysisConfig()
    """How mode=analyze looks, a section for each analysis."""
    check: CheckingConfig = CheckingConfig()
    """How mode=check_data looks."""
    run_root: str = "runs"
    """Where `ckpt=latest` looks."""
