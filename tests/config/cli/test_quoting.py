"""Texts on the command line are what was typed, and printed commands can be typed."""

import subprocess
from pathlib import Path

import pytest

from kanvision.config import check_command_line, compose, shell_word

# what is typed -> what Hydra is given
TEXTS = {
    "data.root=a=b": 'data.root="a=b"',
    "data.root=[x]": 'data.root="[x]"',
    "data.root=/ünï/{a} & 'b' (1)": "data.root=\"/ünï/{a} & 'b' (1)\"",
    'data.root=a"b\\': r'data.root="a\"b\\"',
    "run.name=2024_01": 'run.name="2024_01"',
    "run.name=1e3": 'run.name="1e3"',
    "hydra.run.dir=a=b": 'hydra.run.dir="a=b"',
    "data.root=a b/c.d": "data.root=a b/c.d",
    "data.root='a,b'": "data.root='a,b'",
    "data.root=null": "data.root=null",
    "data.root=${run.root}/x": "data.root=${run.root}/x",
}


@pytest.mark.parametrize("word", TEXTS)
def test_texts_are_taken_as_they_are(word: str, conf: Path) -> None:
    assert check_command_line("train", [word], conf).argv == [TEXTS[word]]


def test_a_comma_makes_several_values_unless_it_is_quoted(judge) -> None:
    (problem,) = judge("data.root=a,b")
    assert problem.fix.splitlines()[1] == "if it is one text, quote it twice: 'data.root=\"a,b\"'"
    assert judge('data.root="a,b"') == []


@pytest.mark.parametrize(
    "folder", ["runs/a", "a=b", "[x]", "a, b", "it's ünï", "1_0", 'a"b', "a\\", "null", "$HOME"]
)
def test_what_a_printed_command_names_is_read_again(folder: str, tmp_path: Path, conf: Path, judge) -> None:
    path = tmp_path / folder
    path.mkdir(parents=True)
    typed = subprocess.run(
        ["sh", "-c", f"printf %s {shell_word('ckpt', str(path))}"], capture_output=True, text=True
    )
    (word,) = check_command_line("eval", [typed.stdout], conf).argv
    assert compose("eval", [word], conf).ckpt == str(path)
