"""`eval.py mode=predict`: what evaluation sees, its threshold and names; refusals before anything."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

from kanvision.app.build import setup_datamodule
from kanvision.app.load_run import load_run
from kanvision.app.predict.run import predict
from kanvision.app.restore import restore
from kanvision.app.train import train
from kanvision.config import ConfigError, EvalConfig, FolderInUseError, compose, parse_train
from kanvision.config.runtime.run_lock import NAME
from kanvision.data.errors import DataError
from kanvision.data.files.mask_pixels import read_label_values
from kanvision.data.files.pixels import FileError
from tests.config.runtime.test_run_lock import Holder
from tests.data import fake
from tests.data.fake_masks import geotiff, save, scan

from .conftest import REPOSITORY

QUICK = (
    *("trainer=cpu", "trainer.accelerator=cpu", "trainer.max_epochs=1", "trainer.enable_progress_bar=false"),
    *("logger=none", "test=false", "scheduler.warmup_epochs=0"),
)
FIELDS = (
    "model=ukan",
    "data=synthetic_fields",
    "data.limit=16",
    "data.limit_test=16",
    "data.batch_size=8",
    "data.img_size=32",
)
CPU = {"trainer": {"accelerator": "cpu", "enable_progress_bar": False}, "mode": "predict"}


def trained(folder: Path, *words: str) -> Path:
    config = parse_train(compose("train", (*QUICK, *words, f"run.dir={folder}"), REPOSITORY / "conf"))
    train(config)
    return folder


@pytest.fixture(scope="module")
def fields(tmp_path_factory) -> Path:
    """A network of four classes and four bands."""
    return trained(tmp_path_factory.mktemp("fields") / "run", *FIELDS)


def config(ckpt: Path, images: Path, output: Path, **predict) -> EvalConfig:
    return EvalConfig(ckpt=str(ckpt), input=str(images), output=str(output), predict=predict, **CPU)


def as_tested(cfg: EvalConfig):
    """The task, and the first batch of the test images with their stored pixels."""
    restored = restore(cfg)
    task, datamodule = restored.task, setup_datamodule(restored.train_cfg)
    batch = next(iter(datamodule.test_dataloader()))
    source = datamodule.datasets["test"].source
    return task.eval(), batch, [source[int(index)]["image"].numpy() for index in batch["index"]]


@torch.inference_mode()
def test_predictions_are_those_of_the_test(fields: Path, tmp_path: Path) -> None:
    cfg = config(fields, tmp_path / "in", tmp_path / "out")
    (tmp_path / "in").mkdir()
    task, batch, images = as_tested(cfg)
    for index, pixels in enumerate(images):  # as arrays, and as GeoTIFF of one tile
        if index % 2:
            geotiff(tmp_path / "in" / f"{index}.tif", pixels)
        else:
            np.save(tmp_path / "in" / f"{index}.npy", pixels)
    predict(cfg)
    expected = task.predictions(task(batch["image"]))
    for index, planes in enumerate(expected.numpy()):
        if index % 2:
            with rasterio.open(tmp_path / "out" / "probabilities" / f"{index}.tif") as file:
                found = file.read()
        else:
            found = np.load(tmp_path / "out" / "probabilities" / f"{index}.npy")
        np.testing.assert_allclose(found, planes, atol=1e-5)
        mask = tmp_path / "out" / "masks" / f"{index}.{'tif' if index % 2 else 'png'}"
        np.testing.assert_array_equal(read_label_values(mask), found.argmax(axis=0))


def test_the_threshold_and_the_names_of_the_checkpoint_are_used(tmp_path: Path) -> None:
    words = ("data.mode=binary", "data.num_classes=2", "metrics.threshold=search")
    run = trained(tmp_path / "run", *FIELDS, *words)
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    checkpoint["kanvision"] |= {"thresholds": [0.2718], "class_names": ["crop"]}
    torch.save(checkpoint, tmp_path / "moved.ckpt")
    pixels = np.random.default_rng(0).random((4, 70, 50)).astype(np.float32)
    cfg = config(tmp_path / "moved.ckpt", geotiff(tmp_path / "a.tif", pixels), tmp_path / "out")
    predict(cfg)
    with rasterio.open(tmp_path / "out" / "probabilities" / "a.tif") as file:
        assert file.descriptions == ("crop",)
        found = file.read(1)
    assert (found > 0.2718).any()
    np.testing.assert_array_equal(read_label_values(tmp_path / "out" / "masks" / "a.tif"), found > 0.2718)
    loaded = load_run(tmp_path / "moved.ckpt")(tmp_path / "a.tif")
    np.testing.assert_array_equal(loaded.mask, found > 0.2718)
    assert loaded.class_names == ("crop",)
    about = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert about["protocol"]["threshold"].startswith("0.2718")
    with (tmp_path / "out" / "predictions.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["share_crop"]) == pytest.approx((found > 0.2718).mean(), abs=1e-6)


@torch.inference_mode()
def test_the_mean_over_mirror_images(fields: Path, tmp_path: Path) -> None:
    cfg = config(fields, tmp_path / "a.tif", tmp_path / "out", tta="flips")
    task, batch, images = as_tested(cfg)
    geotiff(tmp_path / "a.tif", images[0])
    predict(cfg)
    views = [
        task.predictions(task(batch["image"][:1].flip(axes))).flip(axes)[0].numpy()
        for axes in ((), (-1,), (-2,), (-2, -1))
    ]
    with rasterio.open(tmp_path / "out" / "probabilities" / "a.tif") as file:
        np.testing.assert_allclose(file.read(), np.mean(views, axis=0), atol=1e-5)


def test_the_program_predicts_a_scene_and_says_what_it_wrote(program, fields: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((4, 90, 110)).astype(np.float32)
    pixels[:, :10, :10] = np.nan
    scene = geotiff(tmp_path / "scene.tif", pixels)
    line = ("mode=predict", f"ckpt={fields}", "input=scene.tif", "trainer.accelerator=cpu")
    done = program("eval.py", *line, "output=out", "predict.overlap=8")
    assert done.stderr == ""
    for words in (
        "scene.tif",
        "110 x 90",
        "20 tiles of 32",
        "Written: out",
        "100 pixels in scene.tif hold no data",
    ):
        assert words in done.stdout, done.stdout
    out = tmp_path / "out"
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    named = {
        f"{kind}/scene.{end}"
        for kind, end in (("masks", "tif"), ("probabilities", "tif"), ("overlays", "png"))
    }
    assert files == named | {"predictions.csv", "predictions.json"}
    with rasterio.open(scene) as before, rasterio.open(out / "masks" / "scene.tif") as after:
        assert (before.crs, before.transform, before.shape) == (after.crs, after.transform, after.shape)
    again = config(fields, scene, out)
    with pytest.raises(DataError, match=r"predict\.overwrite=true"):
        predict(again)
    predict(again.model_copy(update={"predict": again.predict.model_copy(update={"overwrite": True})}))


def test_nothing_is_predicted_if_any_file_is_of_no_use(fields: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    geotiff(folder / "good.tif", np.zeros((4, 40, 40), np.float32))
    geotiff(folder / "twelve.tif", np.zeros((12, 40, 40), np.float32))
    save(folder / "color.png", scan(1))
    (folder / "broken.tif").write_text("no image")
    with pytest.raises(DataError) as refused:
        predict(config(fields, folder, tmp_path / "out"))
    text = str(refused.value)
    for words in (
        "3 problems",
        "broken.tif: cannot be read",
        "twelve.tif: has 12 bands",
        "color.png: has 3 bands",
    ):
        assert words in text, text
    assert "trained on 4" in text
    assert not (tmp_path / "out").exists()
    predict(config(fields, folder / "twelve.tif", tmp_path / "out", bands=[12, 1, 2, 3]))


def test_a_folder_takes_one_prediction_at_a_time(fields: Path, tmp_path: Path) -> None:
    geotiff(tmp_path / "one.tif", np.zeros((4, 40, 40), np.float32))
    cfg = config(fields, tmp_path / "one.tif", tmp_path / "out")
    other = Holder(tmp_path / "out")
    assert other.refusal() == ""
    with pytest.raises(FolderInUseError, match=f"(?s)output=.*process {other.process.pid} on"):
        predict(cfg)
    other.end()
    assert all(path.name != NAME for path in predict(cfg))


def test_a_loaded_run_predicts_masks_as_the_program_does(fields: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 40, 50), np.uint8)
    scene = geotiff(tmp_path / "in" / "scene.tif", pixels)  # with a georeference, which makes tiles
    np.save(tmp_path / "in" / "array.npy", pixels)
    predict(config(fields, tmp_path / "in", tmp_path / "out"))
    predictor = load_run(fields)
    found = predictor([scene, pixels, pixels.transpose(1, 2, 0), pixels / 255])
    for prediction, name in zip(found, ("scene.tif", "array.png", "array.png", "array.png"), strict=True):
        np.testing.assert_array_equal(prediction.mask, read_label_values(tmp_path / "out" / "masks" / name))
    written = np.load(tmp_path / "out" / "probabilities" / "array.npy")
    np.testing.assert_allclose(found[1].probabilities, written, atol=1e-6)
    assert found[0].class_names == load_run(fields / "checkpoints" / "last.ckpt").class_names
    assert len(found[0].class_names) == 4
    found[1].to_image().save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_label_values(tmp_path / "mask.png"), found[1].mask)
    with pytest.raises(FileError, match="has 3 bands"):
        predictor(pixels[:3])
    with pytest.raises(DataError, match="from 0 to 255; legal: numbers from 0 to 1"):
        predictor(pixels.astype(np.float32))


def test_values_far_from_those_of_the_training_are_remarked(fields: Path, tmp_path: Path, capsys) -> None:
    scene = geotiff(tmp_path / "a.tif", np.full((4, 40, 40), 3000, np.float32))
    predict(config(fields, scene, tmp_path / "far"))
    assert "predict.max_value" in capsys.readouterr().out
    predict(config(fields, scene, tmp_path / "near", max_value=7500.0, probabilities=False))
    assert "predict.max_value" not in capsys.readouterr().out
    assert not (tmp_path / "near" / "probabilities").exists()


def test_classes_of_pictures_are_those_of_the_test_by_their_names(tmp_path: Path, monkeypatch) -> None:
    for split in ("train", "test"):
        fake.class_folders(tmp_path / "photos" / split)
    words = ("data=image_folder", f"data.root={tmp_path / 'photos'}", "data.img_size=16", "data.batch_size=4")
    run = trained(tmp_path / "run", *words, "model.width_scale=0.125")
    cfg = config(run, tmp_path / "photos" / "test", tmp_path / "out")
    predict(cfg)
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    restored = restore(cfg)
    task, datamodule = restored.task, setup_datamodule(restored.train_cfg)
    names = datamodule.class_names
    dataset = datamodule.datasets["test"]
    assert len(rows) == len(dataset) > 0
    with torch.inference_mode():
        for index in range(len(dataset)):
            path = dataset.source.path(index).relative_to(tmp_path / "photos" / "test").as_posix()
            (values,) = task.predictions(task.eval()(dataset[index]["image"][None])).numpy()
            assert rows[path]["class"] == names[int(values.argmax())]
            assert float(rows[path]["probability"]) == pytest.approx(float(values.max()), abs=1e-5)
    files = [tmp_path / "photos" / "test" / name for name in rows]
    pictures = [Image.open(path) for path in files]
    arrays = [np.asarray(picture.convert("RGB")) for picture in pictures]
    predictor = load_run(run)
    for images in (files, list(map(str, files)), pictures, arrays, arrays[0]):
        predictions = predictor(images) if isinstance(images, list) else [predictor(images)]
        for prediction, row in zip(predictions, rows.values(), strict=isinstance(images, list)):
            expected = [(row["class"], row["probability"]), (row["class_2"], row["probability_2"])]
            assert [(name, f"{value:.6f}") for name, value in prediction.top(2)] == expected
            assert (prediction.label, f"{prediction.probability:.6f}") == expected[0]
    predict(config(run, tmp_path / "photos" / "test", tmp_path / "table.csv", max_pixels=1000))
    assert (tmp_path / "table.csv").read_text() == (tmp_path / "out" / "predictions.csv").read_text()
    assert (tmp_path / "table.json").exists()
    with pytest.raises(DataError, match=r"more than predict\.max_pixels=10;"):
        predict(config(run, tmp_path / "photos" / "test", tmp_path / "other", max_pixels=10))
    with pytest.raises(ConfigError, match=r"predict\.tile=32"):
        predict(config(run, tmp_path / "photos" / "test", tmp_path / "other", tile=32))


def test_one_image_gives_the_file_that_is_asked_for(program, fields: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((4, 40, 50)).astype(np.float32)
    geotiff(tmp_path / "one.tif", pixels)
    line = ("mode=predict", f"ckpt={fields}", "input=one.tif", "output=mask.tif", "trainer.accelerator=cpu")
    done = program("eval.py", *line)
    assert "mask.tif: background" in done.stdout, done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"one.tif", "mask.tif", "mask.json"}
    predict(config(fields, tmp_path / "one.tif", tmp_path / "out"))
    np.testing.assert_array_equal(
        read_label_values(tmp_path / "mask.tif"), read_label_values(tmp_path / "out" / "masks" / "one.tif")
    )
    with pytest.raises(DataError, match=r"mask\.tif and 1 more: exists; predict\.overwrite=true"):
        predict(config(fields, tmp_path / "one.tif", tmp_path / "mask.tif"))
    with pytest.raises(DataError, match="is an image to predict"):
        predict(config(fields, tmp_path / "one.tif", tmp_path / "one.tif"))


def test_masks_beside_images_are_left_out_and_named(fields: Path, tmp_path: Path, capsys) -> None:
    for name in ("a.tif", "a_mask.tif"):
        geotiff(tmp_path / "in" / name, np.zeros((4, 40, 40), np.float32))
    predict(config(fields, tmp_path / "in", tmp_path / "out", probabilities=False))
    assert "Left out, being masks of other images: a_mask.tif" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out" / "masks").iterdir()} == {"a.tif"}
