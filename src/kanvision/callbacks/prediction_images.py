"""Callback that draws example predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from kanvision.visualization import overlay_mask, to_uint8_rgb

__all__ = ["Panel", "PredictionImages", "class_panels", "mask_panels", "panel_grid"]

Pixels = NDArray[np.uint8]
Color = tuple[int, int, int]

CORRECT, FALSE_POSITIVE = (46, 125, 50), (198, 40, 40)
FALSE_NEGATIVE, OTHER_CLASS = (33, 90, 220), (250, 200, 40)
BACKGROUND, TEXT = (255, 255, 255), (20, 20, 20)
FRAME_WIDTH = 4
LINE_HEIGHT = 12
NUM_LINES = 2
"""Number of lines of text below an image."""


class Panel(NamedTuple):
    """Image (H, W, 3) with the color of its frame and first line, and up to two lines of text."""

    pixels: Pixels
    color: Color
    lines: list[str]


class PredictionImages(Callback):
    """Draws the first validation images with their predictions, after validation.

    The images are the same in every epoch. The picture is written to `dirpath` as a png and to TensorBoard as
    `val/samples`, by rank 0. The datamodule has `mean`, `std` and optionally `class_names` and `rgb`, the
    channels shown as red, green and blue.

    Args:
        dirpath: Folder of the png files; None: TensorBoard only.
        num_images: Number of images.
        every_n_epochs: Epochs between two pictures.
        tile: Side of an image in the picture, in pixels.
    """

    def __init__(
        self, dirpath: str | Path | None = None, num_images: int = 16, every_n_epochs: int = 1, tile: int = 96
    ) -> None:
        self.dirpath = None if dirpath is None else Path(dirpath)
        self.num_images = num_images
        self.every_n_epochs = every_n_epochs
        self.tile = tile
        self._samples: list[list[Tensor]] = []

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop the samples of an interrupted validation."""
        self._samples = []

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any, **__: Any
    ) -> None:
        """Keep the first images with their targets and predictions."""
        missing = self.num_images - sum(len(images) for images, *_ in self._samples)
        if missing > 0 and outputs is not None and self._is_due(trainer):
            images = batch["image"][:missing].float()
            if "mask" in batch:
                target = batch["mask"]
                if pl_module.ignore_index is not None:
                    target = target.masked_fill(target == pl_module.ignore_index, -1)
                masks = (target, outputs["measured"]["preds"])
                sample = [images, *(resize_masks(mask[:missing], images.shape[-2:]) for mask in masks)]
            else:
                confidence, predicted = outputs["predictions"][:missing].max(dim=1)
                sample = [images, batch["target"][:missing], predicted, confidence]
            self._samples.append([tensor.detach().cpu() for tensor in sample])

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw and write the picture."""
        if not self._samples:
            return
        images, targets, predicted, *confidences = (
            torch.cat(parts) for parts in zip(*self._samples, strict=True)
        )
        self._samples = []
        data = getattr(trainer, "datamodule", None)
        facts = (getattr(data, name, None) for name in ("mean", "std", "rgb"))
        shown = to_uint8_rgb(images, *facts)
        if confidences:
            names = getattr(data, "class_names", None)
            panels = class_panels(shown, targets, predicted, confidences[0], names)
        else:
            panels = mask_panels(shown, targets, predicted)
        picture = panel_grid(panels, self.tile)
        if self.dirpath is not None:
            self.dirpath.mkdir(parents=True, exist_ok=True)
            picture.save(self.dirpath / f"val_epoch{trainer.current_epoch + 1:04d}.png")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                pixels = np.asarray(picture)
                logger.experiment.add_image("val/samples", pixels, trainer.global_step, dataformats="HWC")

    def _is_due(self, trainer: pl.Trainer) -> bool:
        return (
            trainer.is_global_zero
            and trainer.state.fn == TrainerFn.FITTING
            and not trainer.sanity_checking
            and not trainer.fast_dev_run  # type: ignore[attr-defined]
            and (trainer.current_epoch + 1) % self.every_n_epochs == 0
        )


def resize_masks(masks: Tensor, size: Sequence[int]) -> Tensor:
    """Resize masks (B, ..., H, W) by nearest neighbor."""
    if masks.shape[-2:] == tuple(size):
        return masks
    stacked = masks if masks.ndim == 4 else masks[:, None]
    resized = F.interpolate(stacked.float(), list(size), mode="nearest-exact").long()
    return resized if masks.ndim == 4 else resized[:, 0]


def class_panels(
    images: Pixels, targets: Tensor, predicted: Tensor, confidences: Tensor, class_names: Sequence[str] | None
) -> list[Panel]:
    """Return panels of images (N, H, W, 3) with the predicted class and, if it is wrong, in red the target.

    Targets, predicted classes and their probabilities are (N,); without names, classes are numbers.
    """
    panels = []
    for image, *labels, confidence in zip(images, predicted, targets, confidences, strict=True):
        prediction, target = (str(int(i)) if class_names is None else class_names[int(i)] for i in labels)
        line = f"{prediction} {float(confidence):.0%}"
        if int(labels[0]) == int(labels[1]):
            panels.append(Panel(image, CORRECT, [line]))
        else:
            panels.append(Panel(image, FALSE_POSITIVE, [line, f"is {target}"]))
    return panels


def mask_panels(images: Pixels, targets: Tensor, predicted: Tensor) -> list[Panel]:
    """Return panels of four pictures side by side: image, target mask, predicted mask, and errors.

    Each class has a color; background is transparent, and colors of overlapping classes are mixed. In the
    last picture, correct foreground is green, false positives are red, false negatives blue, and foreground
    of another class yellow.

    Images are (N, H, W, 3), masks classes of the pixels (N, H, W), or a plane of 0 and 1 for each class
    (N, K, H, W). Ignored pixels of targets are -1, and transparent; a prediction of -1 is no class.
    """
    panels = []
    for image, target, prediction in zip(images, targets.numpy(), predicted.numpy(), strict=True):
        is_valid = target != -1
        shown = np.where(is_valid, prediction, -1)
        pictures = [
            image,
            overlay_mask(image, target),
            overlay_mask(image, shown),
            _draw_errors(image, target, shown),
        ]
        share = (target == prediction)[is_valid].mean() if is_valid.any() else 1.0
        panels.append(Panel(np.concatenate(pictures, axis=1), TEXT, [f"{share:.1%} of pixels"]))
    return panels


def panel_grid(panels: Sequence[Panel], tile: int) -> Image.Image:
    """Return a near-square grid of panels of one size, each with its frame and with its text below.

    `tile` is the height of an image in the grid, in pixels.
    """
    columns = math.ceil(math.sqrt(len(panels)))
    rows = math.ceil(len(panels) / columns)
    inner = round(tile * panels[0].pixels.shape[1] / panels[0].pixels.shape[0])
    width, height = inner + 2 * FRAME_WIDTH, tile + 2 * FRAME_WIDTH + NUM_LINES * LINE_HEIGHT
    picture = Image.new("RGB", (columns * width, rows * height), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for i, panel in enumerate(panels):
        left, top = i % columns * width, i // columns * height
        bottom = top + tile + 2 * FRAME_WIDTH
        draw.rectangle((left + 1, top + 1, left + width - 2, bottom - 2), fill=panel.color)
        resized = Image.fromarray(panel.pixels).resize((inner, tile), Image.Resampling.NEAREST)
        picture.paste(resized, (left + FRAME_WIDTH, top + FRAME_WIDTH))
        for row, (text, color) in enumerate(zip(panel.lines, (panel.color, TEXT), strict=False)):
            position = (left + FRAME_WIDTH, bottom + row * LINE_HEIGHT - 1)
            draw.text(position, _truncate(draw, text, inner), fill=color)
    return picture


def _draw_errors(image: Pixels, target: NDArray[np.int64], prediction: NDArray[np.int64]) -> Pixels:
    """Return the image in gray, with colors for foreground of the target or of the prediction."""
    gray = image.mean(axis=2, keepdims=True).repeat(3, axis=2) / 2
    is_target, is_predicted = (x > 0 if x.ndim == 2 else (x > 0).any(axis=0) for x in (target, prediction))
    is_equal = target == prediction if target.ndim == 2 else ((target > 0) == (prediction > 0)).all(axis=0)
    for pixels, color in (
        (is_target & is_predicted & is_equal, CORRECT),
        (is_target & is_predicted & ~is_equal, OTHER_CLASS),
        (is_predicted & ~is_target, FALSE_POSITIVE),
        (is_target & ~is_predicted, FALSE_NEGATIVE),
    ):
        gray[pixels] = gray[pixels] / 2 + np.array(color) * 0.75
    marked: Pixels = gray.clip(0, 255).astype(np.uint8)
    return marked


def _truncate(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """Return the text, cut off at `width` pixels, with letters of the built-in font alone."""
    text = text.encode("latin-1", "replace").decode("latin-1")
    while draw.textlength(text) > width:
        text = text[:-1]
    return text
