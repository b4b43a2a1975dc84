"""`eval.py mode=check_data`: for a named data set and for that of a run."""

import csv
from pathlib import Path

import pytest
import torch

from kanvision.app import load_evaluation
from kanvision.config import (
    CheckConfig,
    EvalConfig,
    check_command_line,
    compose,
    parse_eval,
    parse_train,
    to_primitive,
)
from kanvision.data import DataError
from tests.data import fake

CONF = Path(__file__).resolve().parents[2] / "conf"


def run(*words: str):
    """As eval.py does it, in this process."""
    line = check_command_line("eval", ["mode=check_data", *words], CONF).argv
    name = "check_data" if "--config-name=check_data" in line else "eval"
    config = parse_eval(compose(name, [word for word in line if not word.startswith("--")], CONF))
    assert isinstance(config, CheckConfig if name == "check_data" else EvalConfig)
    return load_evaluation(config.mode)(config)


def test_a_sound_data_set_needs_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run("data=digits", f"output={tmp_path}", "check.num_workers=1") == []
    assert "nothing bad in 1,797 samples (train 1,438, test 359)" in capsys.readouterr().out
    assert (tmp_path / "check_data.csv").read_text() == "kind,split,file,wrong,right\n"


@pytest.fixture
def spoilt(tmp_path: Path) -> Path:
    fake.mnist(tmp_path / "data")
    path = tmp_path / "data" / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-3])
    return tmp_path / "data"


@pytest.mark.parametrize("by", ["name", "checkpoint"])
def test_bad_files_end_it_with_an_error_and_a_list(
    by: str, spoilt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["data=mnist", f"data.root={spoilt}"]
    if by == "checkpoint":
        config = to_primitive(parse_train(compose("train", ["data=mnist", "data.root=elsewhere"], CONF)))
        torch.save({"state_dict": {}, "kanvision": {"config": config}}, tmp_path / "last.ckpt")
        words = [f"ckpt={tmp_path / 'last.ckpt'}", f"data.root={spoilt}"]
    with pytest.raises(DataError, match=r"data set mnist, data.root=.*: 1 bad; 0 samples") as ended:
        run(*words, f"output={tmp_path / 'list'}")
    assert str(tmp_path / "list" / "check_data.csv") in str(ended.value)
    with (tmp_path / "list" / "check_data.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["kind"], row["right"]) == ("bad", "download the file again")
    assert row["wrong"].startswith("cannot be unpacked")
    assert "t10k-labels-idx1-ubyte.gz" in capsys.readouterr().out


def refused(*words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        check_command_line("eval", ["mode=check_data", *words], CONF)
    return str(ended.value.code)


def test_mistakes_are_named(capsys: pytest.CaptureFixture[str]):
    assert refused("data=busy", "check.num_rows=0", "data.rot=x", "split=val") == "2"
    told = capsys.readouterr().err
    for word in (
        "did you mean data=busi?",
        "check.num_rows=0",
        "closest: data.root",
        "split",
        "python eval.py --help",
    ):
        assert word in told
