"""Metrics of plugins."""

from __future__ import annotations

from collections.abc import Sequence

from torchmetrics import Metric

from kanvision.plugins import METRICS

__all__ = ["extra_metrics"]


def extra_metrics(names: Sequence[str], num_classes: int) -> dict[str, Metric]:
    """Build metrics of plugins, by their names in logs.

    Args:
        names: Names that plugins have registered.
        num_classes: Number of classes.
    """
    return {name: METRICS[name].build(num_classes) for name in names}
