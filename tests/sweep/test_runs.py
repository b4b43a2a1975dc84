"""Run folders are found and read, whatever state they are in."""

from pathlib import Path

import pytest

from kanvision.sweep import read_runs
from kanvision.sweep.runs import plain, read_run, write_failure

from .folders import make_run


def test_runs_are_found_at_any_depth_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("10", "2", "1"):
        make_run(tmp_path / "sweeps" / "night" / name, acc1=0.5)
    make_run(tmp_path / "convkan_digits" / "one", acc1=0.5)
    make_run(tmp_path / ".submitit" / "0", acc1=0.5)
    (tmp_path / "convkan_digits" / "one" / "eval").mkdir()
    (tmp_path / "latest").symlink_to(tmp_path / "convkan_digits" / "one")
    names = [run.folder.relative_to(tmp_path).as_posix() for run in read_runs(tmp_path)]
    assert names == ["convkan_digits/one", "sweeps/night/1", "sweeps/night/2", "sweeps/night/10"]
    assert [run.folder for run in read_runs(tmp_path / "convkan_digits" / "one")] == [
        tmp_path / "convkan_digits" / "one"
    ]


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run in this folder"):
        read_runs(tmp_path)
    with pytest.raises(ValueError, match="there is no such folder"):
        read_runs(tmp_path / "nowhere")


def test_a_setting_comes_from_the_command_line_then_the_choices_then_the_configuration(
    tmp_path: Path,
) -> None:
    folder = make_run(
        tmp_path / "run",
        "++optimizer.lr=1e-3",
        choices={"basis": "gram"},
        config={"optimizer": {"lr": 5.0}, "data": {"limit": None}, "test": True},
    )
    run = read_run(folder)
    assert run.setting("optimizer.lr") == "0.001"
    assert run.setting("basis") == "gram"
    assert (run.setting("data.limit"), run.setting("test")) == ("null", "true")
    assert (run.setting("data.nothing"), run.setting("data.limit.deeper")) == ("", "")
    assert run.seed == "1"


def test_a_run_that_failed_before_it_wrote_its_configuration_still_tells_its_settings(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "basis=rbf")
    (folder / "config.yaml").rename(folder / ".hydra" / "config.yaml")
    run = read_run(folder)
    assert (run.setting("basis"), run.seed, run.setting("monitor")) == ("rbf", "1", "val/acc1")


def test_why_a_run_has_no_result(tmp_path: Path) -> None:
    finished, broken_off = make_run(tmp_path / "1", acc1=0.5), make_run(tmp_path / "2")
    damaged, failed = make_run(tmp_path / "3", acc1=0.5), make_run(tmp_path / "4")
    (damaged / "metrics.json").write_text("{")
    write_failure(failed, "out of memory", "line one\nline two")
    reasons = [run.failure for run in read_runs(tmp_path)]
    assert reasons[0] is None
    assert [reason is not None and "no metrics.json" in reason for reason in reasons[1:3]] == [True, True]
    assert reasons[3] == "out of memory"
    assert read_run(finished).record["test/acc1"] == 0.5
    assert read_run(broken_off).record == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-3", "0.001"),
        ("0.0010", "0.001"),
        ("3", "3"),
        ("3.0", "3.0"),
        ("False", "false"),
        ("gram", "gram"),
    ],
)
def test_one_spelling_for_each_value(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_texts_that_python_takes_for_numbers_stay_texts() -> None:
    assert [plain(text) for text in ("nan", "inf", "")] == ["nan", "inf", ""]
