"""Tasks: a model with its loss, metrics, optimizer and schedule, as Lightning modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from kanvision.lazy import load_on_demand
from kanvision.spec.tasks import TaskName

from .base import Task
from .finite import NonFiniteError

if TYPE_CHECKING:
    from .classification import ClassificationTask
    from .segmentation import SegmentationTask

__all__ = ["ClassificationTask", "NonFiniteError", "SegmentationTask", "Task", "create_task"]

_TASKS: dict[TaskName, str] = {"classification": "ClassificationTask", "segmentation": "SegmentationTask"}
__getattr__ = load_on_demand(__name__)


def create_task(name: TaskName, model: nn.Module, **options: Any) -> Task:
    """Return the task that `data.task` names; all of them take the same arguments.

    Args:
        name: Name of the task, classification or segmentation.
        model: Model to train.
        **options: Arguments of the class.
    """
    task: Task = __getattr__(_TASKS[name])(model, **options)
    return task
