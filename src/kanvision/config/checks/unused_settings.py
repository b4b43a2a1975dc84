"""Settings that the user made and that change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from hydra.core.hydra_config import HydraConfig

from kanvision.config.schema.root import TrainConfig

from .batch_size import mixes_images

__all__ = ["notes"]


class UnusedSetting(NamedTuple):
    """When a setting has no effect, and why."""

    keys: tuple[str, ...]
    when: Callable[[TrainConfig], bool]
    why: str


def _is_plain_twin(config: TrainConfig) -> bool:
    return getattr(config.model, "plain", False) is True


def _has_no_basis(config: TrainConfig) -> bool:
    is_rational = getattr(config.model, "preset", None) == "group_rational"
    return not config.model.takes_basis or is_rational or _is_plain_twin(config)


def _is_kanified(config: TrainConfig) -> bool:
    kanify = getattr(config.model, "kanify", None)
    return (
        kanify is not None and not _is_plain_twin(config) and any((kanify.mlp, kanify.attention, kanify.conv))
    )


def _has_rationals(config: TrainConfig) -> bool:
    kanify = getattr(config.model, "kanify", None)
    is_kanified = kanify is not None and kanify.mlp is not None
    return not _is_plain_twin(config) and (config.model.family == "kat" or is_kanified)


def _uses_momentum(config: TrainConfig) -> bool:
    name = config.optimizer.name
    return any(word in name for word in ("sgd", "momentum", "nesterov", "rmsprop", "lars", "muon"))


_OF_KAN_PARTS = (
    *("model.act_init", "model.act1_init", "model.num_groups", "model.checkpoint"),
    *("model.share", "model.rank", "model.order", "model.base_act", "model.include_dc", "model.unit_scales"),
    *("model.w_bias", "model.project", "model.num_softmax_heads", "model.karat_layers", "model.mask_mode"),
    *("model.num_frequencies", "model.implementation", "model.kanify"),
)
"""Keys of the rationals of KAT, of the attention of KArAt, and of what turns a network of timm into a KAN."""

IDLE = (
    UnusedSetting(("basis",), _has_no_basis, "this model has no basis"),
    UnusedSetting(_OF_KAN_PARTS, _is_plain_twin, "model.plain=true builds the plain twin"),
    UnusedSetting(
        ("optimizer.kan_lr",),
        lambda c: not c.model.has_kan_layers and not _is_kanified(c),
        "this model has no KAN parameters",
    ),
    UnusedSetting(
        ("optimizer.decay_rationals",), lambda c: not _has_rationals(c), "this model has no rationals"
    ),
    UnusedSetting(
        ("model.kanify.act_init", "model.kanify.num_groups"),
        lambda c: not _has_rationals(c),
        "only model.kanify.mlp=group_rational makes rationals",
    ),
    UnusedSetting(
        ("model.init_from_mode",),
        lambda c: getattr(c.model, "init_from", None) is None,
        "model.init_from is null",
    ),
    UnusedSetting(
        ("finetune.new_head",),
        lambda c: c.finetune.init_from is None,
        "finetune.init_from is null, so that everything is new",
    ),
    UnusedSetting(
        ("optimizer.momentum",),
        lambda c: not _uses_momentum(c),
        "this optimizer has no momentum of that kind",
    ),
    UnusedSetting(
        ("optimizer.betas",),
        lambda c: c.optimizer.name in ("sgd", "momentum", "nesterov"),
        "SGD has no betas",
    ),
    UnusedSetting(
        ("scheduler.decay_rate",),
        lambda c: c.scheduler.name not in ("step", "exponential", "poly", "plateau"),
        "only step, exponential, poly and plateau schedules have a decay rate",
    ),
    UnusedSetting(
        ("scheduler.decay_epochs",),
        lambda c: c.scheduler.name not in ("step", "exponential"),
        "only step and exponential schedules have a decay period",
    ),
    UnusedSetting(("scheduler.patience",), lambda c: c.scheduler.name != "plateau", "only plateau waits"),
    UnusedSetting(
        ("scheduler.scale_min_lr",),
        lambda c: c.optimizer.kan_lr is None and c.optimizer.layer_decay is None,
        "all parameters have one rate",
    ),
    UnusedSetting(
        ("scheduler.warmup_lr",), lambda c: c.scheduler.warmup_epochs == 0, "scheduler.warmup_epochs is 0"
    ),
    UnusedSetting(
        ("scheduler.min_lr",),
        lambda c: c.scheduler.name == "constant",
        "a constant schedule does not come down",
    ),
    UnusedSetting(("loss.gamma",), lambda c: c.loss.name != "focal", "only the focal loss has it"),
    UnusedSetting(
        ("loss.alpha", "loss.beta"), lambda c: c.loss.name != "tversky", "only the Tversky loss has it"
    ),
    UnusedSetting(("metrics",), lambda c: c.data.task == "classification", "it is for images with masks"),
    UnusedSetting(
        ("metrics.per_class",),
        lambda c: getattr(c.data, "mode", "binary") == "binary",
        "there is one foreground class",
    ),
    UnusedSetting(("augment.pad",), lambda c: c.augment.crop != "pad", "only augment.crop=pad pads"),
    UnusedSetting(
        ("augment.scale", "augment.ratio"),
        lambda c: c.augment.crop != "random_resized",
        "only augment.crop=random_resized uses it",
    ),
    UnusedSetting(
        ("augment.color_jitter",), lambda c: c.augment.auto_augment is not None, "augment.auto_augment is on"
    ),
    UnusedSetting(
        ("augment.re_mode", "augment.re_count"), lambda c: c.augment.re_prob == 0, "augment.re_prob is 0"
    ),
    UnusedSetting(("mixup.prob", "mixup.mode"), lambda c: not mixes_images(c), "both alphas are 0"),
    UnusedSetting(
        ("mixup.switch_prob",),
        lambda c: min(c.mixup.mixup_alpha, c.mixup.cutmix_alpha) == 0,
        "it chooses between mixup and CutMix, which are not both on",
    ),
    UnusedSetting(
        ("data.split_seed",),
        lambda c: c.data.val_fraction == 0 and getattr(c.data, "split", "official") == "official",
        "data.val_fraction is 0",
    ),
    UnusedSetting(
        ("data.split",),
        lambda c: getattr(c.data, "split_file", None) is not None,
        "data.split_file decides",
    ),
    UnusedSetting(
        ("augment.backend",),
        lambda c: c.data.task == "classification",
        "it is for images with masks",
    ),
    UnusedSetting(
        ("data.max_bad_samples",),
        lambda c: c.data.on_bad_sample == "raise",
        "data.on_bad_sample=raise allows none",
    ),
    UnusedSetting(("data.download",), lambda c: c.data.root is None, "these data ship with a package"),
    UnusedSetting(
        ("trainer.gradient_clip_algorithm",),
        lambda c: c.trainer.gradient_clip_val is None,
        "trainer.gradient_clip_val is null",
    ),
    UnusedSetting(
        ("trainer.sync_batchnorm",),
        lambda c: c.trainer.devices == 1 and c.trainer.num_nodes == 1,
        "there is one device",
    ),
    UnusedSetting(
        ("trainer.precision",),
        lambda c: c.trainer.accelerator == "cpu" and c.trainer.precision.endswith("-mixed"),
        "CPUs run in 32-true",
    ),
    UnusedSetting(
        ("recipe.drop_path_rates",), lambda c: c.recipe.name == "default", "only recipes look it up"
    ),
)


def notes(config: TrainConfig, overrides: Sequence[str] | None = None) -> list[str]:
    """One line for each setting of the user that has no effect, and for settings that hamper each other.

    Args:
        config: The checked configuration.
        overrides: The user's overrides; None asks Hydra for those of the running job.
    """
    if overrides is None:
        overrides = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    return [*_idle(config, overrides), *_hampered(config)]


def _idle(config: TrainConfig, overrides: Sequence[str]) -> Iterator[str]:
    for override in overrides:
        key = override.partition("=")[0].lstrip("+")
        for idle in IDLE:
            if any(key == name or key.startswith(f"{name}.") for name in idle.keys) and idle.when(config):
                yield f"{override} has no effect: {idle.why}"


def _hampered(config: TrainConfig) -> Iterator[str]:
    trainer = config.trainer
    batches, accumulated = trainer.limit_train_batches, trainer.accumulate_grad_batches or 1
    if isinstance(batches, int) and 0 < batches < accumulated:
        yield (
            f"trainer.limit_train_batches={batches} ends each epoch before the {accumulated} batches of a "
            "step are together: the optimizer sees smaller ones"
        )
    for name, entry in config.callbacks.items():
        if str(entry.get("_target_")).endswith(".GradientAccumulationScheduler"):
            yield (
                f"callbacks.{name} changes the batches of an optimizer step between epochs "
                f"(scheduling={entry.get('scheduling')}), and the effective batch with them"
            )
    late = trainer.check_val_every_n_epoch > trainer.max_epochs
    if (trainer.limit_val_batches == 0 or late) and config.monitor.startswith("val/"):
        why = f": the first one is due after epoch {trainer.check_val_every_n_epoch}" if late else ""
        yield f"nothing is validated, so {config.monitor} chooses no checkpoint{why}"
