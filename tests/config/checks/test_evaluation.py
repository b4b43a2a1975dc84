"""Keys of one mode of eval.py are refused in the others, all at once."""

from functools import partial
from typing import get_args

import pytest

from kanvision.config import EvalConfig
from kanvision.config.checks.evaluation import KEYS_BY_MODE
from kanvision.config.checks.rules import find_problems
from kanvision.config.validate import EVAL_RULES
from kanvision.spec.evaluation import Mode

eval_problems = partial(find_problems, rules=EVAL_RULES)


def config(**values) -> EvalConfig:
    return EvalConfig.model_validate({"ckpt": ".", **values})


def test_every_mode_takes_its_own_keys_and_the_defaults_of_others():
    assert set(KEYS_BY_MODE) == set(get_args(Mode))
    assert eval_problems(config(mode="explain", explain={"num_steps": 8, "layers": ["bottleneck"]})) == []
    for mode in ("test", "explain", "check_data"):
        assert eval_problems(config(mode=mode, explain={"num_steps": 64})) == []


@pytest.mark.parametrize("mode", ["test", "check_data"])
def test_keys_of_explain_are_refused_elsewhere(mode):
    (problem,) = eval_problems(config(mode=mode, explain={"num_steps": 8, "border": 3}))
    assert problem.keys == ("explain.num_steps", "explain.border")
    assert problem.given == ("explain.num_steps=8", "explain.border=3")
    assert problem.why == f"not used by mode={mode}"
    assert problem.fix == "leave out, or take mode=explain"


def test_the_command_line_names_all_mistakes(judge):
    found = judge("ckpt=nowhere", "explain.num_steps=8", "split=val", config_name="eval")
    assert {problem.keys[0] for problem in found} == {"ckpt", "explain.num_steps"}
    found = judge("ckpt=.", "mode=explain", "explain.threshold=1.5", "explain.stps=3", config_name="eval")
    assert {problem.keys[0] for problem in found} == {"explain.threshold", "explain.stps"}
    assert (
        judge("ckpt=.", "mode=explain", "explain.threshold=0.1", "explain.layers=[a.b]", config_name="eval")
        == []
    )
