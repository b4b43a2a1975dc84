"""Examples of CONTRIBUTING.md: a copy of the code with all of them keeps the contracts and trains."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from kanvision.layers import KANConv2d

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
BLOCK = re.compile(r"^`([\w/.]+)`|^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
CONTRACTS = (
    *("tests/bases", "tests/models/test_contract.py", "tests/data/readers/test_contract.py"),
    *("tests/losses", "tests/config/test_conf_files.py::test_every_file_composes_and_is_legal"),
)


def examples() -> Iterator[tuple[str, str, str]]:
    """Yield the file, the language and the text of each block."""
    file = ""
    for named, language, text in BLOCK.findall(TEXT):
        file = named or file
        if language:
            yield file, language, text


def changed(text: str, diff: str) -> str:
    """Return a text with the change that a diff block shows.

    Raises:
        ValueError: If the lines without `+` do not stand in the text exactly once.
    """
    lines = diff.splitlines()
    old, new = ("".join(line[1:] + "\n" for line in lines if line[:1] != sign) for sign in "+-")
    if text.count("\n" + old) != 1:
        raise ValueError(f"stands {text.count(old)} times in the file:\n{old}")
    return text.replace("\n" + old, "\n" + new)


def test_changes_are_exact() -> None:
    assert changed("a\nb\nc\n", " b\n+x\n") == "a\nb\nx\nc\n"
    assert changed("a\nb\nc\n", "-b\n+x\n") == "a\nx\nc\n"
    with pytest.raises(ValueError, match="stands 0 times"):
        changed("a\nb\n", " c\n+x\n")


def test_the_functions_of_the_new_basis_sum_to_one() -> None:
    """The example of a basis computes other functions than its docstring states."""
    (code,) = [text for file, _, text in examples() if file.endswith("bases/triangle.py") and "class" in text]
    names: dict[str, type] = {}
    exec(code, names)
    x = torch.linspace(-2, 2, 101).view(1, 1, 101, 1)
    basis = names["TriangleBasis"](num_centers=5)
    values = basis(x, channel_dim=1)
    assert values.shape == (1, 1, 5, 101, 1)
    torch.testing.assert_close(values.sum(2), torch.ones_like(x))
    assert KANConv2d(1, 3, 3, padding=1, basis=basis)(x).shape == (1, 3, 101, 1)


def files_of_sections() -> dict[str, set[str]]:
    """Return the files that each section of the page creates or changes."""
    found: dict[str, set[str]] = {}
    for section in TEXT.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        blocks, file = set(), ""
        for named, language, _ in BLOCK.findall(body):
            file = named or file
            blocks |= {file} if language else set()
        found |= {title: blocks} if blocks else {}
    return found


def test_the_counts_of_files_are_those_of_the_examples() -> None:
    """docs/develop.md states a number of files for an addition that its example does not have."""
    text = (ROOT / "docs" / "develop.md").read_text("utf-8")
    rows = re.findall(r"^\| \*\*([\w ]+)\*\* \| (\d+) \| (.*) \|$", text, re.MULTILINE)
    stated = {kind: int(number) for kind, number, _ in rows}
    assert stated == {title: len(files) for title, files in files_of_sections().items()}
    assert [kind for kind, number, files in rows if len(re.findall(r"`[^`]+`", files)) != int(number)] == []


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the code with all examples, and a small data set for its reader."""
    clone = tmp_path_factory.mktemp("clone")
    for name in ("src", "conf", "tests"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "train.py", "eval.py"):
        shutil.copy(ROOT / name, clone / name)
    for file, language, text in examples():
        path = clone / file
        if language == "diff":
            path.write_text(changed(path.read_text("utf-8"), text), "utf-8")
        else:
            assert not path.exists(), file
            path.write_text(text, "utf-8")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8)
    (clone / "data" / "npz_images").mkdir(parents=True)
    for part in ("train", "test"):
        np.savez(clone / "data" / "npz_images" / f"{part}.npz", images=pixels, labels=np.arange(20) % 4)
    return clone


def environment(clone: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(clone / "src"), "OMP_NUM_THREADS": "1"}


def test_the_examples_keep_the_contracts(clone: Path) -> None:
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *CONTRACTS]
    words += ["-k", "(triangle or mini_kan or npz_images or log_dice or gradient_norm) and not formulas"]
    done = subprocess.run(
        words, cwd=clone, env=environment(clone), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > 45


PROGRAMS = """
import json, runpy, sys
for words in json.loads(sys.argv[1]):
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")
"""


def test_the_examples_train_together(clone: Path) -> None:
    """An example that does not train; all programs run in one process, which imports the copy once."""
    small = (
        "trainer.accelerator=cpu",
        "trainer.max_epochs=1",
        "trainer.limit_train_batches=2",
        "data.num_workers=0",
    )
    classifier = ("run.dir=runs/classifier", "model=mini_kan", "basis=triangle", "data=npz_images")
    callback = ("callbacks=gradient_norm", "trainer.log_every_n_steps=1")
    segmenter = ("run.dir=runs/segmenter", "model=unet", "model.size=tiny", "loss.name=log_dice")
    fields = ("monitor=val/f2", "data.limit=8", "data.limit_test=8", "data.img_size=32")
    commands = [
        ["train.py", *classifier, *callback, *small],
        ["eval.py", "ckpt=runs/classifier", "mode=analyze", "analysis=weight_norms", small[0]],
        ["train.py", *segmenter, *fields, *small],
    ]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAMS, json.dumps(commands)],
        cwd=clone, env=environment(clone), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert any("train/grad_norm" in path.read_text() for path in (clone / "runs/classifier").rglob("*.csv"))
    assert "norms is" in done.stdout
    assert (clone / "runs/classifier/analyses/weight_norms/norms.csv").is_file()
    assert "test/f2" in done.stdout
