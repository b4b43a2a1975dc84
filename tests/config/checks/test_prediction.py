"""What does not fit together in `eval.py mode=predict` is said before torch is imported."""

from pathlib import Path

import pytest

from kanvision.config import ConfigError, compose, parse_eval

CONF = Path(__file__).parents[3] / "conf"


def judged(line: str) -> str:
    """The complaints about a command line; empty if there are none."""
    try:
        parse_eval(compose("eval", ("ckpt=.", *line.split()), CONF))
    except ConfigError as refused:
        return str(refused)
    return ""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("mode=predict", ["input=null", "mode=predict needs images"]),
        ("mode=predict input=nowhere", ["input=nowhere", "no file or folder nowhere"]),
        ("mode=predict input=. split=val data.root=x", ["data.root=x, split=val", "no data set"]),
        ("mode=predict input=. trainer.devices=2", ["trainer.devices=2", "one device"]),
        (
            "mode=predict input=. predict.resize=true predict.tile=64",
            ["predict.resize=true, predict.tile=64"],
        ),
        ("mode=predict input=. predict.overlap=64 predict.tile=64", ["cannot share all"]),
        ("input=. predict.tta=flips", ["input=., predict.tta=flips", "not used by mode=test"]),
    ],
)
def test_what_does_not_fit_together_is_named_with_the_reason(line: str, words: list[str]) -> None:
    said = judged(line)
    assert said.startswith("1 problem in")
    assert [word for word in words if word not in said] == [], said


@pytest.mark.parametrize(
    "line",
    [
        "mode=predict input=.",
        "mode=predict input=. predict.tile=64 predict.overlap=16 predict.tta=flips data.batch_size=2",
        "mode=predict input=. predict.resize=true predict.bands=[4,3,2] predict.max_value=10000",
        "mode=test",
    ],
)
def test_what_fits_together_passes(line: str) -> None:
    assert judged(line) == ""


def test_all_problems_come_at_once() -> None:
    said = judged("mode=predict split=val trainer.devices=2 predict.overlap=8 predict.tile=8")
    assert said.startswith("4 problems in")
