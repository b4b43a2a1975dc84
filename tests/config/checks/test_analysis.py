"""Keys of mode=analyze: which analysis, and its own keys alone."""

from functools import partial
from typing import get_args

from kanvision.app.analyze.run import ANALYSES
from kanvision.config import EvalConfig
from kanvision.config.checks.rules import find_problems
from kanvision.config.schema.evaluation import AnalysisConfig
from kanvision.config.validate import EVAL_RULES
from kanvision.spec.evaluation import Analysis

eval_problems = partial(find_problems, rules=EVAL_RULES)


def config(**values) -> EvalConfig:
    return EvalConfig.model_validate({"ckpt": ".", **values})


def test_every_name_has_an_analysis_and_keys_of_its_own():
    assert set(get_args(Analysis)) == set(ANALYSES) == set(AnalysisConfig.model_fields) - {"seed", "kwargs"}


def test_mode_analyze_needs_an_analysis():
    (problem,) = eval_problems(config(mode="analyze"))
    assert problem.keys == ("analysis",)
    assert problem.fix.startswith("legal: attention, functions, spectra, histograms")
    assert eval_problems(config(mode="test")) == []
    assert eval_problems(config(mode="analyze", analysis="spectra")) == []


def test_keys_of_other_analyses_are_refused():
    keys = {"seed": 3, "spectra": {"num_images": 2}, "attention": {"heads": [0], "blocks": [1]}}
    (problem,) = eval_problems(config(mode="analyze", analysis="spectra", analyze=keys))
    assert problem.keys == ("analyze.attention.blocks", "analyze.attention.heads")
    assert problem.why == "not used by analysis=spectra"
    assert problem.fix == "leave out, or take analysis=attention"


def test_other_modes_refuse_all_of_it():
    (problem,) = eval_problems(
        config(analysis="spectra", analyze={"spectra": {"matrices": "weights"}, "seed": 1})
    )
    assert problem.keys == ("analysis", "analyze.seed", "analyze.spectra.matrices")
    assert problem.fix == "leave out, or take mode=analyze"


def test_one_device():
    (problem,) = eval_problems(config(mode="analyze", analysis="spectra", trainer={"devices": 2}))
    assert problem.keys == ("trainer.devices",)


def test_the_command_line_names_all_mistakes(judge):
    words = (
        "ckpt=.",
        "mode=analyze",
        "analysis=spectra",
        "analyze.spectra.matrices=both",
        "analyze.spectra.bloks=1",
    )
    found = judge(*words, config_name="eval")
    assert {problem.keys[0] for problem in found} == {"analyze.spectra.matrices", "analyze.spectra.bloks"}
    assert (
        judge(
            "ckpt=.", "mode=analyze", "analysis=attention", "analyze.attention.heads=[0]", config_name="eval"
        )
        == []
    )
