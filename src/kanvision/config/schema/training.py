"""Keys of `recipe`, `optimizer`, `scheduler`, `loss`, `metrics`, `penalty`, `finetune`, `ema`, `trainer`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from kanvision.spec.tasks import DEFAULT_PROTOCOLS, EmptyMaskPolicy, Loss, Protocol
from kanvision.spec.training import Accelerator, Interval, LRScaling, Precision, Profiler, Schedule, Strategy

from .base import Count, Fraction, NonNegative, Positive, Rate, Section


class RecipeConfig(Section):
    """Recipe: source of the training settings."""

    name: str
    """Name of the recipe; default if this pair of model and data has none."""
    source: str
    """Publication or author of the settings."""
    batch_size: Count | None = None
    """Global batch, over all processes and accumulated batches, of the learning rate; null: any."""
    micro_batch_size: Count | None = None
    """Maximal batch of one process if data.batch_size is null; larger steps accumulate batches; null: no
    limit."""
    drop_path_rates: dict[str, Rate] = Field(default_factory=dict)
    """Rate of stochastic depth by model size, for recipes that publish one for each size."""


class OptimizerConfig(Section):
    """Optimizer, built by timm's `create_optimizer_v2`."""

    name: str = "adamw"
    """Optimizer of timm (list: kanvision.spec.optimizers); lookahead_<name> wraps it in Lookahead."""
    lr: Positive = 1e-3
    """Learning rate."""
    lr_scaling: LRScaling = "none"
    """Scaling of lr with the global batch divided by recipe.batch_size."""
    weight_decay: NonNegative = 0.05
    """Weight decay of matrices and convolution kernels."""
    decay_all: bool = False
    """Apply weight decay to vectors and biases too, as torch does by default."""
    decay_rationals: bool = True
    """Apply weight decay to the coefficients of rationals, as the published KAT code does."""
    kan_lr: Positive | None = None
    """Learning rate of the KAN parameters (basis weights, rationals); null: lr."""
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Factor on the learning rate for each layer between a parameter and the head; null: off."""
    betas: tuple[Fraction, Fraction] | None = None
    """Momenta of Adam-like optimizers; null: the default of the optimizer."""
    eps: Positive | None = None
    """Epsilon of Adam-like optimizers; null: the default of the optimizer."""
    momentum: Rate = 0.9
    """Momentum of SGD-like optimizers."""


class SchedulerConfig(Section):
    """Learning-rate schedule, built by timm's `create_scheduler_v2` except plateau."""

    name: Schedule = "cosine"
    """Shape of the schedule; plateau lowers the rate if `monitor` does not improve."""
    warmup_epochs: NonNegative = 1.0
    """Epochs of linear warm-up, part of max_epochs; half of max_epochs if the run is not longer."""
    warmup_lr: NonNegative = 1e-5
    """Learning rate at the start of the warm-up."""
    min_lr: NonNegative = 0.0
    """Learning rate at the end."""
    scale_min_lr: bool = True
    """Scale min_lr and warmup_lr with kan_lr and layer_decay; false: one value for all parameters."""
    decay_rate: Positive = 0.1
    """Factor of the step, exponential and plateau schedules; power of poly."""
    decay_epochs: Positive = 30.0
    """Epochs between two steps of the step schedule."""
    patience: Annotated[int, Field(ge=0)] = 5
    """Number of validations without an improvement that plateau tolerates."""
    interval: Interval = "step"
    """Update the rate at each epoch or at each optimizer step."""


class LossConfig(Section):
    """Training loss."""

    name: Loss = "cross_entropy"
    """Classification: cross_entropy, bce. Segmentation: all, except bce, bce_dice and kagn_dice for
    multiclass masks and cross_entropy and ce_dice for multilabel masks."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Fraction of the target spread over all classes; in segmentation for cross_entropy and ce_dice only."""
    class_weights: Literal["balanced"] | list[NonNegative] | None = None
    """Weight of each class of images in cross_entropy, in the order of the classes; balanced: images /
    (classes x images of the class), of the training images; null: 1."""
    gamma: NonNegative = 2.0
    """Exponent of the focal loss."""
    alpha: NonNegative = 0.5
    """Weight of false positives in the Tversky loss."""
    beta: NonNegative = 0.5
    """Weight of false negatives in the Tversky loss."""
    auxiliary: NonNegative = 1.0
    """Factor on the auxiliary losses of layers: load balance of experts, penalties on activations."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Arguments of a loss of a plugin."""


class MetricsConfig(Section):
    """Metrics of masks, and those of plugins."""

    protocol: list[Protocol] = Field(default_factory=lambda: list(DEFAULT_PROTOCOLS), min_length=1)
    """Averages: image: mean score of the images; dataset: score of all pixels, names end in _dataset; paper:
    mean score of the batches as in the code of U-KAN, names end in _batch."""
    per_class: bool = False
    """Log the scores of each class too; iou_class1 is that of the first foreground class."""
    threshold: Annotated[float, Field(gt=0.0, lt=1.0)] | Literal["search"] = 0.5
    """Probability above which a pixel of a binary or multilabel mask is foreground; search: the best one of
    each class on the validation images."""
    hd95: EmptyMaskPolicy | None = "diagonal"
    """Distance of borders in the test. If one of two masks is empty: diagonal: the diagonal of the image;
    exclude: the image is omitted and counted. null: not measured."""
    objects: bool = False
    """Object scores of the GlaS challenge in the test, for binary masks."""
    extra: list[str] = Field(default_factory=list)
    """Metrics of plugins, of classes or masks, by name."""

    @field_validator("protocol", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value


class PenaltyConfig(Section):
    """Penalties on the KAN layers in the training loss; 0: off. Formulas: docs/peft.md."""

    weight_l1: NonNegative = 0.0
    """Coefficient of the sum of |w| over basis and base weights."""
    weight_l2: NonNegative = 0.0
    """Coefficient of the sum of w^2 over basis and base weights."""
    entropy: NonNegative = 0.0
    """Coefficient of the entropy of the norms of a layer's edges; favors few strong edges."""
    group_lasso: NonNegative = 0.0
    """Coefficient of the sum of the norms of the edges; removes whole edges."""
    smoothness: NonNegative = 0.0
    """Coefficient of the squared second differences of an edge's coefficients, for local bases."""
    activation_l1: NonNegative = 0.0
    """Coefficient of the mean |y| of each layer's output, times loss.auxiliary."""
    activation_l2: NonNegative = 0.0
    """Coefficient of the mean y^2 of each layer's output, times loss.auxiliary."""


class FinetuneConfig(Section):
    """Fine-tuning of all weights of a checkpoint, or of small additions to them.

    The keys from `extra_degrees` on select the trainable additions of frozen KAN layers: docs/peft.md.
    """

    init_from: str | None = None
    """Checkpoint, run folder or latest whose weights training starts from, except a classifier of another
    size; null: none."""
    new_head: bool = False
    """Reset the classifier also for the same classes; a classifier of other classes is always reset."""
    freeze: bool = False
    """Freeze the KAN layers except their norms and the additions below; other layers stay trainable."""
    extra_degrees: Annotated[int, Field(ge=0)] = 0
    """Number of degrees that are added to a polynomial basis."""
    degrees: list[Annotated[int, Field(ge=0)]] = Field(default_factory=list)
    """Degrees (of other bases: functions) whose weights get a trainable difference."""
    adapter_rank: Annotated[int, Field(ge=0)] = 0
    """Rank of a low-rank term of the basis weights; 0: none."""
    base_rank: Annotated[int, Field(ge=0)] = 0
    """Rank of a low-rank term of the base weights; 0: none."""
    train_base: bool = False
    """Train the base weights."""
    train_norms: bool = True
    """Train the norms of the KAN layers."""
    match: str | None = None
    """Regular expression that finds the names of the layers to freeze; null: all."""


class EMAConfig(Section):
    """Exponential moving average of the weights, which validation, test and the best checkpoint use."""

    decay: Annotated[float, Field(gt=0.0, lt=1.0)]
    """Weight of the old average at each optimizer step."""
    warmup: bool = False
    """Start with the smaller decay (1 + t) / (10 + t) at step t."""


class TrainerConfig(Section):
    """Arguments of the Lightning Trainer, and settings of the network on the device."""

    accelerator: Accelerator = "auto"
    """Kind of device; gpu: cuda or mps, whichever is available."""
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] | list[int] = "auto"
    """Number of devices, or their indices."""
    num_nodes: Count = 1
    """Number of machines."""
    strategy: Strategy = "auto"
    """Distribution over devices, by the names of Lightning; auto: ddp for several devices; fsdp: each device
    holds a shard of the weights (fully_shard of torch)."""
    precision: Precision = "32-true"
    """Number format; mixed formats are replaced by 32-true on CPUs, except bf16-mixed of trainer=cpu_bf16."""
    max_epochs: Count = 20
    """Number of training epochs."""
    max_steps: Annotated[int, Field(ge=-1)] = -1
    """Maximal number of optimizer steps; -1: no limit."""
    gradient_clip_val: NonNegative | None = None
    """Maximal norm or value of the gradient; null: no clipping."""
    gradient_clip_algorithm: Literal["norm", "value"] = "norm"
    """Clip the norm or each value of the gradient."""
    accumulate_grad_batches: Count | None = None
    """Batches of one process in an optimizer step; null: as the global batch needs, or 1."""
    global_batch_size: Count | None = None
    """Images in an optimizer step, over all processes and accumulated batches, in batches of at most
    data.batch_size. null: recipe.batch_size, or the result of data.batch_size if that is set."""
    matmul_precision: Literal["highest", "high", "medium"] = "high"
    """Precision of float32 matrix products on GPUs: highest: exact; high: TF32; medium: bfloat16."""
    deterministic: bool | Literal["warn"] = False
    """Use deterministic algorithms only; warn: warn about others."""
    benchmark: bool | None = None
    """Let cuDNN choose its algorithms by timing; null: the default of Lightning."""
    sync_batchnorm: bool = False
    """Statistics of batch norms over all devices (GPUs only)."""
    fast_dev_run: bool | Annotated[int, Field(ge=0)] = False
    """Run one batch, or this number of batches, of each stage and write nothing."""
    limit_train_batches: Annotated[int, Field(ge=0)] | Fraction = 1.0
    """Number or fraction of the training batches in an epoch."""
    limit_val_batches: Annotated[int, Field(ge=0)] | Fraction = 1.0
    """Number or fraction of the validation batches."""
    limit_test_batches: Annotated[int, Field(ge=0)] | Fraction = 1.0
    """Number or fraction of the test batches."""
    overfit_batches: Annotated[int, Field(ge=0)] | Fraction = 0.0
    """Train and validate on this number or fraction of batches, to check that the model can fit them."""
    val_check_interval: Count | Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Validate within an epoch: after this number of training batches, or this fraction of an epoch."""
    check_val_every_n_epoch: Count = 1
    """Epochs between two validations."""
    log_every_n_steps: Count = 20
    """Steps between two log entries."""
    num_sanity_val_steps: Annotated[int, Field(ge=-1)] = 0
    """Number of validation batches before training."""
    detect_anomaly: bool = False
    """Raise an error at the operation that makes a NaN (slow)."""
    profiler: Profiler | None = None
    """Lightning profiler; its tables go to fit-profile.txt and test-profile.txt in the run folder."""
    enable_progress_bar: bool = True
    """Show the progress bar."""
    channels_last: bool = False
    """Use the channels-last memory format (faster convolutions on GPUs)."""
    compile: bool | Literal["auto"] = False
    """Compile the network with torch.compile; auto: on a GPU, in runs that are long enough to win, and not
    where compilation fails."""

    @field_validator("devices", mode="before")
    @classmethod
    def _numbers_from_text(cls, value: object) -> object:
        return int(value) if isinstance(value, str) and value.isdigit() else value
