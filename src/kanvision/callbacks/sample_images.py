"""Pictures of example predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

__all__ = ["Panel", "SampleImages", "class_panels", "mask_panels", "panel_grid"]

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]

RIGHT, WRONG, PAPER, INK = (46, 125, 50), (198, 40, 40), (255, 255, 255), (20, 20, 20)
FRAME, LINE, NUM_LINES = (
    4,
    12,
    2,
)  # pixels: width of the frame, height of a line of text; lines below an image


class Panel(NamedTuple):
    """One example: pixels (H, W, 3), colour of the frame and of the first line, up to two lines of text."""

    pixels: Pixels
    colour: Colour
    lines: list[str]


class SampleImages(Callback):
    """Draws the first validation images with what the network says of them, after validation.

    The images are the same every time, so that epochs compare. Goes to `dirpath` as a png and to TensorBoard
    as `val/samples`; only process 0 draws. The datamodule gives `mean`, `std` and, where it has them,
    `class_names`.

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
        if wanted > 0 and self._draws(trainer):
            confidence, predicted = outputs["predictions"][:wanted].max(dim=1)
            target = batch["mask"] if "mask" in batch else batch["target"]
            sample = (batch["image"][:wanted].float(), target[:wanted], predicted, confidence)
            self._samples.append([tensor.detach().cpu() for tensor in sample])

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw and write the picture."""
        if not self._samples:
            return
        images, targets, predicted, confidences = (
            torch.cat(parts) for parts in zip(*self._samples, strict=True)
        )
        self._samples = []
        data = getattr(trainer, "datamodule", None)
        shown = displayable(images, getattr(data, "mean", None), getattr(data, "std", None))
        if targets.ndim == 3:
            panels = mask_panels(shown, targets, predicted)
        else:
            panels = class_panels(shown, targets, predicted, confidences, getattr(data, "class_names", None))
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


def displayable(images: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None) -> Pixels:
    """Undo the normalisation, and show fewer than three channels as grey, more as the first three.

    Args:
        images: (N, C, H, W).
        mean: Mean of each channel, or None if images are not normalised.
        std: Standard deviation of each channel, or None.

    Returns:
        (N, H, W, 3).
    """
    if mean is not None and std is not None:
        shape = (1, -1, 1, 1)
        images = images * torch.tensor(std).view(shape) + torch.tensor(mean).view(shape)
    images = images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
    pixels = images.nan_to_num(0.0).clamp(0, 1).mul(255).round().byte()
    array: Pixels = pixels.permute(0, 2, 3, 1).numpy()  # (N, H, W, 3)
    return array


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
    """Panels of the right mask (left half) and the predicted one (right half) on the image; class 0 is clear.

    Args:
        images: (N, H, W, 3).
        targets: Classes of the pixels (N, H, W).
        predicted: Classes of the pixels (N, H, W).
    """
    panels = []
    for image, truth, guess in zip(images, targets.numpy(), predicted.numpy(), strict=True):
        halves = np.concatenate([_coloured(image, truth), _coloured(image, guess)], axis=1)
        panels.append(Panel(halves, INK, [f"{np.mean(truth == guess):.1%} of pixels"]))
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
        draw.rectangle((left + 1, top + 1, left + width - 2, top + tile + 2 * FRAME - 2), fill=panel.colour)
        resized = Image.fromarray(panel.pixels).resize((inner, tile), Image.Resampling.NEAREST)
        picture.paste(resized, (left + FRAME, top + FRAME))
        for row, (text, colour) in enumerate(zip(panel.lines, (panel.colour, INK), strict=False)):
            position = (left + FRAME, top + tile + 2 * FRAME + row * LINE - 1)
            draw.text(position, _fitting(draw, text, inner), fill=colour)
    return picture


def _coloured(image: Pixels, mask: NDArray[np.int64]) -> Pixels:
    """The image, mixed half and half with the colour of each pixel's class but 0."""
    palette = 255 * np.array(colormaps["tab10"].colors)  # type: ignore[attr-defined]
    colours = palette[(mask - 1) % 10]  # (H, W, 3)
    mixed: Pixels = np.where(mask[..., None] == 0, image, (image + colours) / 2).astype(np.uint8)
    return mixed


def _fitting(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """`text`, cut off where it is wider than `width` pixels; only letters that the built-in font has."""
    text = text.encode("latin-1", "replace").decode("latin-1")
    while draw.textlength(text) > width:
        text = text[:-1]
    return text
