"""The programs from end to end on real images: what they print, write, refuse and go on from."""

import json
import os
import pickle
import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from kanvision.checkpoints import newest_sound_checkpoint
from tests.data import fake
from tests.programs import Program

from .conftest import REPOSITORY

QUICK = (
    "trainer.accelerator=cpu",
    "data.limit=120",
    "data.limit_test=120",
    "data.batch_size=16",
    "model.width_scale=0.125",
    "scheduler.warmup_epochs=0",
)


def only_run(folder: Path) -> Path:
    (run,) = (folder / "runs" / "convkan_digits").iterdir()
    return run


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def start(folder: Path, *words: str) -> Program:
    """Start a training that goes on beside the test."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    return Program([str(REPOSITORY / "train.py"), *words], folder, environment, folder)


def wait_for(program: Program, is_there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not is_there():
        assert program.process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_run_from_training_to_evaluation(program, tmp_path):
    trained = program("train.py", *QUICK, "trainer.max_epochs=2")
    run = only_run(tmp_path)
    assert "test/acc1" in trained.stdout
    assert "python eval.py ckpt=" in trained.stdout
    assert trained.stderr == ""  # nothing that libraries say at each run
    metrics = json.loads((run / "metrics.json").read_text())
    assert 0 <= metrics["test/acc1"] <= 1
    assert {"parameters", "flops", "seed", "commit", "versions", "train_seconds"} <= metrics.keys()
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["data"]["name"] == "digits"
    assert config["model"]["num_classes"] == 10
    assert list(run.rglob("events.out.tfevents*"))
    assert list(run.rglob("metrics.csv"))
    assert list(run.rglob("*.png"))
    assert (tmp_path / "runs" / "latest").resolve() == run.resolve()

    for ckpt in (str(run), "latest", str(run / "checkpoints" / "last.ckpt")):
        evaluated = program("eval.py", f"ckpt={ckpt}", "trainer.accelerator=cpu")
        assert "test/acc1" in evaluated.stdout
        assert evaluated.stderr == ""
    best = json.loads((run / "eval" / "test.json").read_text())
    assert best["test/acc1"] == pytest.approx(metrics["test/acc1"], abs=1 / 120)


def test_what_is_typed_holds_whatever_a_folder_is_called(program, tmp_path):
    """One epoch of a recipe with a longer warm-up, a key given twice, and a name that is no plain word."""
    folder = tmp_path / "a=b [x] :cat: 'ü'"
    quick = [word for word in QUICK if not word.startswith("scheduler.")]
    trained = program("train.py", *quick, "trainer.max_epochs=1", "seed=1", f"run.dir={folder}", "seed=2")
    assert trained.stderr == "Note: seed=2 replaces seed=1\n"
    assert json.loads((folder / "metrics.json").read_text())["seed"] == 2
    assert "0.5 of 1 epochs; scheduler.warmup_epochs=2 is not shorter than the run" in trained.stdout
    assert yaml.safe_load((folder / "config.yaml").read_text())["scheduler"]["warmup_epochs"] == 0.5
    assert folder.name in trained.stdout.splitlines()[1]  # commands have it with its quotes escaped
    command = next(line for line in trained.stdout.splitlines() if line.startswith("Next: python "))
    program(*shlex.split(command.removeprefix("Next: python ")), "trainer.accelerator=cpu")
    assert (folder / "eval" / "test.json").exists()


def test_a_killed_run_goes_on_to_the_same_weights(program, tmp_path):
    common = (*QUICK, "trainer.max_epochs=4", "test=false", "logger=none")
    program("train.py", *common, "run.dir=whole")
    expected = weights(tmp_path / "whole")

    started = start(tmp_path, *common)
    wait_for(started, lambda: bool(list(tmp_path.glob("runs/*/*/checkpoints/last.ckpt"))))
    started.kill()
    run = only_run(tmp_path)
    assert not (run / "metrics.json").exists()

    program("train.py", *common, "resume=auto")
    assert only_run(tmp_path) == run
    assert json.loads((run / "metrics.json").read_text())["resumed"]
    for name, tensor in weights(run).items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.long
def test_two_processes_share_one_run_and_count_each_test_image_once(program, tmp_path):
    quick = [word for word in QUICK if not word.startswith(("data.limit", "trainer."))]
    program(
        "train.py", *quick, "data.limit=101", "data.limit_test=101", "trainer=ddp_sim", "trainer.max_epochs=1"
    )
    run = only_run(tmp_path)
    metrics = json.loads((run / "metrics.json").read_text())
    program("eval.py", f"ckpt={run}", "trainer.accelerator=cpu")
    single = json.loads((run / "eval" / "test.json").read_text())
    assert metrics["test/acc1"] == pytest.approx(single["test/acc1"], abs=1e-6)
    assert metrics["test/acc1"] * 101 == pytest.approx(round(metrics["test/acc1"] * 101), abs=1e-3)


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_sigterm_ends_a_run_with_143_and_a_checkpoint_of_the_step(tmp_path):
    started = start(tmp_path, *QUICK, "trainer.max_epochs=400", "run.dir=run", "logger=none")
    wait_for(started, (tmp_path / "run" / "checkpoints" / "last.ckpt").exists)
    os.kill(started.pid, signal.SIGTERM)
    done = started.finish(120)
    assert done.returncode == 143
    newest = newest_sound_checkpoint(tmp_path / "run")
    step = torch.load(newest, weights_only=True)["global_step"]
    assert f"SIGTERM: stopped after step {step}, saved in {newest}" in done.stdout
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_a_checkpoint_with_code_is_refused_and_not_run(program, tmp_path):
    torch.save({"state_dict": {}, "extra": Payload(tmp_path / "ran")}, tmp_path / "bad.ckpt")
    process = program("eval.py", "ckpt=bad.ckpt", check=False)
    assert process.returncode != 0
    assert "bad.ckpt" in process.stderr
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "ran").exists()
    with (tmp_path / "plain.ckpt").open("wb") as file:
        pickle.dump(Payload(tmp_path / "ran"), file)
    process = program("eval.py", "ckpt=plain.ckpt", check=False)
    assert process.returncode != 0
    assert not (tmp_path / "ran").exists()


def test_a_run_goes_on_with_other_rates_and_with_no_other_training(program, tmp_path):
    common = (*QUICK, "test=false", "logger=none")
    program("train.py", *common, "trainer.max_epochs=1", "run.dir=run")
    recorded = (tmp_path / "run" / "config.yaml").read_text()
    for words, said in (
        ((*common, "seed=2", "optimizer.name=sgd"), ("  2. seed=2\n", "seed=42;", "optimizer.name=adamw;")),
        (("model=kat", "data.limit=120"), ("1. model=kat\n", "has model=convkan;")),
    ):
        refused = program("train.py", *words, "resume=run", check=False)
        assert refused.returncode == 1
        assert all(text in refused.stderr for text in said)
        assert "Traceback" not in refused.stderr
        assert (tmp_path / "run" / "config.yaml").read_text() == recorded
    rates = ("optimizer.lr=0.01", "optimizer.weight_decay=0.5", "optimizer.kan_lr=0.03")
    resumed = program("train.py", *common, "trainer.max_epochs=2", *rates, "resume=run")
    for changed in ("lr: 0.004 -> 0.01", "weight_decay: 0.02 -> 0.5", "kan_lr: null -> 0.03"):
        assert f"optimizer.{changed}" in resumed.stdout
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["kanvision"]["config"]["optimizer"]["lr"] == 0.01
    settings = {
        (group["initial_lr"], round(group["lr_scale"], 6), group["weight_decay"])
        for group in checkpoint["optimizer_states"][0]["param_groups"]
    }
    assert settings == {(0.01, scale, decay) for scale in (1.0, 3.0) for decay in (0.0, 0.5)}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data=cifar10", "data.root=nowhere"], ["nowhere", "cifar-10-batches-py"]),
        (["data=image_folder", "data.root=empty"], ["empty", "train"]),
    ],
)
def test_missing_data_is_explained(program, tmp_path, arguments, words):
    (tmp_path / "empty").mkdir()
    process = program("train.py", *arguments, check=False)
    assert process.returncode != 0
    assert "Traceback" not in process.stderr
    assert all(word in process.stderr for word in words)


def test_a_picture_that_a_loader_process_cannot_read_is_named(program, tmp_path):
    for split in ("train", "test"):
        fake.class_folders(tmp_path / "photos" / split)
    broken = fake.truncated(min((tmp_path / "photos" / "train" / "bee").iterdir()))
    words = ("data.root=photos", "data.img_size=16", "data.batch_size=2", "data.num_workers=1")
    process = program("train.py", "data=image_folder", *words, "model.width_scale=0.125", check=False)
    assert process.returncode == 1
    message = process.stderr.strip().splitlines()
    assert message[0].startswith("data set image_folder: 1 problem")
    assert f"{Path('photos/train/bee') / broken.name}: cannot be read as an image" in message[1]
    assert "Traceback" not in process.stderr
