"""Scores of single images of a test, against sums over the written rows."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from kanvision.app.evaluate import evaluate
from kanvision.app.train import train
from kanvision.config import EvalConfig, compose, parse_eval, parse_train

CONF = Path(__file__).resolve().parents[2] / "conf"
QUICK = (
    *("trainer.accelerator=cpu", "data.batch_size=20", "trainer.max_epochs=1", "logger=none", "seed=1"),
    *("scheduler.warmup_epochs=0", "trainer.enable_progress_bar=false", "callbacks=default", "test=false"),
    "++callbacks.prediction_images.num_images=1",
)


def run_test(folder: Path, *words: str) -> tuple[dict[str, float], Path]:
    """Train with some settings; return the metrics of the test and the folder of its images."""
    train(parse_train(compose("train", [*QUICK, *words, f"run.dir={folder}"], CONF)))
    quiet = ("trainer.accelerator=cpu", "trainer.enable_progress_bar=false")
    config = parse_eval(compose("eval", [f"ckpt={folder}", *quiet], CONF))
    assert isinstance(config, EvalConfig)
    return evaluate(config), folder / "eval" / "test"


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_rows_of_a_classifier_add_up_to_its_metrics(tmp_path: Path) -> None:
    """Catches rows in another order than the images, and scores that are not those of the test."""
    words = ("model.width_scale=0.25", "data.limit=300", "data.limit_test=70")
    metrics, folder = run_test(tmp_path / "run", *words)
    images, classes = read(folder / "images.csv"), read(folder / "classes.csv")
    assert len(images) == 70
    assert np.mean([int(row["correct"]) for row in images]) == pytest.approx(metrics["test/acc1"])
    assert np.mean([float(row["loss"]) for row in images]) == pytest.approx(metrics["test/loss"], rel=1e-4)
    for row in images:
        assert (row["class"] == row["prediction"]) == (row["correct"] == "1")
    five = next(row for row in classes if row["class"] == "5")
    predicted = [row for row in images if row["prediction"] == "5"]
    right = sum(row["correct"] == "1" for row in predicted)
    assert float(five["precision"]) == pytest.approx(right / max(1, len(predicted)))
    assert float(five["recall"]) == pytest.approx(right / int(five["images"]))
    pairs = read(folder / "confusion.csv")
    assert sum(int(pair["images"]) for pair in pairs) == 70
    bins = read(folder / "calibration.csv")
    ece = sum(
        int(float(row["images"])) / 70 * abs(float(row["accuracy"]) - float(row["confidence"]))
        for row in bins
    )
    assert ece == pytest.approx(metrics["test/ece"], rel=1e-4)
    page = (folder / "index.html").read_text("utf-8")
    assert page.count("data:image/png") == 4
    # of two classes the area needs one probability, which the rows have
    with (folder.parent / "test.json").open(encoding="utf-8") as file:
        assert json.load(file)["test/acc1"] == pytest.approx(metrics["test/acc1"])


def test_areas_are_those_of_the_probabilities() -> None:
    """Catches an area of the wrong class, and classes without images in the mean."""
    from kanvision.app.image_results import _roc_curves

    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), 50).astype(np.float32)
    target = rng.integers(0, 3, 50)
    curves = _roc_curves(probabilities, target)
    assert sorted(curves) == [0, 1, 2]
    for label, (_, _, area) in curves.items():
        assert area == pytest.approx(roc_auc_score(target == label, probabilities[:, label]))


def test_rows_of_a_segmenter_add_up_to_its_metrics(tmp_path: Path) -> None:
    """Catches counts of another image, and classes whose names are not those of the data."""
    words = ("model=unet", "model.size=tiny", "data=synthetic_fields", "data.limit=8", "data.limit_test=6")
    metrics, folder = run_test(tmp_path / "run", *words, "data.img_size=32")
    images, classes = read(folder / "images.csv"), read(folder / "classes.csv")
    assert len(images) == 6
    for score in ("iou", "f1", "precision", "recall"):
        mean = np.mean([float(row[score]) for row in images])
        assert mean == pytest.approx(metrics[f"test/{score}"], abs=1e-5)
    mean = np.mean([float(row["iou"]) for row in classes if row["iou"]])
    assert mean == pytest.approx(metrics["test/iou_dataset"], abs=1e-5)
    assert [row["class"] for row in classes] == [f"synthetic_crop_{label}" for label in (1, 2, 3)]
    assert (folder / "gallery.png").is_file()
