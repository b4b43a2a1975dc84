"""Training problems: a network with its loss, metrics, optimizer and schedule, as Lightning modules.

`TASKS` maps the names that `data.task` takes to classes with one set of arguments.
"""

from .base import Task
from .classification import ClassificationTask
from .finite import NonFiniteError
from .segmentation import SegmentationTask

__all__ = ["TASKS", "ClassificationTask", "NonFiniteError", "SegmentationTask", "Task"]

TASKS: dict[str, type[ClassificationTask] | type[SegmentationTask]] = {
    "classification": ClassificationTask,
    "segmentation": SegmentationTask,
}
