"""Predicted classes of test images, written as a table."""

import csv
from pathlib import Path

import pytest

from kanvision.callbacks import TestPredictions
from tests.tasks.tiny_problem import NUM_TEST, TinyData, tiny_task, tiny_trainer


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
