"""Pictures of example predictions."""

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

RIGHT, WRONG, PAPER, INK = (46, 125, 50), (198, 40, 40), (255, 255, 255), (20, 20, 20)
MISSED, MISTAKEN = (33, 90, 220), (250, 200, 40)
FRAME, LINE, NUM_LINES = (
    4,
    12,
    2,
)  # pixels: width of the frame, height of a line of text; lines below an image


class Panel(NamedTuple):
    """One example: pixels (H, W, 3), color of the frame and of the first line, up to two lines of text."""

    pixels: Pixels
    color: Color
    lines: list[str]


class PredictionImages(Callback):
    """Draws the first validation images with what the network says of them, after validation.

    The images are the same every time, so that epochs compare. Goes to `dirpath` as a png and to TensorBoard
    as `val/samples`; only process 0 draws. The datamodule gives `mean`, `std` and, where it has them,
    `class_names` and `rgb`, the channels to show as red, green and blue.

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
        """Forget what an interrupted validation has left."""
        self._samples = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the images that are still wanted, and what is predicted for them."""
        wanted = self.num_images - sum(len(images) for images, *_ in self._samples)
        if wanted > 0 and outputs is not None and self._draws(trainer):
            images = batch["image"][:wanted].float()
            if "mask" in batch:
                truth = batch["mask"]
                if pl_module.ignore_index is not None:
                    truth = truth.masked_fill(truth == pl_module.ignore_index, -1)
                masks = (truth, outputs["measured"]["preds"])
                sample = [images, *(of_size(mask[:wanted], images.shape[-2:]) for mask in masks)]
            else:
                confidence, predicted = outputs["predictions"][:wanted].max(dim=1)
                sample = [images, batch["target"][:wanted], predicted, confidence]
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

    def _draws(self, trainer: pl.Trainer) -> bool:
        return (
            trainer.is_global_zero
            and trainer.state.fn == TrainerFn.FITTING
            and not trainer.sanity_checking
            and not trainer.fast_dev_run  # type: ignore[attr-defined]
            and (trainer.current_epoch + 1) % self.every_n_epochs == 0
        )


def of_size(masks: Tensor, size: Sequence[int]) -> Tensor:
    """Masks (B, ..., H, W) brought to another size by the nearest pixel."""
    if masks.shape[-2:] == tuple(size):
        return masks
    stacked = masks if masks.ndim == 4 else masks[:, None]
    resized = F.interpolate(stacked.float(), list(size), mode="nearest-exact").long()
    return resized if masks.ndim == 4 else resized[:, 0]


def class_panels(
    images: Pixels, targets: Tensor, predicted: Tensor, confidences: Tensor, class_names: Sequence[str] | None
) -> list[Panel]:
    """Panels that name the predicted class and, where it is wrong (red), the right one.

    Args:
        images: (N, H, W, 3).
        targets: Classes (N,).
        predicted: Classes (N,).
        confidences: Probabilities of the predicted classes (N,).
        class_names: Names by class, or None for numbers.
    """
    panels = []
    for image, *labels, confidence in zip(images, predicted, targets, confidences, strict=True):
        guess, truth = (str(int(i)) if class_names is None else class_names[int(i)] for i in labels)
        says = f"{guess} {float(confidence):.0%}"
        if int(labels[0]) == int(labels[1]):
            panels.append(Panel(image, RIGHT, [says]))
        else:
            panels.append(Panel(image, WRONG, [says, f"is {truth}"]))
    return panels


def mask_panels(images: Pixels, targets: Tensor, predicted: Tensor) -> list[Panel]:
    """Panels of four pictures side by side: image, right mask, predicted mask, and what is wrong.

    Classes have colors; background is clear, and where several classes are, their colors are mixed. In the
    last picture, found foreground is green, a pixel that is no foreground but was taken for it red, one that
    was missed blue, and one that was taken for another class yellow.

    Args:
        images: (N, H, W, 3).
        targets: Classes of the pixels (N, H, W), or a plane of 0 and 1 for each class (N, K, H, W);
            -1 stands for pixels that do not count; they are clear.
        predicted: The same of what was predicted; -1 is no class.
    """
    panels = []
    for image, truth, guess in zip(images, targets.numpy(), predicted.numpy(), strict=True):
        counts = truth != -1
        shown = np.where(counts, guess, -1)
        pictures = [
            image,
            overlay_mask(image, truth),
            overlay_mask(image, shown),
            _errors(image, truth, shown),
        ]
        share = (truth == guess)[counts].mean() if counts.any() else 1.0
        panels.append(Panel(np.concatenate(pictures, axis=1), INK, [f"{share:.1%} of pixels"]))
    return panels


def panel_grid(panels: Sequence[Panel], tile: int) -> Image.Image:
    """A near-square grid of panels, images `tile` pixels high, each in its frame and with its text below."""
    columns = math.ceil(math.sqrt(len(panels)))
    rows = math.ceil(len(panels) / columns)
    inner = round(tile * panels[0].pixels.shape[1] / panels[0].pixels.shape[0])
    width, height = inner + 2 * FRAME, tile + 2 * FRAME + NUM_LINES * LINE
    picture = Image.new("RGB", (columns * width, rows * height), PAPER)
    draw = ImageDraw.Draw(picture)
    for i, panel in enumerate(panels):
        left, top = i % columns * width, i // columns * height
        draw.rectangle((left + 1, top + 1, left + width - 2, top + tile + 2 * FRAME - 2), fill=panel.color)
        resized = Image.fromarray(panel.pixels).resize((inner, tile), Image.Resampling.NEAREST)
        picture.paste(resized, (left + FRAME, top + FRAME))
        for row, (text, color) in enumerate(zip(panel.lines, (panel.color, INK), strict=False)):
            position = (left + FRAME, top + tile + 2 * FRAME + row * LINE - 1)
            draw.text(position, _fitting(draw, text, inner), fill=color)
    return picture


def _errors(image: Pixels, truth: NDArray[np.int64], guess: NDArray[np.int64]) -> Pixels:
    """The image in gray, colored where there is foreground or was said to be any."""
    gray = image.mean(axis=2, keepdims=True).repeat(3, axis=2) / 2
    right, found = (x > 0 if x.ndim == 2 else (x > 0).any(axis=0) for x in (truth, guess))
    same = truth == guess if truth.ndim == 2 else ((truth > 0) == (guess > 0)).all(axis=0)
    for where, color in (
        (right & found & same, RIGHT),
        (right & found & ~same, MISTAKEN),
        (found & ~right, WRONG),
        (right & ~found, MISSED),
    ):
        gray[where] = gray[where] / 2 + np.array(color) * 0.75
    marked: Pixels = gray.clip(0, 255).astype(np.uint8)
    return marked


def _fitting(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """`text`, cut off where it is wider than `width` pixels; only letters that the built-in font has."""
    text = text.encode("latin-1", "replace").decode("latin-1")
    while draw.textlength(text) > width:
        text = text[:-1]
    return text
