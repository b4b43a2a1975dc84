"""Contracts of configuration files and data sets: they compose, fit the schema, and train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kanvision.app.build import setup_datamodule
from kanvision.app.fit_from_python import fit
from kanvision.config import CONF, compose, parse_train
from kanvision.data import DataError

from .registered import choices

SMALL = ("trainer=cpu", "trainer.enable_progress_bar=false", "data.batch_size=4", "data.num_workers=0")
STEP = ("trainer.max_steps=1", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "test=false")


def words(file_choice: str) -> list[str]:
    """Return the overrides of a run with a file: data that fit a model, a model that fits data."""
    group, _, choice = file_choice.partition("=")
    kinds = {"classifier": "digits", "segmenter": "synthetic_fields"}
    tasks = {"classification": "convkan", "segmentation": "unext"}
    if group == "model":
        return [file_choice, f"data={kinds[choices().content(group, choice)['kind']]}"]
    if group == "data":
        return [file_choice, f"model={tasks[choices().content(group, choice)['task']]}"]
    return [file_choice]


def test_file(file_choice: str) -> None:
    """The file composes, and what it sets is legal."""
    parse_train(compose("train", words(file_choice), CONF), choices())


def test_data(reader_name: str) -> None:
    """Images have the size of the configuration, labels are legal, and reading again gives the same."""
    names = [
        name for name in choices().of("data") if choices().content("data", name).get("name") == reader_name
    ]
    if not names:
        pytest.skip(f"no file of conf/data has name: {reader_name}")
    cfg = parse_train(compose("train", [*words(f"data={names[0]}"), *SMALL], CONF), choices())
    datamodule = _set_up(cfg)
    batch = next(iter(datamodule.train_dataloader()))
    assert batch["image"].shape[1:] == (cfg.data.in_chans, cfg.data.img_size, cfg.data.img_size)
    labels = batch["target" if cfg.data.task == "classification" else "mask"]
    assert labels.dtype == torch.int64
    ignored = getattr(cfg.data, "ignore_index", None)
    legal = {*range(max(2, datamodule.num_classes)), ignored}
    assert set(labels.unique().tolist()) <= legal
    again = next(iter(_set_up(cfg).train_dataloader()))
    assert torch.equal(batch["image"], again["image"])


def _set_up(cfg: Any) -> Any:
    try:
        return setup_datamodule(cfg)
    except DataError as error:
        pytest.skip(f"the data are not here: {str(error).splitlines()[0]}")


def test_step(file_choice: str, tmp_path: Path) -> None:
    """A step of training with the model, data, callbacks or loggers of the file; checkpoints load safely."""
    group = file_choice.partition("=")[0]
    if group not in ("model", "data", "callbacks", "logger"):
        pytest.skip("a file without code of its own")
    try:
        run = fit(*words(file_choice), *SMALL, *STEP, f"run.dir={tmp_path / 'run'}")
    except DataError as error:
        pytest.skip(f"the data are not here: {str(error).splitlines()[0]}")
    assert run.trainer.global_step == 1
    assert (run.folder / "metrics.json").exists()
    checkpoint = run.folder / "checkpoints" / "last.ckpt"
    if checkpoint.exists():
        torch.load(checkpoint, weights_only=True)
