"""Keys of `recipe`, `optimizer`, `scheduler`, `loss`, `metrics`, `penalty`, `finetune`, `ema`, `trainer`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from .base import Accelerator, Count, Fraction, NonNegative, Positive, Precision, Rate, Section


class RecipeConfig(Section):
    """Where the training settings come from."""

    name: str
    """Name of the recipe file; default when none exists for this pair of model and data."""
    source: str
    """Publication, or who made it up."""
    batch_size: Count | None = None
    """Global batch (all devices and accumulated steps) that the learning rate was chosen for; null: any."""
    micro_batch_size: Count | None = None
    """Most images of one process at once where data.batch_size is null; more of a step are accumulated."""
    drop_path_rates: dict[str, Rate] = Field(default_factory=dict)
    """Stochastic depth by model size, for recipes that publish one for each."""


class OptimizerConfig(Section):
    """The optimizer, built by timm's `create_optimizer_v2`."""

    name: str = "adamw"
    """Name of an optimizer of timm (listed in kanvision.spec); lookahead_<name> puts Lookahead
    around it."""
    lr: Positive = 1e-3
    """Learning rate."""
    lr_scaling: Literal["none", "linear", "sqrt"] = "none"
    """How lr follows the global batch relative to recipe.batch_size."""
    weight_decay: NonNegative = 0.05
    """Weight decay of matrices and kernels."""
    decay_all: bool = False
    """Decay vectors and biases too, as torch does if left alone."""
    decay_rationals: bool = True
    """Decay the coefficients of rationals too, as the published KAT code does (false exempts them)."""
    kan_lr: Positive | None = None
    """Own learning rate of the KAN parameters (basis weights, rationals); null: lr."""
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Factor on the learning rate per layer, counted from the head; null: off."""
    betas: tuple[Fraction, Fraction] | None = None
    """Momenta of Adam-like optimizers; null: the optimizer's own."""
    eps: Positive | None = None
    """Epsilon of Adam-like optimizers; null: the optimizer's own."""
    momentum: Rate = 0.9
    """Momentum of SGD-like optimizers."""


class SchedulerConfig(Section):
    """The learning-rate schedule, built by timm's `create_scheduler_v2` but for plateau."""

    name: Literal["cosine", "linear", "poly", "step", "exponential", "constant", "plateau"] = "cosine"
    """Shape of the schedule; plateau comes down when `monitor` stops getting better."""
    warmup_epochs: NonNegative = 1.0
    """Epochs of linear warm-up; included in max_epochs, and half of them where the run is not longer."""
    warmup_lr: NonNegative = 1e-5
    """Learning rate at the start of the warm-up."""
    min_lr: NonNegative = 0.0
    """Learning rate at the end."""
    scale_min_lr: bool = True
    """Whether min_lr and warmup_lr follow kan_lr and layer_decay; false: they are the same for all."""
    decay_rate: Positive = 0.1
    """Factor of step, exponential and plateau schedules, power of poly."""
    decay_epochs: Positive = 30.0
    """Epochs between two steps of the step schedule."""
    patience: Annotated[int, Field(ge=0)] = 5
    """Validations without a better value that plateau puts up with."""
    interval: Literal["epoch", "step"] = "step"
    """Update the rate once an epoch or at every optimizer step."""


class LossConfig(Section):
    """The training loss."""

    name: Literal[
        "cross_entropy",
        "bce",
        "focal",
        "dice",
        "jaccard",
        "tversky",
        "lovasz",
        "generalized_dice",
        "ce_dice",
        "bce_dice",
        "kagn_dice",
    ] = "cross_entropy"
    """Classification: cross_entropy, bce. Segmentation: all; bce, bce_dice and kagn_dice not for multiclass
    masks, cross_entropy and ce_dice not for multilabel ones."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of the target spread over all classes; in segmentation with cross_entropy and ce_dice only."""
    gamma: NonNegative = 2.0
    """Power of the focal loss."""
    alpha: NonNegative = 0.5
    """Weight of false positives in the Tversky loss."""
    beta: NonNegative = 0.5
    """Weight of false negatives in the Tversky loss."""
    auxiliary: NonNegative = 1.0
    """Factor of what layers add to the loss: load balance of experts, penalties on activations."""


Protocol = Literal["image", "dataset", "paper"]
_PROTOCOLS: list[Protocol] = ["image", "dataset"]


class MetricsConfig(Section):
    """What is measured of masks, and how."""

    protocol: list[Protocol] = Field(default_factory=lambda: _PROTOCOLS.copy(), min_length=1)
    """Scores are means of the images' (image), of all pixels together (dataset, names end in _dataset), or as
    papers with U-KAN's code, means of the batches' (paper, names end in _batch)."""
    per_class: bool = False
    """Score each class too; iou_class1 is that of the first one that is not background."""
    threshold: Annotated[float, Field(gt=0.0, lt=1.0)] | Literal["search"] = 0.5
    """Probability above which a pixel of a binary or multilabel mask is foreground; search: for each class
    the best one of the validation images."""
    hd95: Literal["diagonal", "exclude"] | None = "diagonal"
    """Distance of borders, in the test; where one of two masks is empty, the image's diagonal (diagonal), or
    the image is left out and counted (exclude); null: not measured."""
    objects: bool = False
    """Find objects and score them as the GlaS challenge does, in the test; for binary masks."""

    @field_validator("protocol", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value


class PenaltyConfig(Section):
    """Penalties on the KAN layers, as terms of the training loss; 0 is off. Formulas: docs/peft.md."""

    weight_l1: NonNegative = 0.0
    """Coefficient of the sum of |w| over basis and base weights."""
    weight_l2: NonNegative = 0.0
    """Coefficient of the sum of w^2 over basis and base weights."""
    entropy: NonNegative = 0.0
    """Coefficient of the entropy of the sizes of a layer's edges: few strong ones, not many weak ones."""
    group_lasso: NonNegative = 0.0
    """Coefficient of the sum of the edges' norms, which removes whole edges."""
    smoothness: NonNegative = 0.0
    """Coefficient of the squared second differences of an edge's coefficients, for splines and the like."""
    activation_l1: NonNegative = 0.0
    """Coefficient of the mean |y| of each layer's output, times loss.auxiliary."""
    activation_l2: NonNegative = 0.0
    """Coefficient of the mean y^2 of each layer's output, times loss.auxiliary."""


class FinetuneConfig(Section):
    """Training that starts from other weights, of all of the network or of small additions to it.

    The keys from `extra_degrees` on say what `freeze` leaves trainable in the KAN layers: docs/peft.md.
    """

    init_from: str | None = None
    """Checkpoint, run folder or latest to start from, all but a classifier of another size; null: none."""
    new_head: bool = False
    """Start the classifier anew also for the same classes; for other ones it does anyway."""
    freeze: bool = False
    """Freeze the KAN layers but for their norms and what the keys below add; the rest trains on."""
    extra_degrees: Annotated[int, Field(ge=0)] = 0
    """Degrees to add to a polynomial basis."""
    degrees: list[Annotated[int, Field(ge=0)]] = Field(default_factory=list)
    """Degrees (functions, of other bases) whose weights get a trainable delta."""
    adapter_rank: Annotated[int, Field(ge=0)] = 0
    """Rank of a low-rank term on the basis weights; 0: none."""
    base_rank: Annotated[int, Field(ge=0)] = 0
    """Rank of a low-rank term on the base weights; 0: none."""
    train_base: bool = False
    """Train the base weights."""
    train_norms: bool = True
    """Train the norms inside the KAN layers."""
    match: str | None = None
    """Regular expression; only layers in whose name it is found are frozen and added to; null: all."""


class EMAConfig(Section):
    """Exponential moving average of the weights, which is validated, tested and kept as best."""

    decay: Annotated[float, Field(gt=0.0, lt=1.0)]
    """Share of the old average at each optimizer step."""
    warmup: bool = False
    """Start with a smaller decay, (1 + t) / (10 + t)."""


class TrainerConfig(Section):
    """Arguments of the Lightning Trainer, and how the network is run."""

    accelerator: Accelerator = "auto"
    """Kind of device; gpu: cuda or mps, whichever is there."""
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] | list[int] = "auto"
    """Number of devices, or their indices."""
    num_nodes: Count = 1
    """Number of machines."""
    strategy: Literal[
        "auto", "ddp", "ddp_find_unused_parameters_true", "ddp_spawn", "ddp_fork", "fsdp", "single_device"
    ] = "auto"
    """How several devices share the work (Lightning's names); auto: ddp as soon as there are several; fsdp:
    each holds a share of the weights (torch's fully_shard)."""
    precision: Precision = "32-true"
    """Number format; mixed formats fall back to 32-true where the device has none."""
    max_epochs: Count = 20
    """Epochs of training."""
    max_steps: Annotated[int, Field(ge=-1)] = -1
    """Stop after this many optimizer steps; -1: no limit."""
    gradient_clip_val: NonNegative | None = None
    """Largest gradient norm (or value); null: no clipping."""
    gradient_clip_algorithm: Literal["norm", "value"] = "norm"
    """What is clipped."""
    accumulate_grad_batches: Count | None = None
    """Batches of one process per optimizer step; null: as many as the global batch takes, or 1."""
    global_batch_size: Count | None = None
    """Images of an optimizer step, of all processes and accumulated batches together; a process takes at most
    data.batch_size of them at once. null: recipe.batch_size, or where data.batch_size is not null what it
    makes."""
    matmul_precision: Literal["highest", "high", "medium"] = "high"
    """float32 matrix products on GPUs: highest is exact, high uses TF32."""
    deterministic: bool | Literal["warn"] = False
    """Use deterministic algorithms only."""
    benchmark: bool | None = None
    """Let cuDNN time its algorithms."""
    sync_batchnorm: bool = False
    """Batch statistics over all devices (GPUs only)."""
    fast_dev_run: bool | Annotated[int, Field(ge=0)] = False
    """Run this many batches of each stage and write nothing."""
    limit_train_batches: Annotated[int, Field(ge=0)] | Fraction = 1.0
    """Number or share of training batches per epoch."""
    limit_val_batches: Annotated[int, Field(ge=0)] | Fraction = 1.0
    """Number or share of validation batches."""
    limit_test_batches: Annotated[int, Field(ge=0)] | Fraction = 1.0
    """Number or share of test batches."""
    overfit_batches: Annotated[int, Field(ge=0)] | Fraction = 0.0
    """Train and validate on this many batches, to see that the model can learn at all."""
    check_val_every_n_epoch: Count = 1
    """Epochs between two validations."""
    log_every_n_steps: Count = 20
    """Steps between two log entries."""
    num_sanity_val_steps: Annotated[int, Field(ge=-1)] = 0
    """Validation batches before training."""
    detect_anomaly: bool = False
    """Raise at the operation that made a NaN (slow)."""
    profiler: Literal["simple", "advanced", "pytorch"] | None = None
    """Lightning profiler; its tables go to fit-profile.txt and test-profile.txt in the run folder."""
    enable_progress_bar: bool = True
    """Show the progress bar."""
    channels_last: bool = False
    """Keep feature maps in channels-last order (faster convolutions on GPUs)."""
    compile: bool = False
    """Compile the network with torch.compile."""

    @field_validator("devices", mode="before")
    @classmethod
    def _numbers_from_text(cls, value: object) -> object:
        return int(value) if isinstance(value, str) and value.isdigit() else value
