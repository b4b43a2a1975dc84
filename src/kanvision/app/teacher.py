"""A student that sees by a teacher's attention: the teacher comes from another run's checkpoint.

The run keeps how the teacher is built in its own configuration (`model.teacher_config`), and its checkpoints
keep the teacher's weights, so that nothing needs the teacher's run once training has begun.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter
from torch import nn

from kanvision.checkpoints import CheckpointError, find_checkpoint, load_checkpoint, load_state_dict
from kanvision.config import TrainConfig, as_config_error, to_primitive, train_config
from kanvision.config.schema.models import AnyModel, BasisConfig
from kanvision.config.schema.transformers import ViTConfig
from kanvision.models import AttentionTransfer

__all__ = ["attach_teacher", "load_teacher", "resolve_teacher"]


def resolve_teacher(cfg: TrainConfig, resume: str | None) -> TrainConfig:
    """The configuration with the network of its teacher, if it names one.

    Args:
        cfg: Of the student.
        resume: Checkpoint of the student's own run that it goes on from, which then says it.

    Raises:
        CheckpointError: If there is no such checkpoint, or it does not say what it is of.
    """
    if not isinstance(cfg.model, ViTConfig) or cfg.model.teacher is None:
        return cfg
    given = _checkpoint(cfg) if resume is None else load_checkpoint(resume)
    written = (given.get("kanvision") or {}).get("config")
    if written is None:
        raise CheckpointError(
            f"model.teacher={cfg.model.teacher}: carries no configuration, so train.py did not write it; "
            "a teacher is a run of train.py"
        )
    if resume is None:
        run = to_primitive(train_config(written))
        teacher = {"model": run["model"], "basis": run["basis"]}
    else:
        teacher = written["model"].get("teacher_config")
    return cfg.model_copy(update={"model": cfg.model.model_copy(update={"teacher_config": teacher})})


def attach_teacher(
    cfg: TrainConfig, student: nn.Module, build: Callable[[TrainConfig], nn.Module]
) -> nn.Module:
    """A student joined with its teacher, which has fresh weights; a network without a teacher as it is.

    Args:
        cfg: Of the student, with the network of the teacher.
        student: The network alone.
        build: Makes the network of a configuration.

    Raises:
        ConfigError: If the two do not fit together.
    """
    if not isinstance(cfg.model, ViTConfig) or cfg.model.teacher_config is None:
        return student
    parts = cfg.model.teacher_config
    adapter: TypeAdapter[Any] = TypeAdapter(AnyModel)
    own: dict[str, Any] = {
        "model": adapter.validate_python(parts["model"]).without_weights(),
        "basis": BasisConfig(**parts["basis"]),
    }
    with as_config_error(cfg, "model.teacher"):
        if own["model"].in_chans != cfg.model.in_chans:
            raise ValueError(
                f"the teacher takes images of {own['model'].in_chans} channels, the student of "
                f"{cfg.model.in_chans}; both see the same images"
            )
        teacher: Any = build(cfg.model_copy(update=own))
        return AttentionTransfer(teacher, student)  # type: ignore[arg-type]


def load_teacher(cfg: TrainConfig, model: nn.Module) -> None:
    """Give a teacher the weights of its run.

    Raises:
        CheckpointError: If they do not fit its own configuration.
    """
    if isinstance(model, AttentionTransfer):
        load_state_dict(model.teacher, _checkpoint(cfg))
        model.teacher.requires_grad_(False)


def _checkpoint(cfg: TrainConfig) -> dict[str, Any]:
    teacher = str(getattr(cfg.model, "teacher", None))
    try:
        return load_checkpoint(find_checkpoint(teacher, runs_root=cfg.run.root))
    except CheckpointError as error:
        raise CheckpointError(f"model.teacher={teacher}: {error}") from None
