"""Experiment files: one published number each, with a header that says how to get it and what to expect."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from kanvision.config import Choices, compose, parse_train
from kanvision.models import create_model

CONF = Path(__file__).resolve().parents[2] / "conf"
FILES = sorted(path.relative_to(CONF / "experiment") for path in (CONF / "experiment").rglob("*.yaml"))
CHOICES = Choices([CONF])
EXACT = re.compile(r"\b([\d,]+) parameters")
ROUNDED = re.compile(r"\b([\d.]+) M parameters")


def header(path: Path) -> list[str]:
    lines = (CONF / "experiment" / path).read_text("utf-8").splitlines()
    return [line[2:] for line in lines[1:] if line.startswith("# ")]


def complaints(name: str, lines: list[str]) -> list[str]:
    """What is missing from a header."""
    found = [] if lines and lines[0].endswith(".") else ["the first line is no sentence"]
    fields = {line.partition(" ")[0] for line in lines[1:]}
    found += [
        f"no line '{field}'" for field in ("command", "hardware", "expected", "source") if field not in fields
    ]
    commands = [line for line in lines if line.startswith("command ")]
    if commands and f"python train.py experiment={name}" not in commands[0]:
        found.append(f"the command is not that of {name}")
    if not any(re.search(r"\d", line) for line in lines if line.startswith("expected ")):
        found.append("no number is expected")
    return found


def test_faults_of_a_header_are_seen() -> None:
    good = [
        "A net on data.",
        "command   python train.py experiment=a/b",
        "hardware  1",
        "expected  9",
        "source x",
    ]
    assert complaints("a/b", good) == []
    assert len(complaints("a/c", good)) == 1
    assert len(complaints("a/b", good[:-1])) == 1
    assert len(complaints("a/b", ["no sentence", *good[1:]])) == 1


@pytest.mark.parametrize("path", FILES, ids=str)
def test_headers(path: Path) -> None:
    assert complaints(path.with_suffix("").as_posix(), header(path)) == []


def swept(path: Path) -> dict[str, list[str]]:
    """The values that a file of several runs tries for each key."""
    hydra = yaml.safe_load((CONF / "experiment" / path).read_text("utf-8")).get("hydra", {})
    params = hydra.get("sweeper", {}).get("params", {})
    return {key: str(values).split(",") for key, values in params.items()}


SWEPT = [path for path in FILES if swept(path)]


@pytest.mark.parametrize("path", SWEPT, ids=str)
def test_a_file_of_several_runs_says_so_and_its_last_run_is_legal(path: Path) -> None:
    name = path.with_suffix("").as_posix()
    assert f"experiment={name} -m" in header(path)[1]
    last = [f"{key}={values[-1]}" for key, values in swept(path).items()]
    parse_train(compose("train", [f"experiment='{name}'", *last], CONF), CHOICES)


COUNTED = [path for path in FILES if EXACT.search(header(path)[0]) or ROUNDED.search(header(path)[0])]


@pytest.mark.parametrize("path", COUNTED, ids=str)
def test_the_network_has_the_parameters_that_the_header_states(path: Path) -> None:
    name = path.with_suffix("").as_posix()
    config = parse_train(compose("train", [f"experiment='{name}'"], CONF), CHOICES)
    arguments = config.model.arguments()
    if config.model.takes_basis:
        arguments |= {"basis": config.basis.name, "basis_kwargs": config.basis.arguments()}
    with torch.device("meta"):
        model = create_model(config.model.name, **arguments)
    count = sum(parameter.numel() for parameter in model.parameters())
    title = header(path)[0]
    if exact := EXACT.search(title):
        assert count == int(exact[1].replace(",", ""))
    else:
        rounded = ROUNDED.search(title)
        assert rounded is not None
        digits = len(rounded[1].partition(".")[2])
        assert f"{count / 1e6:.{digits}f}" == rounded[1]


def test_enough_files_state_their_parameters() -> None:
    assert len(COUNTED) >= 20
