"""The pictures of predictions: right pixels, wrong ones marked, and where they go."""

from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kanvision.callbacks import EMAWeights, PredictionImages
from kanvision.callbacks.prediction_images import (
    CORRECT,
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    FRAME_WIDTH,
    OTHER_CLASS,
    TEXT,
    Panel,
    class_panels,
    mask_panels,
    panel_grid,
)
from kanvision.tasks import SegmentationTask
from kanvision.visualization import to_uint8_rgb
from tests.tasks.tiny_problem import Blobs, TinyData, tiny_task, tiny_trainer


def test_pictures_are_written_after_validation(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="tb")
    samples = PredictionImages(tmp_path / "pictures", num_images=7, every_n_epochs=2, tile=24)
    trainer = tiny_trainer(
        tmp_path, callbacks=[samples, EMAWeights(0.9)], logger=logger, num_sanity_val_steps=1, max_epochs=4
    )
    task = tiny_task()
    trainer.fit(task, datamodule=TinyData())
    trainer.validate(task, datamodule=TinyData(), verbose=False)
    files = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert files == ["val_epoch0002.png", "val_epoch0004.png"]
    logger.experiment.flush()
    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    assert [event.step for event in events.Images("val/samples")] == [12, 24]
    # the last picture shows the final average's predictions of the first seven images
    full = Blobs(19, 2, augment=False)
    images, targets = full.images[:7], full.targets[:7]
    with torch.no_grad():
        confidences, predicted = task.eval().predict_step({"image": images}, 0).max(dim=1)
    panels = class_panels(
        to_uint8_rgb(images, TinyData.mean, TinyData.std),
        targets,
        predicted,
        confidences,
        TinyData.class_names,
    )
    written = np.asarray(Image.open(tmp_path / "pictures" / files[1]))
    assert np.array_equal(written, np.asarray(panel_grid(panels, 24)))


def test_trial_runs_draw_nothing(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, callbacks=[PredictionImages(tmp_path / "pictures")], fast_dev_run=True)
    trainer.fit(tiny_task(), datamodule=TinyData())
    assert not (tmp_path / "pictures").exists()


def test_normalization_is_undone() -> None:
    pixels = torch.rand(2, 3, 4, 5)
    mean, std = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)
    normal = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    shown = to_uint8_rgb(normal, mean, std)
    assert shown.shape == (2, 4, 5, 3)
    assert np.abs(shown / 255 - pixels.permute(0, 2, 3, 1).numpy()).max() < 0.5 / 255 + 1e-6


@pytest.mark.parametrize(
    ("channels", "rgb", "shown"),
    [
        (1, None, [0, 0, 0]),
        (2, None, [0, 0, 0]),
        (3, None, [0, 1, 2]),
        (3, (2, 1, 0), [2, 1, 0]),
        (12, (), [0, 1, 2]),
        (12, (3, 2, 1), [3, 2, 1]),
    ],
)
def test_any_number_of_channels_is_shown(
    channels: int, rgb: tuple[int, ...] | None, shown: list[int]
) -> None:
    images = torch.rand(2, channels, 9, 8) * torch.tensor([1.0, 0.2])[:, None, None, None]
    chosen = images[:, shown].permute(0, 2, 3, 1)
    if channels > 3:  # dark images are stretched, the ratios of their channels stay
        low, high = np.percentile(chosen.flatten(1), (2, 98), axis=1)[..., None, None, None]
        chosen = ((chosen - low) / (high - low)).clip(0, 1)
    expected = (np.asarray(chosen) * 255).round()
    assert np.abs(to_uint8_rgb(images, None, None, rgb) - expected).max() <= 1
    images[:] = float("nan")
    assert not to_uint8_rgb(images, None, None, rgb).any()


def test_wrong_predictions_are_marked_and_named() -> None:
    images = np.zeros((2, 8, 8, 3), np.uint8)
    targets, predicted = torch.tensor([1, 2]), torch.tensor([1, 0])
    panels = class_panels(images, targets, predicted, torch.tensor([0.9, 0.8]), ["cat", "dog", "\u732b"])
    assert [panel.lines for panel in panels] == [["dog 90%"], ["cat 80%", "is \u732b"]]
    picture = np.asarray(panel_grid(panels, 16))
    width = 16 + 2 * FRAME_WIDTH
    assert tuple(picture[2, 5]) == CORRECT
    assert tuple(picture[2, width + 5]) == FALSE_POSITIVE
    assert class_panels(images, targets, predicted, torch.rand(2), None)[1].lines[1] == "is 2"


def parts(panel: Panel) -> list[np.ndarray]:
    """Image, right mask, predicted mask, errors."""
    return np.split(panel.pixels.astype(int), 4, axis=1)


def test_masks_and_errors_are_shown_side_by_side() -> None:
    images = np.full((1, 4, 5, 3), 100, np.uint8)
    truth, guess = torch.zeros(1, 4, 5, dtype=torch.long), torch.zeros(1, 4, 5, dtype=torch.long)
    truth[0, 0, :3] = 1
    guess[0, 0, 1:4] = torch.tensor([1, 2, 1])
    (panel,) = mask_panels(images, truth, guess)
    assert panel.color == TEXT
    assert panel.lines == ["85.0% of pixels"]
    image, right, found, errors = parts(panel)
    assert (image == 100).all()
    for picture, mask in ((right, truth), (found, guess)):
        assert np.array_equal((picture != 100).any(axis=2), mask[0].numpy() > 0)
    assert not np.array_equal(found[0, 1], found[0, 2])  # two classes, two colors
    nearest = [
        min(
            (FALSE_NEGATIVE, CORRECT, OTHER_CLASS, FALSE_POSITIVE),
            key=lambda color, j=j: np.abs(errors[0, j] - color).sum(),
        )
        for j in range(4)
    ]
    assert nearest == [FALSE_NEGATIVE, CORRECT, OTHER_CLASS, FALSE_POSITIVE]
    assert (errors[1:] == 50).all()
    assert panel_grid([panel], 8).width == 4 * 10 + 2 * FRAME_WIDTH


def test_planes_of_classes_are_shown_together() -> None:
    images = np.full((1, 3, 4, 3), 100, np.uint8)
    truth = torch.zeros(1, 2, 3, 4, dtype=torch.long)
    truth[0, 0, 0, :2] = truth[0, 1, 0, 1:3] = 1
    guess = truth.clone()
    guess[0, 1, 0, 1] = 0
    guess[0, 1, 2, 3] = 1
    (panel,) = mask_panels(images, truth, guess)
    _, right, found, errors = parts(panel)
    assert np.abs(right[0, 1] - (right[0, 0] + right[0, 2]) / 2).max() <= 1  # both classes there
    assert np.array_equal(found[0, 1], right[0, 0])
    assert [
        np.abs(errors[pixel] - color).sum() < 150
        for pixel, color in (((0, 0), CORRECT), ((0, 1), OTHER_CLASS), ((2, 3), FALSE_POSITIVE))
    ] == [True] * 3
    assert panel.lines == ["91.7% of pixels"]


@pytest.mark.parametrize(("mode", "ignore_index"), [("binary", None), ("binary", 1), ("multilabel", None)])
def test_pictures_of_masks_of_other_sizes(tmp_path: Path, mode: str, ignore_index: int | None) -> None:
    """Masks of their stored sizes, and probabilities of one channel."""

    class Whole(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            generator = torch.Generator().manual_seed(index)
            size = (9 + index, 20) if mode == "binary" else (2, 9 + index, 20)
            mask = torch.randint(2, size, generator=generator)
            return {"image": torch.rand(5, 6, 7, generator=generator), "mask": mask}

    loader = torch.utils.data.DataLoader(Whole(), batch_size=1)
    num_classes = 1 if mode == "binary" else 2
    task = SegmentationTask(
        torch.nn.Conv2d(5, num_classes, 1),
        num_classes=num_classes,
        mode=mode,
        ignore_index=ignore_index,
        optimizer={"lr": 0.1},
        scheduler={"name": "constant", "warmup_epochs": 0},
        loss={"name": "bce"},
    )
    small = torch.utils.data.DataLoader(
        [{"image": torch.rand(5, 6, 7), "mask": Whole()[0]["mask"][..., :6, :7]}]
    )
    trainer = tiny_trainer(tmp_path, callbacks=[PredictionImages(tmp_path / "p", tile=12)], max_epochs=1)
    trainer.fit(task, small, loader)
    picture = Image.open(tmp_path / "p" / "val_epoch0001.png")
    assert picture.width == 2 * (4 * 14 + 2 * FRAME_WIDTH)


def test_drawing_leaves_the_random_numbers_alone(tmp_path: Path) -> None:
    weights = []
    for callbacks in ([], [PredictionImages(tmp_path / "p")]):
        pl.seed_everything(0, verbose=False)
        task = tiny_task()
        tiny_trainer(tmp_path, callbacks=callbacks, max_epochs=2).fit(task, datamodule=TinyData())
        weights.append(task.model.head.weight)
    assert torch.equal(*weights)
