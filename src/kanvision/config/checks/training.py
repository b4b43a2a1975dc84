"""Rules on the optimizer, the devices, fine-tuning, and the folders of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kanvision.config.cli.quoting import shell_word
from kanvision.config.runtime.run_folder import CHOSEN_LATER, find_run_folder, list_checkpoints, unwritable
from kanvision.config.schema.root import TrainConfig
from kanvision.config.schema.training import FinetuneConfig, PenaltyConfig, TrainerConfig
from kanvision.config.suggestions import closest
from kanvision.spec.optimizers import OPTIMIZERS, UNSUPPORTED_OPTIMIZERS, base_optimizer_name

from .rules import CHECKPOINT, Rule

__all__ = ["RULES"]


def _unknown_optimizer(name: str) -> dict[str, str] | None:
    name = base_optimizer_name(name)
    if name in OPTIMIZERS:
        return None
    if name in UNSUPPORTED_OPTIMIZERS:
        return {"why": UNSUPPORTED_OPTIMIZERS[name], "fix": "take adamw, lion, muon or sgd"}
    near = closest(name, sorted(OPTIMIZERS))
    return {"why": "no such name in timm's registry", "fix": f"nearest: {', '.join(near)}" if near else ""}


def _several_devices(trainer: TrainerConfig) -> dict[str, str] | None:
    """Return the key that asks for more than one device, if any."""
    count = len(trainer.devices) if isinstance(trainer.devices, list) else trainer.devices
    if trainer.num_nodes > 1:
        return {"devices": "trainer.num_nodes"}
    return None if count in ("auto", 0, 1) else {"devices": "trainer.devices"}


def _weight_penalties(strategy: str, penalty: PenaltyConfig) -> list[dict[str, str]]:
    names = [name for name in type(penalty).model_fields if not name.startswith("activation")]
    return [{"name": name} for name in names if strategy == "fsdp" and getattr(penalty, name)]


def _keys_without_freeze(tune: FinetuneConfig) -> list[dict[str, str]]:
    default = FinetuneConfig()
    names = [name for name in FinetuneConfig.model_fields if name not in ("init_from", "new_head", "freeze")]
    changed = [name for name in names if getattr(tune, name) != getattr(default, name)]
    return [] if tune.freeze else [{"name": name} for name in changed]


def _missing_origin(source: str | None, root: str, resume: str | None) -> dict[str, Any] | None:
    origin = Path(root, "latest") if source == "latest" else Path(source or ".")
    return None if resume is not None or origin.exists() else {"origin": origin}


def _missing_checkpoint(resume: str | None) -> dict[str, str] | None:
    if resume is None or resume == "auto":
        return None
    path = Path(resume)
    if not path.exists():
        return {"why": "there is no such file or folder"}
    is_empty = path.is_dir() and not list_checkpoints(path)
    return {"why": "the folder holds no checkpoint (*.ckpt)"} if is_empty else None


def _unwritable_folder(config: TrainConfig) -> dict[str, str] | None:
    key = "run.root" if config.run.dir == CHOSEN_LATER else "run.dir"
    why = unwritable(Path(config.run.root if key == "run.root" else config.run.dir))
    return {"key": key, "why": why} if why and not config.trainer.fast_dev_run else None


def _other_run(config: TrainConfig) -> dict[str, str] | None:
    folder, resume = Path(config.run.dir), config.resume
    resumed = find_run_folder(resume) if resume not in (None, "auto") else None
    is_resumed = resume == "auto" or (resumed is not None and resumed.resolve() == folder.resolve())
    if is_resumed or config.trainer.fast_dev_run or not list_checkpoints(folder):
        return None
    return {"resume": shell_word("resume", str(folder))}


# fmt: off
RULES = (
    Rule("optimizer.name", _unknown_optimizer, "{why}", "{fix}"),
    Rule("optimizer.lr_scaling recipe.batch_size",
         lambda scaling, batch: scaling != "none" and batch is None,
         "the learning rate can only be scaled from the batch size that it was chosen for",
         "set recipe.batch_size to that size, or optimizer.lr_scaling=none"),

    Rule("trainer.devices", lambda devices: devices == [],
         "an empty list names no device", "name one, or take auto"),
    Rule("trainer.devices trainer.accelerator",
         lambda devices, accelerator: isinstance(devices, list) and accelerator == "cpu",
         "CPU processes have no indices", "give their number instead"),
    Rule("trainer.strategy {devices}",
         lambda trainer: trainer.strategy == "single_device" and _several_devices(trainer),
         "single_device uses one device of one machine", "take trainer.strategy=ddp", reads="trainer"),
    Rule("{devices} trainer.accelerator",
         lambda trainer: trainer.accelerator == "mps" and _several_devices(trainer),
         "mps has one device", "take trainer.devices=1 trainer.num_nodes=1", reads="trainer"),
    Rule("trainer.sync_batchnorm trainer.accelerator",
         lambda trainer: trainer.sync_batchnorm and trainer.accelerator == "cpu"
         and _several_devices(trainer),
         "batch norms over several processes work on GPUs only", "take trainer.sync_batchnorm=false",
         reads="trainer"),
    Rule("trainer.strategy trainer.accelerator",
         lambda strategy, accelerator: strategy == "fsdp" and accelerator == "mps",
         "mps has one device", "take trainer.strategy=auto"),
    Rule("trainer.strategy trainer.precision",
         lambda strategy, precision: strategy == "fsdp" and precision == "16-mixed",
         "fsdp has no gradient scaler", "take trainer.precision=bf16-mixed"),
    Rule("trainer.strategy trainer.sync_batchnorm", lambda strategy, sync: strategy == "fsdp" and sync,
         "fsdp does not synchronize batch norms", "take trainer.strategy=ddp"),
    Rule("trainer.strategy ema", lambda strategy, ema: strategy == "fsdp" and ema is not None,
         "the average would hold whole weights on each device", "take ema=null or trainer.strategy=ddp"),
    Rule("trainer.strategy penalty.{name}", _weight_penalties,
         "a penalty on weights needs whole weights", "take trainer.strategy=ddp",
         reads="trainer.strategy penalty"),
    Rule("trainer.max_steps", lambda steps: steps == 0, "no step would be made", "-1 sets no limit"),
    Rule("trainer.gradient_clip_val", lambda value: value == 0,
         "0 would set every gradient to zero, but Lightning reads it as no clipping",
         "null switches clipping off"),

    Rule("resume", _missing_checkpoint, "{why}",
         "give a checkpoint file or a run folder, or take resume=auto"),
    Rule("finetune.init_from", _missing_origin, "there is no file or folder {origin}", CHECKPOINT,
         reads="finetune.init_from run.root resume"),
    Rule("finetune.freeze finetune.init_from", lambda freeze, source: freeze and source is None,
         "would freeze random weights",
         "give the weights to start from: finetune.init_from=<run folder or checkpoint>"),
    Rule("finetune.{name} finetune.freeze", _keys_without_freeze,
         "only concerns frozen layers", "add finetune.freeze=true", reads="finetune"),
    Rule("model.init_from finetune.init_from", lambda model, tune: None not in (model, tune),
         "both set the weights of the network", "take one of them"),
    Rule("finetune.base_rank finetune.train_base", lambda rank, base: rank and base,
         "a low-rank term is for base weights that are not trained", "choose one of them"),
    Rule("{key}", _unwritable_folder, "nothing can be written there: {why}", "choose another {key}",
         reads="*"),
    Rule("run.dir", _other_run, "the folder holds another run, which would be overwritten",
         "choose another run.dir, or resume that run: {resume}", reads="*"),
)
# fmt: on
