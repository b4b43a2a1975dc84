"""The csv log of a resumed run holds the rows from before."""

import csv
from pathlib import Path

import pytest

from kanvision.callbacks import CSVLog, LastCheckpoint
from tests.tasks.tiny_problem import TinyData, tiny_task, tiny_trainer


def epochs(folder: Path) -> list[int]:
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        return [int(row["epoch"]) for row in csv.DictReader(file) if row["val/acc1"]]


@pytest.mark.filterwarnings("error:Experiment logs directory")
def test_resuming_goes_on_with_the_file(tmp_path: Path) -> None:
    def fit(max_epochs: int, resume: Path | None = None) -> None:
        logger = CSVLog(tmp_path, name="", version="csv")
        callbacks = [LastCheckpoint(tmp_path)]
        trainer = tiny_trainer(tmp_path, callbacks=callbacks, logger=logger, max_epochs=max_epochs)
        trainer.fit(tiny_task(), datamodule=TinyData(), ckpt_path=resume)

    fit(2)
    assert epochs(tmp_path) == [0, 1]
    fit(3, tmp_path / "last.ckpt")
    assert epochs(tmp_path) == [0, 1, 2]
