"""Teachers: a student uses the attention of another run's model.

The configuration of the student's run contains that of the teacher (`model.teacher_config`), and its
checkpoints contain the teacher's weights, so that the teacher's run is not needed once training has begun.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter
from torch import nn

from kanvision.checkpoints import CheckpointError, find_checkpoint, load_checkpoint, load_state_dict
from kanvision.config import TrainConfig, as_config_error, to_primitive, train_config
from kanvision.config.schema.models import BasisConfig
from kanvision.config.schema.transformers import ViTConfig
from kanvision.models import AttentionTransfer

__all__ = ["attach_teacher", "load_teacher", "resolve_teacher", "teacher_config"]


def resolve_teacher(cfg: TrainConfig, resumed: Mapping[str, Any] | None) -> TrainConfig:
    """Return the configuration with that of the teacher's model, if it names a teacher.

    Args:
        cfg: Configuration of the student.
        resumed: Configuration in the checkpoint that the student resumes from, which then holds the
            teacher's; None: the teacher's own checkpoint is read.

    Raises:
        CheckpointError: If there is no such checkpoint, or it holds no configuration.
    """
    if not isinstance(cfg.model, ViTConfig) or cfg.model.teacher is None:
        return cfg
    if resumed is not None:
        teacher = resumed["model"].get("teacher_config")
    else:
        saved = (_load_teacher_checkpoint(cfg).get("kanvision") or {}).get("config")
        if saved is None:
            raise CheckpointError(
                f"model.teacher={cfg.model.teacher}: carries no configuration, so train.py did not write it; "
                "a teacher is a run of train.py"
            )
        run = to_primitive(train_config(saved))
        teacher = {"model": run["model"], "basis": run["basis"]}
    return cfg.model_copy(update={"model": cfg.model.model_copy(update={"teacher_config": teacher})})


def attach_teacher(
    cfg: TrainConfig, student: nn.Module, build: Callable[[TrainConfig], nn.Module]
) -> nn.Module:
    """Return a student with its teacher of fresh weights, if it has one; ConfigError if they do not fit."""
    own = teacher_config(cfg)
    if own is None:
        return student
    with as_config_error(cfg, "model.teacher"):
        if own.model.in_chans != cfg.model.in_chans:
            raise ValueError(
                f"the teacher takes images of {own.model.in_chans} channels, the student of "
                f"{cfg.model.in_chans}; both see the same images"
            )
        teacher: Any = build(own)
        return AttentionTransfer(teacher, student)  # type: ignore[arg-type]


def teacher_config(cfg: TrainConfig) -> TrainConfig | None:
    """Return the configuration with the model of the teacher in place of the student's; None without one."""
    if not isinstance(cfg.model, ViTConfig) or cfg.model.teacher_config is None:
        return None
    parts = cfg.model.teacher_config
    adapter: TypeAdapter[Any] = TypeAdapter(TrainConfig.model_fields["model"].rebuild_annotation())
    model = adapter.validate_python(parts["model"]).without_weights()
    return cfg.model_copy(update={"model": model, "basis": BasisConfig(**parts["basis"])})


def load_teacher(cfg: TrainConfig, model: nn.Module) -> None:
    """Load the weights of the teacher's run into a model that has a teacher, and freeze them.

    Raises:
        CheckpointError: If they do not fit the teacher's own configuration.
    """
    if isinstance(model, AttentionTransfer):
        load_state_dict(model.teacher, _load_teacher_checkpoint(cfg))
        model.teacher.requires_grad_(False)


def _load_teacher_checkpoint(cfg: TrainConfig) -> dict[str, Any]:
    teacher = str(getattr(cfg.model, "teacher", None))
    try:
        return load_checkpoint(find_checkpoint(teacher, runs_root=cfg.run.root))
    except CheckpointError as error:
        raise CheckpointError(f"model.teacher={teacher}: {error}") from None
