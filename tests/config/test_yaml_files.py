"""Files of a few lines that stand for billions of entries are refused before anything copies them."""

import math
import time
from pathlib import Path

import pytest

from kanvision.config import check_command_line
from kanvision.config.yaml_files import expanded_size, has_bounded_size, referred_size

from .conftest import CONF

LEVELS = 12


def bomb(levels: int = LEVELS) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    return "\n".join(lines) + "\n"


def merged(levels: int = LEVELS) -> str:
    lines = ["a0: &a0 {b: 1, c: 2}"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level}\n  <<: [{', '.join([f'*a{level - 1}'] * 10)}]")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "text", [bomb(), merged(), "a: &a [*a]\n", "x" * 3_000_000, "a: " + "[" * 1000 + "*b"]
)
def test_a_document_that_grows_is_seen_quickly(text: str) -> None:
    started = time.process_time()
    assert not has_bounded_size(text)
    assert time.process_time() - started < 2


def test_ordinary_aliases_are_legal() -> None:
    assert has_bounded_size("a: &a [1, 2]\nb: *a\nc: {<<: {d: 1}, e: *a}\n")
    assert has_bounded_size(bomb(levels=4))


def test_a_part_counts_as_often_as_it_is_named() -> None:
    shared = [1, 2, 3]  # 4 entries with itself
    assert expanded_size({"a": shared, "b": shared}) == 9
    deep: list[object] = [1]
    for _ in range(40):
        deep = [deep] * 10
    assert expanded_size(deep) > 1e30
    loop: list[object] = []
    loop += [loop]
    assert expanded_size(loop) == math.inf


def test_references_are_followed_wherever_they_start() -> None:
    assert referred_size({"a": {"b": [1, 2]}, "c": "${a.b}", "d": "x ${c} ${a.b[0]}"}) == 5 + 4 + 6
    assert referred_size({"a": {"b": "${.c}", "c": [1, 2], "d": "${..e}"}, "e": 1, "f": "${nowhere}"}) == 13
    assert referred_size({"a": "${b}", "b": "${a}"}) == math.inf
    text = {"a0": "x"} | {f"a{level}": f"${{a{level - 1}}}" * 10 for level in range(1, 30)}
    assert referred_size(text) > 1e20


@pytest.mark.parametrize("flags", [[], ["--cfg", "job"], ["--info", "config"]])
def test_the_command_line_names_the_file(flags: list[str], tmp_path: Path, capsys) -> None:
    (tmp_path / "experiment").mkdir()
    path = tmp_path / "experiment" / "laughs.yaml"
    path.write_text(f"# @package _global_\n{bomb()}")
    with pytest.raises(SystemExit) as stopped:
        check_command_line("train", [*flags, f"--config-dir={tmp_path}", "experiment=laughs"], CONF)
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert str(path) in told
    assert "expands to more than 20,000 entries" in told


@pytest.mark.parametrize("flags", [[], ["--cfg", "job"]])
def test_a_large_file_that_is_not_composed_is_legal(flags: list[str], tmp_path: Path, capsys) -> None:
    """Detects limits on all files of a folder: a list of annotations may lie in it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "annotations.yaml").write_text("x" * 3_000_000)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "boxes.yaml").write_text(bomb())
    check_command_line("train", [*flags, f"--config-dir={tmp_path}", "seed=3"], CONF)
    with pytest.raises(SystemExit):
        check_command_line("train", [f"--config-dir={tmp_path}", "data=annotations"], CONF)
    assert "annotations.yaml" in capsys.readouterr().err


def test_sections_that_refer_to_each_other_are_bounded_too(tmp_path: Path, capsys) -> None:
    (tmp_path / "experiment").mkdir()
    lines = ["# @package _global_", "model:", "  kwargs:", "    a0: [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 9):
        lower = f"${{model.kwargs.a{level - 1}}}"
        lines.append(f"    a{level}: {[lower] * 10}")
    (tmp_path / "experiment" / "laughs.yaml").write_text("\n".join(lines) + "\n")
    with pytest.raises(SystemExit):
        check_command_line("train", [f"--config-dir={tmp_path}", "experiment=laughs"], CONF)
    assert "expand to more than 20,000 entries" in capsys.readouterr().err
