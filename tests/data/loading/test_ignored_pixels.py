"""Pixels with a stored value that neither trains nor counts."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kanvision.app.build import setup_datamodule
from kanvision.app.evaluate import evaluate
from kanvision.app.restore import restore
from kanvision.app.train import train
from kanvision.callbacks.prediction_images import mask_panels
from kanvision.config import ConfigError, EvalConfig, compose, parse_train
from tests.data.fake_masks import disc, geotiff, save, scan
from tests.data.reading_masks import masks, refusal

VOID = 255
FREE = {"num_classes": None, "mean": None, "std": None, "mask_folder": "masks", "ignore_index": VOID}
CONF = Path(__file__).parents[3] / "conf"


def own_masks(root: Path, mode: str = "multiclass", num: int = 8) -> Path:
    """Squares of class 1 or 2 in masks whose last rows do not count; multilabel has a folder a class."""
    for i in range(num):
        image = scan(i) // 2
        image[disc(corner=(2 + i % 3, 2)) > 0] = (255, 120 * (i % 2), 0)
        save(root / "images" / f"{i}.png", image)
        for plane in (0, 1) if mode == "multilabel" else ("",):
            mask = disc(corner=(2 + i % 3, 2), level=1 + (i % 2 if mode == "multiclass" else 0))
            mask[12:] = VOID
            save(root / "masks" / str(plane) / f"{i}.png", mask)
    return root


@pytest.mark.parametrize(
    ("mode", "num_classes", "values"),
    [("binary", 2, {0, 1, VOID}), ("multiclass", 3, {0, 1, 2, VOID}), ("multilabel", 2, {0, 1, VOID})],
)
def test_batches_keep_the_value_and_classes_do_not_count_it(
    tmp_path: Path, mode: str, num_classes: int, values: set[int]
):
    data = masks("segmentation_folder", own_masks(tmp_path, mode), **FREE, mode=mode)
    assert data.num_classes == num_classes
    batch = next(iter(data.train_dataloader()))
    assert set(batch["mask"].unique().tolist()) == values
    assert (batch["mask"][..., 12:, :] == VOID).all()


def test_a_negative_label_of_a_geotiff_can_be_ignored(tmp_path: Path):
    for i in range(6):
        save(tmp_path / "images" / f"{i}.png", scan(i))
        mask = disc(level=1).astype(np.int16)
        mask[0] = -7
        geotiff(tmp_path / "masks" / f"{i}.tif", mask[None])
    changes = {**FREE, "ignore_index": -7, "mode": "multiclass"}
    sample = masks("segmentation_folder", tmp_path, **changes)
    sample.setup()
    assert set(sample.datasets["train"].source[0]["mask"].unique().tolist()) == {-7, 0, 1}
    assert "holds label -7 (20 such pixels); legal for data.num_classes=2: 0 to 1 and 255" in refusal(
        "segmentation_folder", tmp_path, **{**FREE, "num_classes": 2, "mode": "multiclass"}
    )


def test_masks_with_nothing_but_ignored_pixels_are_empty(tmp_path: Path):
    for i in range(6):
        save(tmp_path / "images" / f"{i}.png", scan(i))
        save(tmp_path / "masks" / f"{i}.png", np.full((16, 20), VOID, np.uint8))
    assert "empty, as are all of the 6 masks" in refusal("segmentation_folder", tmp_path, **FREE)


@pytest.mark.parametrize("mode", ["binary", "multiclass", "multilabel"])
def test_scores_of_a_run_are_those_of_the_other_pixels(tmp_path: Path, mode: str):
    root, run = own_masks(tmp_path / "data", mode, num=20), tmp_path / "run"
    words = (
        f"model=unet model.size=tiny model.width_scale=0.5 data=segmentation_folder data.root={root} "
        f"data.mode={mode} data.ignore_index={VOID} data.img_size=16 data.batch_size=4 data.num_workers=0 "
        "data.mean=[0.5,0.5,0.5] data.std=[0.2,0.2,0.2] trainer=cpu logger=none trainer.max_epochs=6 "
        "scheduler.warmup_epochs=0 optimizer.lr=0.02 metrics.protocol=[dataset] "
        f"loss.name={'bce' if mode == 'multilabel' else 'cross_entropy'} run.dir={run}"
    )
    train(parse_train(compose("train", words.split(), CONF)))
    found = evaluate(EvalConfig(ckpt=str(run)))
    assert list(run.rglob("val_epoch0001.png"))
    restored = restore(EvalConfig(ckpt=str(run)))
    data = setup_datamodule(restored.train_cfg)
    task, counts = restored.task.eval(), torch.zeros(3, 2)
    for batch in data.test_dataloader():
        with torch.no_grad():
            said = task.predicted_masks(task.predictions(task(batch["image"])))[..., :12, :]
        right = batch["mask"][..., :12, :]
        for label in (0, 1):  # of foreground
            here = [x[:, label] == 1 if mode == "multilabel" else x == label + 1 for x in (said, right)]
            both, either = here[0] & here[1], here[0] | here[1]
            counts[:, label] += torch.stack([both.sum(), either.sum(), here[1].sum()])
    scores = (counts[0] / counts[1])[counts[1] > 0]
    assert found["test/iou_dataset"] == pytest.approx(float(scores.mean()), abs=1e-6)
    assert scores.max() > 0.1  # something is found, and not all of it
    assert 0 < found["test/loss"] < 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("data.mode=binary data.ignore_index=1", "binary masks hold 0 for background and 1 for foreground"),
        ("data.mode=binary data.threshold=127 data.ignore_index=255", "take data.threshold=0"),
    ],
)
def test_what_cannot_be_ignored_is_refused(line: str, words: str):
    with pytest.raises(ConfigError, match=words):
        parse_train(compose("train", ["model=unet", "data=segmentation_folder", *line.split()], CONF))


def test_ignored_pixels_are_clear_in_pictures():
    truth = torch.zeros(1, 6, 6, dtype=torch.int64)
    truth[0, :3], truth[0, 3, :3] = -1, 1
    guess = torch.ones_like(truth)
    image = np.full((1, 6, 6, 3), 100, np.uint8)
    (panel,) = mask_panels(image, truth, guess)
    assert panel.lines == ["16.7% of pixels"]  # 3 of 18
    assert (panel.pixels[:3, 6:18] == 100).all()  # right and predicted mask show the image
    assert (panel.pixels[:3, 18:] == 50).all()
