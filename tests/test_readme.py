"""README.md and docs/start.md: every command and every program runs, with smaller sizes."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .data import fake
from .data.fake_masks import geotiff
from .programs import run_program

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
START = re.findall(r"```(\w+)\n(.*?)```", (REPOSITORY / "docs" / "start.md").read_text(), re.DOTALL)
LINES = [line for kind, text in [*BLOCKS, *START] if kind == "bash" for line in text.splitlines() if line]
COMMANDS = list(dict.fromkeys(LINES))
ROW = r"^\|.*\| ([\d.]+)[^|]*?( \(IoU\))? \| ([\d,]+) \|.*\| `([^`]*)` \|$"
RESULTS = re.findall(ROW, README, re.MULTILINE)

SMALL = (
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=2",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1",
    "data.batch_size=4",
    "data.num_workers=0",
)
SMALL_BENCHMARKS = {"benchmarks": ["--only", "GroupRational 2x17x64"]}
SMALL_MODES = {
    "mode=predict": ["predict.overwrite=true"],
    "mode=explain": ["explain.num_images=1", "explain.num_steps=2"],
    "mode=analyze": ["analyze.spectra.num_images=2"],
    "mode=export": [],
    "mode=check_data": [],
    "mode=functions": ["analyze.functions.num_pictures=1", "analyze.functions.num_panels=1"],
    "mode=report": [],
    "mode=benchmark": ["num_passes=5", "img_size=16", "batch_sizes=[1]", "accelerator=cpu"],
}


def cut_down(command: str) -> list[str]:
    """The words of a command, with what makes it quick behind them."""
    words = shlex.split(command)
    if words[:2] == ["make", "test"]:
        return [*words, "ARGS=--collect-only -q tests/test_repository.py"]
    if words[:2] == ["make", "train"]:
        given = next((word.removeprefix("ARGS=") for word in words if word.startswith("ARGS=")), "")
        if given:  # make itself is tested by the command without arguments, and takes longer
            return ["python", "train.py", *shlex.split(given), *small_for(given)]
        return ["make", "train", "ARGS=" + " ".join(small_for(""))]
    if words[0] == "tensorboard":
        return [*words, "--inspect"]
    mode = next((word for word in words if word in SMALL_MODES), None)
    if words[:2] == ["python", "eval.py"] and mode:
        # Of a run that suits the mode, whichever run is the latest.
        run = "digits" if mode in ("mode=analyze", "mode=functions", "mode=export") else "fields"
        cpu = ["trainer.accelerator=cpu"] if "ckpt=latest" in words else []
        words = [f"ckpt=runs/{run}" if word == "ckpt=latest" else word for word in words]
        return [*words, *cpu, *SMALL_MODES[mode]]
    if words[0] == "torchrun":
        return [*words, *small_for(command)]
    if words[:2] in (["python", "train.py"], ["kanvision", "train"]) and "--help" not in words:
        return [*words, *small_for(command)]
    if words[:2] == ["python", "-m"] and words[2] in SMALL_BENCHMARKS:
        return [*words, *SMALL_BENCHMARKS[words[2]], "--warmup=1", "--repeats=2"]
    return words


def small_for(command: str) -> list[str]:
    """The shortening words that the command does not set itself, on processes that any machine has."""
    words = [word for word in SMALL if word.partition("=")[0] not in command]
    # A recipe for GPUs runs on two CPU processes here: the same ranks, samplers and folder.
    cpu = ["trainer.accelerator=cpu", *(["trainer.devices=2"] if "trainer=ddp " in command + " " else [])]
    return words + cpu


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder that looks like a clone in which the data sets have been put."""
    home = tmp_path_factory.mktemp("clone")
    for name in ("Makefile", "train.py", "eval.py", "conf", "benchmarks", "tests", "src", ".venv"):
        if (REPOSITORY / name).exists():
            (home / name).symlink_to(REPOSITORY / name)
    for name in ("requirements.lock", "pyproject.toml"):
        (home / name).symlink_to(REPOSITORY / name)
    fake.mnist(home / "data" / "fashion_mnist" / "FashionMNIST" / "raw")
    fake.cifar10(home / "data" / "cifar10" / "cifar-10-batches-py")
    fake.imagenet(home / "data" / "imagenet")
    for split in ("train", "test"):
        for number in range(40):
            fake.picture(home / "data" / "cifar10_fifth" / split / f"class_{number % 10}" / f"{number}.png")
    generator = np.random.default_rng(0)  # the check of the data refuses equal images in training and test
    for path in sorted((home / "data" / "cifar10_fifth").rglob("*.png")):
        own = home / "data" / "my_images" / path.relative_to(home / "data" / "cifar10_fifth")
        own.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (32, 32, 3), np.uint8)).save(own)
    # What `make train` leaves behind, for the commands that go on from a run, whatever the order is.
    run(home, ["python", "train.py", "run.dir=runs/digits", "model.size=4", *small_for("")])
    run(home, ["python", "train.py", "model=ukan", "run.dir=runs/fields", *small_for("")])
    geotiff(home / "images" / "field.tif", np.random.default_rng(0).random((4, 40, 50), np.float32))
    return home


def run(home, words):
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    if words[0] == "kanvision":
        process = run_program(["-m", *words], home, environment)
    elif words[0] == "python":
        process = run_program(words[1:], home, environment)
    elif words[0] == "torchrun":
        process = run_program(["-m", "torch.distributed.run", *words[1:]], home, environment)
    else:
        process = subprocess.run(
            words, cwd=home, capture_output=True, text=True, timeout=300, env=environment
        )
    assert process.returncode == 0, process.stdout + process.stderr
    return process


@pytest.mark.parametrize("command", COMMANDS)
def test_command(home, command):
    if command.startswith("make ") and not (REPOSITORY / ".venv" / ".installed").exists():
        pytest.skip("the environment was not made by make, which would install one here")
    run(home, cut_down(command))


@pytest.mark.parametrize("program", [text for language, text in BLOCKS if language == "python"])
def test_program(home, program):
    # Of a run that suits the program, whichever run is the latest.
    (home / "program.py").write_text(program.replace('"latest"', '"runs/fields"'), "utf-8")
    run(home, ["python", "program.py"])


def test_length_and_links():
    assert len(README.splitlines()) <= 250
    for target in re.findall(r"\]\(([^)#]+)", README):
        assert (REPOSITORY / target).exists(), target


def test_rows_of_results_are_found():
    assert len(RESULTS) == 3


@pytest.mark.parametrize(("score", "is_iou", "parameters", "command"), RESULTS)
def test_a_command_of_the_results_prints_its_row(home, score, is_iou, parameters, command):
    """The command runs as it stands, and prints the score that the row has, of the network of that size."""
    if command.startswith("make"):
        command = "python train.py"  # what it calls
    output = run(home, cut_down(command)).stdout
    assert ("test/iou" if is_iou else "test/acc1") in output
    assert parameters in output
    assert 0 < float(score) < 1
