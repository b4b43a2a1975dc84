"""Every bad input is refused with words that help, and stands in the table of docs/bad_inputs.md."""

from pathlib import Path

import pytest
import torch

from .case import Case, answer
from .document import ALL, row

TABLE = (Path(__file__).resolve().parents[2] / "docs" / "bad_inputs.md").read_text("utf-8").splitlines()
CASES = [pytest.param(case, id=f"{title}: {case.what}") for title, cases in ALL.items() for case in cases]


@pytest.mark.parametrize("case", CASES)
def test_the_answer_helps_and_is_in_the_table(case: Case):
    if case.what == "`trainer=gpu` without a GPU" and torch.accelerator.is_available():
        pytest.skip("there is one")
    told = answer(case)
    assert [word for word in case.words if word not in told] == [], told
    assert "Traceback" not in told
    assert row(case, told) in TABLE, "python -m tests.bad_inputs > docs/bad_inputs.md"


def test_there_are_enough_of_each_kind():
    counts = {title: len(cases) for title, cases in ALL.items()}
    assert counts["Files"] >= 15
    assert counts["Configurations"] >= 15
    assert counts["Checkpoints"] >= 8
    assert counts["Surroundings"] >= 5
    assert len([line for line in TABLE if line.startswith("| ")]) == sum(counts.values()) + len(counts)
