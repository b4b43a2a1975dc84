"""Plugin of kanvision. Importing it registers everything; `CONF` has the files that make it selectable."""

from pathlib import Path

from torchmetrics.classification import MulticlassF1Score

from kanvision.plugins import register_loss, register_metric

from . import basis, data, model  # noqa: F401
from .callback import WeightNorm
from .loss import PolyLoss

__all__ = ["CONF", "WeightNorm"]

__version__ = "0.1.0"
CONF = Path(__file__).parent / "conf"
register_loss("poly", PolyLoss)
register_metric("f1", lambda num_classes: MulticlassF1Score(num_classes, average="macro"))
