"""The range test writes its curve, and changes nothing."""

import csv
from pathlib import Path

import pytest
from PIL import Image

from kanvision.callbacks import LearningRateFinder
from kanvision.callbacks.lr_finder import find_steepest

from .stepwise import train
from .test_steps import same_end


@pytest.mark.parametrize("ema", [True, False])
def test_training_is_the_same_with_and_without(tmp_path: Path, ema: bool) -> None:
    """Weights, optimizer, random numbers or batches that the test leaves changed; a curve that is missing."""
    whole = train(tmp_path / "without", ema=ema)
    finder = LearningRateFinder(tmp_path / "pictures", num_steps=12, max_ratio=None)
    parts = train(tmp_path / "with", finder, ema=ema)
    assert parts.steps == whole.steps
    same_end(tmp_path / "without", tmp_path / "with")
    rows = list(csv.DictReader((tmp_path / "pictures" / "lr_finder.csv").open()))
    assert len(rows) == 12
    assert float(rows[-1]["lr"]) > 100 * float(rows[0]["lr"])
    assert Image.open(tmp_path / "pictures" / "lr_finder.png").size[0] > 500


def test_a_resumed_run_measures_nothing(tmp_path: Path) -> None:
    train(tmp_path, max_epochs=1)
    train(tmp_path, LearningRateFinder(tmp_path / "pictures"), resume=tmp_path / "last.ckpt", max_epochs=2)
    assert not (tmp_path / "pictures").exists()


def test_steepest_descent() -> None:
    """A slope over the rate instead of its logarithm, or a rate where the loss rises."""
    rates = [10.0**i for i in range(-5, 1)]
    assert find_steepest(rates, [3.0, 2.9, 2.5, 1.0, 0.9, 4.0]) == pytest.approx(1e-3)
    assert find_steepest(rates, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) is None
    assert find_steepest(rates[:2], [1.0, 0.5]) is None


def test_rates_must_rise() -> None:
    with pytest.raises(ValueError, match="rates must rise"):
        LearningRateFinder("pictures", min_lr=1.0, max_lr=0.1)
