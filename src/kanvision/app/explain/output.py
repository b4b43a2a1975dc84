"""Pictures, tables and charts of explanations."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from kanvision.analysis.explain.explainer import (
    CHANCE,
    SCORES,
    ChannelWorth,
    ExplanationTarget,
    SaliencyResult,
    mean_scores,
)
from kanvision.analysis.explain.figures import Panel, channel_chart, write_sheet
from kanvision.data import ImageDataModule
from kanvision.visualization import to_uint8_rgb

__all__ = ["Drawing", "Row", "channel_names", "print_scores", "write_channels", "write_rows"]

OVERVIEW_ROWS = 6
MEASURES = {
    "attention": "attention: 1 - IoU of Grad-CAM with and without the channel",
    "answer": "answer: 1 - IoU of the prediction (classes: loss of probability) without the channel",
    "gradients": "share in the integrated gradients",
}
COLUMNS = (
    "iou",
    "border_iou",
    "concentration",
    "border_concentration",
    "selected",
    "kept_iou",
    "removed_iou",
    "sufficiency",
    "comprehensiveness",
    "incomplete",
)
"""Scores in the printed table; all others are in the files."""

Explanation = tuple[str, ExplanationTarget, list[SaliencyResult], Tensor | None]
"""Class name, target, saliency maps, and attributions (C, H, W) of integrated gradients."""


class Row(NamedTuple):
    """Scores of one saliency map."""

    image: str
    class_name: str
    method: str
    layer: str
    scores: Mapping[str, float]

    @property
    def name(self) -> str:
        """Names of method and layer."""
        return f"{self.method}@{self.layer}" if self.layer else self.method


class Drawing:
    """Draws each image with its saliency maps, and an overview of the first images."""

    def __init__(self, folder: Path, datamodule: ImageDataModule) -> None:
        self.folder = folder
        self.datamodule = datamodule
        self.overview: list[tuple[str, list[Panel]]] = []

    def add(
        self, name: str, image: Tensor, explanations: Sequence[Explanation], class_name: str | None = None
    ) -> None:
        """Draw an image (1, C, H, W) and its explanations; `class_name` is that of a whole image."""
        data: Any = self.datamodule
        shown = to_uint8_rgb(image.cpu(), data.mean, data.std, getattr(data, "rgb", None))[0]
        rows = [self._panels(shown, image, explanation) for explanation in explanations]
        labels = [
            explained if class_name in (None, explained) else f"{explained} (is {class_name})"
            for explained, *_ in explanations
        ]
        self._write(rows, labels, f"images/{re.sub(r'[^0-9A-Za-z._-]+', '_', name)}.png")
        # the overview has the class with the largest mask
        sizes = [0 if q.truth is None else int(q.truth.sum()) for _, q, *_ in explanations]
        largest = sizes.index(max(sizes))
        if len(self.overview) < OVERVIEW_ROWS:
            self.overview.append((f"{name}: {labels[largest]}", rows[largest]))

    def finish(self) -> None:
        """Draw the overview of the first images."""
        if self.overview:
            self._write(
                [row for _, row in self.overview], [label for label, _ in self.overview], "overview.png"
            )

    def _write(self, rows: Sequence[Sequence[Panel]], labels: Sequence[str], name: str) -> None:
        has_masks = any(panel.outline is not None for row in rows for panel in row)
        note = "line: edge of the target mask;  " if has_masks else ""
        signed = any(panel.signed for row in rows for panel in row)
        note += "Grad-CAM: dark is 0, bright is evidence for the class" if len(rows[0]) > 1 else ""
        note += ";  gradients: red speaks for the class, blue against it" if signed else ""
        write_sheet(rows, labels, self.folder / name, note)

    @staticmethod
    @torch.no_grad()
    def _panels(shown: NDArray[np.uint8], image: Tensor, explanation: Explanation) -> list[Panel]:
        _, target, results, attributions = explanation
        panels = [Panel("image", shown)]
        edge = None
        if target.decided is not None and target.truth is not None:
            edge = target.truth[0].cpu().numpy()
            predicted = target.decided(image)[0].cpu().numpy()
            panels = [Panel("image and mask", shown, edge)]
            panels.append(Panel("prediction", _darken_background(shown, predicted), edge))
        for result in results:
            if result.method == "grad_cam":
                title = f"Grad-CAM\n{result.layer}"
                panels.append(Panel(title, result.map.cpu().numpy(), edge))
        if attributions is not None:
            panels.append(
                Panel("integrated\ngradients", attributions.sum(dim=0).cpu().numpy(), edge, signed=True)
            )
        return panels


def _darken_background(shown: NDArray[np.uint8], predicted: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the image, darkened outside of the predicted mask."""
    darkened: NDArray[np.uint8] = np.where(predicted[..., None], shown, shown // 4).astype(np.uint8)
    return darkened


def channel_names(datamodule: ImageDataModule) -> list[str]:
    """Return the names of the channels of a batch."""
    number = datamodule.spec.in_chans
    bands = getattr(getattr(datamodule, "reader", None), "bands", None)
    if bands:
        return [band if isinstance(band, str) else f"band {band}" for band in bands]
    if number == 3:
        is_reversed = tuple(getattr(datamodule, "rgb", ())) == (2, 1, 0)
        return ["blue", "green", "red"] if is_reversed else ["red", "green", "blue"]
    return ["gray"] if number == 1 else [f"channel {index + 1}" for index in range(number)]


def write_rows(path: Path, rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Write all scores; return their means, by `<method>@<layer>` and score."""
    path.parent.mkdir(parents=True, exist_ok=True)
    present = [name for name in SCORES if any(name in row.scores for row in rows)]
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", "class", "method", "layer", *present])
        for row in rows:
            numbers = (row.scores.get(name, math.nan) for name in present)
            texts = ["" if math.isnan(number) else f"{number:.6f}" for number in numbers]
            table.writerow([row.image, row.class_name, row.method, row.layer, *texts])
    methods = dict.fromkeys(row.name for row in rows)
    return {name: mean_scores([row.scores for row in rows if row.name == name]) for name in methods}


def write_channels(
    folder: Path, names: Sequence[str], worth: Sequence[ChannelWorth], title: str
) -> dict[str, dict[str, float]]:
    """Write the relevance of channels as a table and as charts; return means by channel and measure."""
    statistics: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    for measure in MEASURES:
        values = torch.stack([getattr(one, measure) for one in worth]).double().cpu().numpy()  # (N, C)
        values = values[~np.isnan(values).any(axis=1)]
        if len(values):
            statistics[measure] = (values.mean(axis=0), values.std(axis=0))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "channels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["channel", *(f"{name}{end}" for name in statistics for end in ("", "_std"))])
        for index, name in enumerate(names):
            numbers = [f"{values[index]:.6f}" for pair in statistics.values() for values in pair]
            table.writerow([name, *numbers])
    paths = [folder / f"channels.{ending}" for ending in ("png", "svg")]
    channel_chart(names, {MEASURES[name]: pair for name, pair in statistics.items()}, paths, title)
    return {
        name: {measure: float(mean[index]) for measure, (mean, _) in statistics.items()}
        for index, name in enumerate(names)
    }


def print_scores(console: Console, title: str, means: Mapping[str, Mapping[str, float]]) -> None:
    """Print the mean scores and their definitions."""
    columns = [name for name in COLUMNS if any(name in scores for scores in means.values())]
    table = Table(title=title, title_justify="left")
    table.add_column("score")
    for method in means:
        table.add_column(method.replace("@", "\n"), justify="right")
    for name in columns:
        table.add_row(name, *_texts(scores.get(name) for scores in means.values()))
    console.print(table)
    legend = Table(show_header=False, box=None, pad_edge=False)
    for name in columns:
        legend.add_row(name, SCORES[name])
    legend.add_row(CHANCE, "a map of random numbers, as a baseline of the other maps")
    console.print(legend)
    scores = next(iter(means.values()), {})
    if "prediction_iou" in scores:
        console.print(f"IoU of the predictions themselves: {scores['prediction_iou']:.4f}")


def _texts(values: Iterable[float | None]) -> list[str]:
    return ["" if value is None else f"{value:.3f}" for value in values]
