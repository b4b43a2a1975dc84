"""A signal ends either program with its own exit status and a word on how to go on, wherever it comes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.programs import run_program

from .conftest import REPOSITORY

QUICK = (
    "trainer.accelerator=cpu",
    "data.limit=60",
    "data.limit_test=60",
    "data.batch_size=16",
    "model.width_scale=0.125",
    "trainer.max_epochs=1",
    "scheduler.warmup_epochs=0",
    "logger=none",
)
TEST = "kanvision.tasks:Task.test_step"
Call = Callable[..., subprocess.CompletedProcess[str]]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    return run_program(words, folder, environment)


def signaled(folder: Path, function: str, name: str, script: str, *words: str) -> tuple[int, str]:
    """Exit status and last line of a program that gets a signal."""
    driver = str(Path(__file__).with_name("signal_run.py"))
    done = run(folder, driver, function, name, str(REPOSITORY / script), *words)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """A run that is stopped in its test."""
    folder = tmp_path_factory.mktemp("stopped")
    return folder, *signaled(folder, TEST, "SIGTERM", "train.py", *QUICK, "run.dir=run")


@pytest.fixture(scope="module")
def finished(stopped: tuple[Path, int, str]) -> Path:
    """The same run, which has gone on to its end."""
    folder = stopped[0]
    done = run(folder, str(REPOSITORY / "train.py"), *QUICK, "resume=run")
    assert done.returncode == 0, done.stderr
    (folder / "pictures").mkdir()
    Image.new("L", (8, 8)).save(folder / "pictures" / "one.png")
    return folder


def test_a_stopped_test_is_not_a_finished_run(stopped: tuple[Path, int, str]) -> None:
    folder, status, said = stopped
    assert status == 143
    assert said == "SIGTERM: stopped during the test; resume=run continues from its latest checkpoint"
    assert not (folder / "run" / "metrics.json").exists()


def test_the_same_run_goes_on_with_its_test(finished: Path) -> None:
    record = json.loads((finished / "run" / "metrics.json").read_text())
    assert record["epochs"] == 1
    assert "test/acc1" in record


@pytest.mark.parametrize(("name", "status"), [("SIGUSR1", 143), ("SIGINT", 130), ("SIGHUP", 129)])
def test_each_signal_stops_the_test(tmp_path: Path, finished: Path, name: str, status: int) -> None:
    ended = signaled(finished, TEST, name, "train.py", *QUICK, "resume=run")
    assert ended == (
        status,
        f"{name}: stopped during the test; resume=run continues from its latest checkpoint",
    )


def test_a_signal_before_training(tmp_path: Path) -> None:
    function = "kanvision.data:ImageDataModule.setup"
    ended = signaled(tmp_path, function, "SIGINT", "train.py", *QUICK, "run.dir=run")
    assert ended == (130, "SIGINT: stopped before training started; run the same command again")


IMPORTING = """
import os, runpy, signal, sys

class Interrupt:
    def find_spec(name, path=None, target=None):
        if name == "hydra":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt)
if sys.argv[1:]:
    runpy.run_path(sys.argv[1], run_name="__main__")
else:
    runpy.run_module("kanvision", run_name="__main__")
"""


@pytest.mark.parametrize("words", [["train.py"], ["eval.py"], []])
def test_ctrl_c_while_the_program_is_imported(words: list[str]) -> None:
    """Detects the traceback of a KeyboardInterrupt before the program handles signals."""
    command = [sys.executable, "-c", IMPORTING, *(str(REPOSITORY / word) for word in words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (130, "")
    assert done.stdout.startswith("SIGINT: stopped before ")
    assert done.stdout.count("\n") == 1


def test_a_signal_in_training_where_nothing_is_saved(tmp_path: Path) -> None:
    function = "kanvision.tasks:Task.training_step"
    ended = signaled(tmp_path, function, "SIGTERM", "train.py", *QUICK, "callbacks=none", "run.dir=run")
    assert ended == (
        143,
        "SIGTERM: stopped during training; run holds no checkpoint, so training has to start over",
    )


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (TEST, ()),
        ("kanvision.app.predict.inference:Predictor.predict_classes", ("mode=predict", "input=pictures")),
        ("kanvision.data.inspection:Inspection.collect_issues", ("mode=check_data",)),
        ("kanvision.app.explain.run:explanation_targets", ("mode=explain",)),
        ("kanvision.app.analyze.run:write_page", ("mode=analyze", "analysis=histograms")),
    ],
)
def test_an_evaluation_that_is_stopped_does_not_end_with_0(
    finished: Path, function: str, words: tuple[str, ...]
) -> None:
    words = ("ckpt=run", "trainer.accelerator=cpu", *words)
    status, said = signaled(finished, function, "SIGTERM", "eval.py", *words)
    assert status == 143
    assert said == (
        "SIGTERM: stopped before the end, so results are missing or incomplete; run the same command again"
    )
