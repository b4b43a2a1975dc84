"""Settings that are legal one by one and impossible together: each with the reason and the way out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kanvision.config.cli.quoting import shell_word
from kanvision.config.errors import Problem, problem_at
from kanvision.config.groups import ConfigGroups
from kanvision.config.keys import closest, format_yaml
from kanvision.config.runtime.run_folder import CHOSEN_LATER, find_run_folder, list_checkpoints, unwritable
from kanvision.config.schema.root import EvalConfig, TrainConfig
from kanvision.config.schema.transformers import KATConfig, TransformerConfig
from kanvision.config.targets import run_targets
from kanvision.config.timm_names import is_own, timm_models
from kanvision.spec.models import VIT_SIZES
from kanvision.spec.optimizers import OPTIMIZERS, UNSUPPORTED_OPTIMIZERS, base_optimizer_name
from kanvision.spec.tasks import KIND_BY_TASK

from .batch_size import batch_problems, mixes_images
from .callbacks import callback_problems
from .data import data_problems
from .evaluation import analysis_problems, mode_problems, prediction_problems
from .losses_and_metrics import score_problems
from .models import convolutions, plain_twins, segmenters

__all__ = ["eval_problems", "train_problems"]


def train_problems(config: TrainConfig, choices: ConfigGroups | None = None) -> list[Problem]:
    """Everything in a training configuration that does not fit together.

    Args:
        config: Configuration that fits the schema.
        choices: The folder conf/, to name legal choices and to know the keys of each basis; None skips both.
    """
    problems = [problem for check in CHECKS for problem in check(config)]
    if choices is not None:
        problems = [_with_choices(problem, choices) for problem in problems]
        problems.extend(basis_problems(config, choices))
    return problems


def eval_problems(config: EvalConfig) -> list[Problem]:
    """Everything in an evaluation configuration that cannot be."""
    latest = config.ckpt == "latest"
    path = Path(config.run_root, "latest") if latest else Path(config.ckpt)
    problems = [*mode_problems(config), *prediction_problems(config), *analysis_problems(config)]
    if not path.exists():
        why = f"there is no run in {config.run_root}" if latest else f"there is no file or folder {path}"
        problems.append(problem_at(config, ["ckpt"], why, "give a checkpoint file, a run folder, or latest"))
    return problems


def _kind(config: TrainConfig) -> Iterator[Problem]:
    task, kind = config.data.task, config.model.kind
    if kind != KIND_BY_TASK[task]:
        why = f"the data are for {task}, but model={config.model.family} is a {kind}"
        yield problem_at(
            config, ["model.kind", "data.task"], why, f"take a {KIND_BY_TASK[task]} or other data"
        )


def _with_choices(problem: Problem, choices: ConfigGroups) -> Problem:
    """Name the models and data that would fit each other."""
    if problem.keys != ("model.kind", "data.task"):
        return problem
    kind, task = (given.partition("=")[2] for given in problem.given)
    kinds: dict[str, str] = dict(KIND_BY_TASK.items())
    models = [
        name for name in choices.of("model") if choices.content("model", name).get("kind") == kinds[task]
    ]
    data = [
        name
        for name in choices.of("data")
        if kinds.get(choices.content("data", name).get("task", "")) == kind
    ]
    lines = [
        f"models for {task}: {', '.join(models) or 'none yet'}",
        f"data for a {kind}: {', '.join(data) or 'none yet'}",
    ]
    return Problem(problem.keys, problem.given, problem.why, "\n".join(lines))


def _image_size(config: TrainConfig) -> Iterator[Problem]:
    model = config.model
    size = getattr(model, "img_size", None)
    if size is not None and size != config.data.img_size:
        why = "the model is built for another size than that of the images"
        yield problem_at(
            config, ["model.img_size", "data.img_size"], why, "set data.img_size alone; the model follows"
        )
    patch = getattr(model, "patch_size", None)
    if size is not None and patch is not None and size % patch:
        legal = [side for side in range(1, size + 1) if size % side == 0]
        near = sorted(sorted(legal, key=lambda side: abs(side - patch))[:3])
        why = "the patches do not tile the image"
        yield problem_at(
            config, ["model.patch_size", "model.img_size"], why, f"divisors of {size} near it: {near}"
        )


def _widths(config: TrainConfig) -> Iterator[Problem]:
    model = config.model
    if not isinstance(model, TransformerConfig):
        return
    size = VIT_SIZES[model.size]
    width, heads = model.embed_dim or size["embed_dim"], model.num_heads or size["num_heads"]
    if width % heads:
        why = f"a width of {width} cannot be split evenly over {heads} heads"
        fix = f"take a width that is a multiple of {heads}, or other heads"
        yield problem_at(config, ["model.embed_dim", "model.num_heads"], why, fix)
    if isinstance(model, KATConfig) and not model.plain and width % model.num_groups:
        why = f"a width of {width} cannot be split evenly into {model.num_groups} groups of rationals"
        legal = [
            count for count in range(1, width + 1) if width % count == 0 and count <= 2 * model.num_groups
        ]
        yield problem_at(
            config, ["model.num_groups", "model.embed_dim"], why, f"divisors of {width}: {legal}"
        )


def _registered(config: TrainConfig) -> Iterator[Problem]:
    unknown = "no such name in timm's registry"
    asked = [("optimizer.name", base_optimizer_name(config.optimizer.name), frozenset(OPTIMIZERS))]
    name = config.model.name
    # Names with an address are not timm's own.
    if config.model.family == "timm" and not re.search(r"[:/]", name) and not is_own(name):
        asked.append(("model.name", name.partition(".")[0], timm_models()))
    for key, word, known in asked:
        if known and word not in known:
            near = closest(word, sorted(known))
            fix = f"nearest: {', '.join(near)}" if near else ""
            if word in UNSUPPORTED_OPTIMIZERS:
                fix = "take another one, for instance adamw, lion, muon or sgd"
            yield problem_at(config, [key], UNSUPPORTED_OPTIMIZERS.get(word, unknown), fix)


def _mixup(config: TrainConfig) -> Iterator[Problem]:
    own, whole = config.data.batch_size, config.trainer.global_batch_size
    if mixes_images(config) and own and own % 2 and whole is None:
        why = "images are mixed in pairs, which an odd batch does not have"
        alpha = "mixup_alpha" if config.mixup.mixup_alpha > 0 else "cutmix_alpha"
        fix = "take an even data.batch_size, or mixup.mixup_alpha=0 mixup.cutmix_alpha=0"
        yield problem_at(config, ["data.batch_size", f"mixup.{alpha}"], why, fix)


def _recipe_batch(config: TrainConfig) -> Iterator[Problem]:
    if config.optimizer.lr_scaling != "none" and config.recipe.batch_size is None:
        why = "the learning rate can only be scaled from a batch that it was chosen for"
        fix = "set recipe.batch_size to that batch, or optimizer.lr_scaling=none"
        yield problem_at(config, ["optimizer.lr_scaling", "recipe.batch_size"], why, fix)


def _devices(config: TrainConfig) -> Iterator[Problem]:
    trainer = config.trainer
    several = trainer.num_nodes > 1 or trainer.devices not in ("auto", 1)
    if isinstance(trainer.devices, list):
        several = trainer.num_nodes > 1 or len(trainer.devices) > 1
        if not trainer.devices:
            yield problem_at(
                config, ["trainer.devices"], "an empty list names no device", "name one, or take auto"
            )
        if trainer.accelerator == "cpu":
            why = "CPU processes have no indices"
            yield problem_at(
                config, ["trainer.devices", "trainer.accelerator"], why, "give their number instead"
            )
    keys = ["trainer.strategy", "trainer.num_nodes" if trainer.num_nodes > 1 else "trainer.devices"]
    if several and trainer.strategy == "single_device":
        yield problem_at(
            config, keys, "single_device uses one device of one machine", "take trainer.strategy=ddp"
        )
    if several and trainer.accelerator == "mps":
        why = "mps has one device"
        yield problem_at(
            config, [keys[1], "trainer.accelerator"], why, "take trainer.devices=1 trainer.num_nodes=1"
        )
    if several and trainer.sync_batchnorm and trainer.accelerator == "cpu":
        why = "batch norms over several processes work on GPUs only"
        yield problem_at(config, ["trainer.sync_batchnorm", "trainer.accelerator"], why)
    if trainer.strategy == "fsdp":
        yield from _sharded(config)


def _sharded(config: TrainConfig) -> Iterator[Problem]:
    """What needs whole weights outside of the network's own layers."""
    if config.trainer.accelerator == "mps":
        why = "mps has one device"
        yield problem_at(
            config, ["trainer.strategy", "trainer.accelerator"], why, "take trainer.strategy=auto"
        )
    if config.trainer.precision == "16-mixed":
        why, fix = "fsdp has no gradient scaler", "take trainer.precision=bf16-mixed"
        yield problem_at(config, ["trainer.strategy", "trainer.precision"], why, fix)
    if config.trainer.sync_batchnorm:
        why, fix = "fsdp leaves batch norms as they are", "take trainer.strategy=ddp"
        yield problem_at(config, ["trainer.strategy", "trainer.sync_batchnorm"], why, fix)
    if config.ema is not None:
        why, fix = (
            "an average would hold whole weights on each device",
            "take ema=null or trainer.strategy=ddp",
        )
        yield problem_at(config, ["trainer.strategy", "ema"], why, fix)
    for name in type(config.penalty).model_fields:
        if getattr(config.penalty, name) and not name.startswith("activation"):
            why, fix = "a penalty on weights needs them whole", "take trainer.strategy=ddp"
            yield problem_at(config, ["trainer.strategy", f"penalty.{name}"], why, fix)
    for name, arguments in config.callbacks.items():
        if str(arguments.get("_target_")).endswith((".GridUpdate", ".BasisSelection")):
            key, target = f"callbacks.{name}", arguments["_target_"]
            given = ("trainer.strategy=fsdp", f"{key}._target_={target}")
            why = "what changes layers in training needs their weights whole"
            yield Problem(("trainer.strategy", key), given, why, "take trainer.strategy=ddp")


def _steps(config: TrainConfig) -> Iterator[Problem]:
    trainer = config.trainer
    if trainer.max_steps == 0:
        why = "no step would be made"
        yield problem_at(config, ["trainer.max_steps"], why, "-1 sets no limit")
    if trainer.gradient_clip_val == 0:
        why = "0 would cut every gradient to nothing, which Lightning takes for no clipping"
        yield problem_at(config, ["trainer.gradient_clip_val"], why, "null switches clipping off")


def _resume(config: TrainConfig) -> Iterator[Problem]:
    if config.resume in (None, "auto"):
        return
    assert config.resume is not None
    path = Path(config.resume)
    fix = "give a checkpoint file or a run folder, or take resume=auto"
    if not path.exists():
        yield problem_at(config, ["resume"], "there is no such file or folder", fix)
    elif path.is_dir() and not list_checkpoints(path):
        yield problem_at(config, ["resume"], "the folder holds no checkpoint (*.ckpt)", fix)


def _finetune(config: TrainConfig) -> Iterator[Problem]:
    tune = config.finetune
    origin = Path(config.run.root, "latest") if tune.init_from == "latest" else Path(tune.init_from or ".")
    if config.resume is None and not origin.exists():
        why = f"there is no file or folder {origin}"
        yield problem_at(
            config, ["finetune.init_from"], why, "give a checkpoint file, a run folder, or latest"
        )
    if tune.freeze and tune.init_from is None:
        why = "would freeze random weights"
        fix = "give the weights to start from: finetune.init_from=<run folder or checkpoint>"
        yield problem_at(config, ["finetune.freeze", "finetune.init_from"], why, fix)
    start = type(tune)()
    for name in type(tune).model_fields:
        is_set = name not in ("init_from", "new_head", "freeze") and getattr(tune, name) != getattr(
            start, name
        )
        if is_set and not tune.freeze:
            why = "says what is trained of layers that are frozen"
            yield problem_at(config, [f"finetune.{name}", "finetune.freeze"], why, "add finetune.freeze=true")
    if tune.init_from is not None and getattr(config.model, "init_from", None) is not None:
        why = "both give the network its weights"
        yield problem_at(config, ["model.init_from", "finetune.init_from"], why, "take one of them")
    if tune.train_base and tune.base_rank:
        why = "a low-rank term is for base weights that are not trained"
        yield problem_at(config, ["finetune.base_rank", "finetune.train_base"], why, "choose one of them")


def _grid_start(config: TrainConfig) -> Iterator[Problem]:
    learned = {
        "finetune.init_from": config.finetune.init_from,
        "model.pretrained": getattr(config.model, "pretrained", False),
    }
    for name, arguments in config.callbacks.items():
        starts = arguments.get("at_start") and str(arguments.get("_target_")).endswith(".GridUpdate")
        for key, value in learned.items():
            if starts and value and config.resume is None:
                start_key = f"callbacks.{name}.at_start"
                why = "would pull the grids away under functions that are learned"
                fix = f"take {start_key}=false; grids are then moved together with their functions"
                yield Problem(
                    (start_key, key), (f"{start_key}=true", f"{key}={format_yaml(value)}"), why, fix
                )


def _run_dir(config: TrainConfig) -> Iterator[Problem]:
    folder, resume = Path(config.run.dir), config.resume
    key, folder_name = (
        ("run.root", config.run.root) if str(folder) == CHOSEN_LATER else ("run.dir", config.run.dir)
    )
    if not config.trainer.fast_dev_run and (why := unwritable(Path(folder_name))):
        yield problem_at(config, [key], f"nothing can be written there: {why}", f"choose another {key}")
        return
    resumed = find_run_folder(resume) if resume not in (None, "auto") else None
    goes_on = resume == "auto" or (resumed is not None and resumed.resolve() == folder.resolve())
    if not goes_on and not config.trainer.fast_dev_run and list_checkpoints(folder):
        fix = f"choose another run.dir, or go on with that run: {shell_word('resume', str(folder))}"
        yield problem_at(config, ["run.dir"], "the folder holds another run, which would be overwritten", fix)


def basis_problems(config: TrainConfig, choices: ConfigGroups) -> Iterator[Problem]:
    """Keys of `basis` that its own file does not have, and values of another type than there."""
    legal = choices.of("basis")
    name = config.basis.name
    if name not in legal:
        near = closest(name, legal)
        order = [*near, *(other for other in legal if other not in near)]
        yield problem_at(config, ["basis.name"], "no such basis", f"legal: {', '.join(order)}")
        return
    defaults = choices.content("basis", name)
    for key, value in config.basis.arguments().items():
        given = (f"basis.{key}={format_yaml(value)}",)
        if key not in defaults:
            near = closest(key, list(defaults), limit=1)
            fix = f"keys of basis={name}: {', '.join([*near, *(k for k in defaults if k not in near)])}"
            yield Problem((f"basis.{key}",), given, f"basis={name} has no such key", fix)
        elif not _same_type(value, defaults[key]):
            fix = f"its default is {format_yaml(defaults[key])}"
            yield Problem((f"basis.{key}",), given, f"expected {_type_in_words(defaults[key])}", fix)


def _same_type(value: Any, example: Any) -> bool:
    if example is None or value is None or str(example).startswith("${"):
        return True  # null leaves the choice to the class; an interpolation has any type
    if isinstance(example, list):
        return isinstance(value, list | tuple) and all(
            _same_type(item, example[0]) for item in value if example
        )
    if isinstance(example, bool) or isinstance(value, bool):
        return isinstance(example, bool) and isinstance(value, bool)
    if isinstance(example, float):
        return isinstance(value, int | float)
    return isinstance(value, type(example))


def _type_in_words(example: Any) -> str:
    if isinstance(example, list):
        return f"a list of {_type_in_words(example[0])}s" if example else "a list"
    return {bool: "true or false", int: "whole number", float: "number", str: "text"}.get(
        type(example), "section"
    )


CHECKS: tuple[Callable[[TrainConfig], Iterator[Problem]], ...] = (
    _kind,
    score_problems,
    data_problems,
    _image_size,
    _widths,
    _mixup,
    convolutions,
    plain_twins,
    segmenters,
    _recipe_batch,
    batch_problems,
    _devices,
    _steps,
    _registered,
    run_targets,
    callback_problems,
    _resume,
    _finetune,
    _grid_start,
    _run_dir,
)
