"""Notes on settings of the user that have no effect, or that limit each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig

from kanvision.config.schema.root import TrainConfig

from .batch_size import mixes_images
from .rules import Rule

__all__ = ["UNUSED", "notes"]

MOMENTUM = ("sgd", "momentum", "nesterov", "rmsprop", "lars", "muon")
"""Parts of the names of optimizers that read `optimizer.momentum`."""


KAN_KEYS = (
    "act_init act1_init num_groups share rank order base_act include_dc unit_scales w_bias "
    "project num_softmax_heads karat_layers mask_mode num_frequencies implementation kanify"
)
"""Keys of the rationals of KAT, of the attention of KArAt, and of the KAN layers in a network of timm."""


def _is_plain_twin(model: Any) -> bool:
    return getattr(model, "plain", False) is True


def _has_no_basis(model: Any) -> bool:
    is_rational = getattr(model, "preset", None) == "group_rational"
    return not model.takes_basis or is_rational or _is_plain_twin(model)


def _is_kanified(model: Any) -> bool:
    kanify = None if _is_plain_twin(model) else getattr(model, "kanify", None)
    return kanify is not None and any((kanify.mlp, kanify.attention, kanify.conv))


def _has_rationals(model: Any) -> bool:
    kanify = getattr(model, "kanify", None)
    is_kanified = kanify is not None and kanify.mlp is not None
    return not _is_plain_twin(model) and (model.family == "kat" or is_kanified)


# fmt: off
UNUSED: tuple[Rule, ...] = (
    Rule("basis", _has_no_basis, "this model has no basis", reads="model"),
    Rule(" ".join(f"model.{key}" for key in KAN_KEYS.split()), lambda plain: plain is True,
         "model.plain=true builds the plain twin", reads="model.plain"),
    Rule("optimizer.kan_lr", lambda model: not model.has_kan_layers and not _is_kanified(model),
         "this model has no KAN parameters", reads="model"),
    Rule("optimizer.decay_rationals", lambda model: not _has_rationals(model),
         "this model has no rationals", reads="model"),
    Rule("model.kanify.act_init model.kanify.num_groups", lambda model: not _has_rationals(model),
         "only model.kanify.mlp=group_rational makes rationals", reads="model"),
    Rule("model.init_from_mode", lambda source: source is None, "model.init_from is null",
         reads="model.init_from"),
    Rule("finetune.new_head", lambda source: source is None,
         "finetune.init_from is null, so that all weights are new", reads="finetune.init_from"),
    Rule("optimizer.momentum", lambda name: not any(part in name for part in MOMENTUM),
         "this optimizer has no momentum of that kind", reads="optimizer.name"),
    Rule("optimizer.betas", lambda name: name in ("sgd", "momentum", "nesterov"), "SGD has no betas",
         reads="optimizer.name"),
    Rule("scheduler.decay_rate", lambda name: name not in ("step", "exponential", "poly", "plateau"),
         "only step, exponential, poly and plateau schedules have a decay rate", reads="scheduler.name"),
    Rule("scheduler.decay_epochs", lambda name: name not in ("step", "exponential"),
         "only step and exponential schedules have a decay period", reads="scheduler.name"),
    Rule("scheduler.patience", lambda name: name != "plateau", "only the plateau schedule has a patience",
         reads="scheduler.name"),
    Rule("scheduler.scale_min_lr", lambda kan_lr, layer_decay: kan_lr is None and layer_decay is None,
         "all parameters have one learning rate", reads="optimizer.kan_lr optimizer.layer_decay"),
    Rule("scheduler.warmup_lr", lambda epochs: epochs == 0, "scheduler.warmup_epochs is 0",
         reads="scheduler.warmup_epochs"),
    Rule("scheduler.min_lr", lambda name: name == "constant",
         "a constant schedule does not reduce the learning rate", reads="scheduler.name"),
    Rule("loss.gamma", lambda name: name != "focal", "only the focal loss has it", reads="loss.name"),
    Rule("loss.alpha loss.beta", lambda name: name != "tversky", "only the Tversky loss has it",
         reads="loss.name"),
    Rule("metrics augment.backend", lambda task: task == "classification",
         "it is for images with masks", reads="data.task"),
    Rule("metrics.per_class", lambda mode: mode == "binary", "there is one foreground class",
         reads="data.mode"),
    Rule("augment.pad", lambda crop: crop != "pad", "only augment.crop=pad pads", reads="augment.crop"),
    Rule("augment.scale augment.ratio", lambda crop: crop != "random_resized",
         "only augment.crop=random_resized uses it", reads="augment.crop"),
    Rule("augment.color_jitter", lambda policy: policy is not None, "augment.auto_augment is on",
         reads="augment.auto_augment"),
    Rule("augment.re_mode augment.re_count", lambda prob: prob == 0, "augment.re_prob is 0",
         reads="augment.re_prob"),
    Rule("mixup.prob mixup.mode", lambda config: not mixes_images(config), "both alphas are 0", reads="*"),
    Rule("mixup.switch_prob", lambda *alphas: 0 in alphas,
         "it chooses between mixup and CutMix, which are not both on",
         reads="mixup.mixup_alpha mixup.cutmix_alpha"),
    Rule("data.split_seed",
         lambda data: data.val_fraction == 0 and getattr(data, "split", "official") == "official",
         "data.val_fraction is 0", reads="data"),
    Rule("data.split", lambda file: file is not None, "data.split_file sets the split",
         reads="data.split_file"),
    Rule("data.max_bad_samples", lambda action: action == "raise", "data.on_bad_sample=raise allows none",
         reads="data.on_bad_sample"),
    Rule("data.download", lambda root: root is None, "this data set is part of a package", reads="data.root"),
    Rule("trainer.gradient_clip_algorithm", lambda value: value is None, "trainer.gradient_clip_val is null",
         reads="trainer.gradient_clip_val"),
    Rule("trainer.sync_batchnorm", lambda *counts: counts == (1, 1), "there is one device",
         reads="trainer.devices trainer.num_nodes"),
    Rule("trainer.precision",
         lambda accelerator, precision: accelerator == "cpu" and precision.endswith("-mixed"),
         "CPUs run in 32-true", reads="trainer.accelerator trainer.precision"),
    Rule("recipe.drop_path_rates", lambda name: name == "default", "only recipes use it",
         reads="recipe.name"),
)
"""Settings (`keys`) that have no effect where the condition on other settings holds."""

CONFLICTS: tuple[Rule, ...] = (
    Rule("", lambda batches, steps: isinstance(batches, int) and 0 < batches < (steps or 1),
         "trainer.limit_train_batches={limit_train_batches} ends each epoch before the "
         "{accumulate_grad_batches} batches of an optimizer step are complete: its batch is smaller",
         reads="trainer.limit_train_batches trainer.accumulate_grad_batches"),
    Rule("", lambda callbacks: [
            {"name": name, "scheduling": arguments.get("scheduling")} for name, arguments in callbacks.items()
            if str(arguments.get("_target_")).endswith(".GradientAccumulationScheduler")],
         "callbacks.{name} changes the number of batches of an optimizer step between epochs "
         "(scheduling={scheduling}), and the effective batch size with it", reads="callbacks"),
    Rule("", lambda every, epochs, limit, monitor:
         monitor.startswith("val/") and (every > epochs or limit == 0)
         and {"when": f": the first validation would follow epoch {every}" if every > epochs else ""},
         "nothing is validated, so {monitor} chooses no checkpoint{when}",
         reads="trainer.check_val_every_n_epoch trainer.max_epochs trainer.limit_val_batches monitor"),
)
"""Settings that limit each other; the run starts nevertheless."""
# fmt: on


def notes(config: TrainConfig, overrides: Sequence[str] | None = None) -> list[str]:
    """Return lines on overrides (None: of this job) without effect, and on settings that limit others."""
    if overrides is None:
        overrides = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    conflicts = [problem.why for rule in CONFLICTS for problem in rule.problems(config)]
    return [*_unused(config, overrides), *conflicts]


def _unused(config: TrainConfig, overrides: Sequence[str]) -> Iterator[str]:
    for override in overrides:
        key = override.partition("=")[0].lstrip("+")
        for rule in UNUSED:
            is_named = any(f"{key}.".startswith(f"{name}.") for name in rule.keys.split())
            if is_named and rule.matches(config):
                yield f"{override} has no effect: {rule.why}"
