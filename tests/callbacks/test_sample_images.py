"""The pictures of predictions: right pixels, wrong ones marked, and where they go."""

from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kanvision.callbacks import EMAWeights, SampleImages
from kanvision.callbacks.sample_images import (
    FRAME,
    INK,
    RIGHT,
    WRONG,
    class_panels,
    displayable,
    mask_panels,
    panel_grid,
)
from tests.tasks.tiny_problem import Blobs, TinyData, tiny_task, tiny_trainer


def test_pictures_are_written_after_validation(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="tb")
    samples = SampleImages(tmp_path / "pictures", num_images=7, every_n_epochs=2, tile=24)
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
        displayable(images, TinyData.mean, TinyData.std),
        targets,
        predicted,
        confidences,
        TinyData.class_names,
    )
    written = np.asarray(Image.open(tmp_path / "pictures" / files[1]))
    assert np.array_equal(written, np.asarray(panel_grid(panels, 24)))


def test_trial_runs_draw_nothing(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, callbacks=[SampleImages(tmp_path / "pictures")], fast_dev_run=True)
    trainer.fit(tiny_task(), datamodule=TinyData())
    assert not (tmp_path / "pictures").exists()


def test_normalisation_is_undone() -> None:
    pixels = torch.rand(2, 3, 4, 5)
    mean, std = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)
    normal = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    shown = displayable(normal, mean, std)
    assert shown.shape == (2, 4, 5, 3)
    assert np.abs(shown / 255 - pixels.permute(0, 2, 3, 1).numpy()).max() < 0.5 / 255 + 1e-6


@pytest.mark.parametrize(
    ("channels", "shown"), [(1, [0, 0, 0]), (2, [0, 0, 0]), (3, [0, 1, 2]), (12, [0, 1, 2])]
)
def test_any_number_of_channels_is_shown(channels: int, shown: list[int]) -> None:
    images = torch.rand(1, channels, 3, 3)
    expected = (images[0, shown].permute(1, 2, 0) * 255).round().numpy()
    assert np.array_equal(displayable(images, None, None)[0], expected)
    images[:] = float("nan")
    assert not displayable(images, None, None).any()


def test_wrong_predictions_are_marked_and_named() -> None:
    images = np.zeros((2, 8, 8, 3), np.uint8)
    targets, predicted = torch.tensor([1, 2]), torch.tensor([1, 0])
    panels = class_panels(images, targets, predicted, torch.tensor([0.9, 0.8]), ["cat", "dog", "\u732b"])
    assert [panel.lines for panel in panels] == [["dog 90%"], ["cat 80%", "is \u732b"]]
    picture = np.asarray(panel_grid(panels, 16))
    width = 16 + 2 * FRAME
    assert tuple(picture[2, 5]) == RIGHT
    assert tuple(picture[2, width + 5]) == WRONG
    assert class_panels(images, targets, predicted, torch.rand(2), None)[1].lines[1] == "is 2"


def test_masks_are_shown_side_by_side() -> None:
    images = np.full((1, 4, 4, 3), 100, np.uint8)
    truth, guess = torch.zeros(1, 4, 4, dtype=torch.long), torch.zeros(1, 4, 4, dtype=torch.long)
    truth[0, 0, 0] = 1
    (panel,) = mask_panels(images, truth, guess)
    assert panel.colour == INK
    assert panel.lines == ["93.8% of pixels"]
    changed = (panel.pixels != 100).any(axis=2)
    assert changed.sum() == 1
    assert changed[0, 0]
    assert panel_grid([panel], 10).width == 20 + 2 * FRAME


def test_drawing_leaves_the_random_numbers_alone(tmp_path: Path) -> None:
    weights = []
    for callbacks in ([], [SampleImages(tmp_path / "p")]):
        pl.seed_everything(0, verbose=False)
        task = tiny_task()
        tiny_trainer(tmp_path, callbacks=callbacks, max_epochs=2).fit(task, datamodule=TinyData())
        weights.append(task.model.head.weight)
    assert torch.equal(*weights)
