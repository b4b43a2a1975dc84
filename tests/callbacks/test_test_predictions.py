"""Predicted classes of test images, written as a table."""

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kanvision.callbacks import TestPredictions
from tests.tasks.tiny_problem import NUM_TEST, TinyData, tiny_task, tiny_trainer


def test_counts_of_masks_are_written_for_each_image(tmp_path: Path) -> None:
    callback = TestPredictions(tmp_path / "counts.csv")
    counts = torch.tensor([[[1, 2], [3, 4]], [[5, 6], [7, 8]], [[0, 0], [9, 1]]])  # (3, B, K)
    trainer: Any = SimpleNamespace(is_global_zero=True)
    batch = {"index": torch.tensor([7, 2])}
    callback.on_test_batch_end(trainer, None, {"measured": {"counts": counts}}, batch, 0)
    callback.on_test_epoch_end(trainer, None)
    text = (tmp_path / "counts.csv").read_text()
    assert text == "image,hits,false_alarms,misses\n2,7,15,10\n7,3,11,0\n"


def test_the_table_gives_the_logged_accuracy(tmp_path: Path) -> None:
    """A lost batch, a shifted order or the classes of another split would give another accuracy."""
    path = tmp_path / "new" / "test_predictions.csv"
    trainer = tiny_trainer(tmp_path, callbacks=[TestPredictions(path)])
    task, data = tiny_task(), TinyData()
    logged = trainer.test(task, datamodule=data, verbose=False)[0]
    with path.open(newline="") as file:
        rows = [{key: int(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert [row["image"] for row in rows] == list(range(NUM_TEST))
    assert [row["target"] for row in rows] == [image % 7 for image in range(NUM_TEST)]
    right = sum(row["target"] == row["prediction"] for row in rows)
    assert right / NUM_TEST == pytest.approx(logged["test/acc1"])
