"""The table on the screen and in its two files says the same."""

import csv
import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from kanvision.config import lock_folder
from kanvision.sweep import report
from kanvision.sweep.runs import write_failure

from .folders import make_run, write_json


def printed(folder: Path, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    report(folder, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def sweep(folder: Path) -> Path:
    for number, (basis, seed, acc1) in enumerate([("rbf", 1, 0.5), ("rbf", 2, 0.7), ("gram", 1, 0.9)]):
        make_run(folder / str(number), f"basis={basis}", "data=digits", seed=seed, acc1=acc1, loss=1.0)
    failed = make_run(folder / "3", "basis=gram", "data=digits", seed=2)
    write_failure(failed, "RuntimeError: not enough memory | at all\nsecond line")
    return folder


def test_the_screen_shows_rows_notes_and_failures(tmp_path: Path) -> None:
    text = printed(sweep(tmp_path))
    rows = [[cell.strip() for cell in line.split("│")] for line in text.splitlines() if line.startswith("│")]
    assert rows[0][1:5] == ["gram", "1 of 2", "0.9000", "1.0000"]
    assert rows[0][8].startswith("RuntimeError: not enough")
    assert ["", "rbf", "2", "0.6000 ± 0.1414", "1.0000 ± 0.0000", "10", "2", "1.0", "", ""] in rows
    assert "1 of 4 runs failed" in text
    assert "3: basis=gram seed=2: RuntimeError: not enough memory | at all second line" in text
    assert "shared settings: data=digits" in text
    assert "commit abc, torch 2, device cpu (1 threads)" in text


def test_a_narrow_screen_keeps_the_metric_that_decides(tmp_path: Path) -> None:
    sweep(tmp_path)
    wide, narrow = printed(tmp_path), printed(tmp_path, width=100)
    assert "test/loss" in wide
    assert "test/loss" not in narrow
    assert "test/acc1" in narrow
    assert "test/loss" in (tmp_path / "sweep.md").read_text()


def test_the_csv_has_the_numbers_in_full(tmp_path: Path) -> None:
    report(sweep(tmp_path), Console(file=io.StringIO()))
    first, second = csv.DictReader((tmp_path / "sweep.csv").read_text().splitlines())
    assert (first["basis"], first["runs"], first["failed"], first["test/acc1"]) == ("gram", "1", "1", "0.9")
    assert first["test/acc1_std"] == ""
    assert first["problems"] == "seed 2: RuntimeError: not enough memory | at all second line"
    assert first["folders"] == "2 3"
    assert (second["basis"], second["seeds"], second["flops"]) == ("rbf", "1 2", "2000000000")
    assert float(second["test/acc1_std"]) == pytest.approx(0.02**0.5, rel=1e-15)


def test_the_markdown_is_one_table(tmp_path: Path) -> None:
    report(sweep(tmp_path), Console(file=io.StringIO()))
    lines = (tmp_path / "sweep.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 4
    bars = {row.replace("\\|", "").count("|") for row in rows}
    assert bars == {9}
    assert rows[2].startswith("| gram | 1 of 2 | 0.9000 | 1.0000 | 10 | 2 | 1.0 | RuntimeError: not enough")
    assert lines[0] == "# 4 runs in 2 rows, highest test/acc1 first"


def mixed(folder: Path) -> Path:
    """Runs of two tasks with many settings, one that failed at length, and one that is not over."""
    words = [f"optimizer.setting_{setting}" for setting in range(12)]
    for number in range(6):
        given = [f"{word}={number}" for word in words[: 2 * number + 1]]
        make_run(folder / f"kat_{number}", "model=kat", "data=cifar10", *given, acc1=number / 10, loss=1.0)
        make_run(
            folder / f"ukan_{number}",
            *("model=ukan", "data=busi", f"loss.name={number}"),
            monitor="val/iou",
            iou=number / 10,
        )
    failed = make_run(folder / "kat_x", "model=kat", "data=cifar10", f"{words[0]}=9")
    write_failure(failed, "RuntimeError: " + "a long reason " * 20)
    make_run(folder / "ukan_x", "model=ukan", "data=busi", monitor="val/iou")
    return folder


@pytest.mark.parametrize("width", [80, 120, 200])
def test_a_mixed_folder_is_readable(tmp_path: Path, width: int) -> None:
    text = printed(mixed(tmp_path), width)
    first, second = text.split("7 runs in 7 rows, highest test/acc1 first")[1].split(
        "7 runs in 7 rows, highest test/iou first"
    )
    for part, metric in ((first, "test/acc1"), (second, "test/iou")):
        rows = [line.split("│")[1:-1] for line in part.splitlines() if line.startswith("│")]
        heads = next(line for line in part.splitlines() if line.startswith("┃"))
        assert metric in heads
        assert "…" not in heads + "".join(cell for row in rows for cell in row)
        # every run has its number, but the one that has none
        column = [head.strip() for head in heads.split("┃")[1:-1]].index(metric)
        numbers = [row[column].strip() for row in rows if row[column].strip()]
        assert numbers == ["0.5000", "0.4000", "0.3000", "0.2000", "0.1000", "0.0000"]
    assert "optimizer.setting_10=5" in first
    assert "setting_" not in second
    # what failed takes one row of one line, and its reason stands below with what it was given
    assert sum("setting_0=9" in line for line in first.splitlines() if line.startswith("│")) == 1
    told = " ".join(first.split())
    assert "kat_x: optimizer.setting_0=9 seed=1: RuntimeError: a long reason a long reason" in told
    assert all(len(line) <= width for line in text.splitlines() if not line.startswith("Written"))


def test_the_files_of_a_mixed_folder(tmp_path: Path) -> None:
    report(mixed(tmp_path), Console(file=io.StringIO()))
    rows = list(csv.DictReader((tmp_path / "sweep.csv").read_text().splitlines()))
    assert len(rows) == 14
    assert {row["test/iou"] for row in rows} == {"", *(str(number / 10) for number in range(6))}
    text = (tmp_path / "sweep.md").read_text()
    assert text.count("\n# ") + text.startswith("# ") == 2
    assert "| settings | runs | test/acc1 | test/loss |" in text
    assert "| loss.name | runs | test/iou |" in text


def test_a_live_run_is_no_interrupted_one(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "1")
    assert "the run was interrupted" in printed(tmp_path)
    lock = lock_folder(folder)
    assert f"no metrics.json yet: still running (process {lock.owner.pid} on" in " ".join(
        printed(tmp_path).split()
    )
    lock.release()


def test_several_devices_are_pointed_out(tmp_path: Path) -> None:
    for seed, device in ((1, "cpu"), (2, "A100")):
        folder = make_run(tmp_path / str(seed), seed=seed)
        write_json(folder / "metrics.json", {"test/acc1": 0.5, "device": device})
    assert "several devices" in printed(tmp_path)


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kanvision.sweep", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_table_of_any_folder_can_be_made_again(tmp_path: Path) -> None:
    done = program(str(sweep(tmp_path)))
    assert done.returncode == 1  # a run has failed
    assert "0.6000 ± 0.1414" in done.stdout
    assert (tmp_path / "sweep.csv").exists()
    nothing = program(str(tmp_path / "nowhere"))
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert "no such folder" in nothing.stderr


def test_nothing_heavy_is_imported() -> None:
    script = "import sys, kanvision.sweep; print(sorted({'torch', 'timm', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
