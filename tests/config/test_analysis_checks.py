"""Keys of mode=analyse: which analysis, and its own keys alone."""

from typing import get_args

from kanvision.app.analyses import ANALYSES
from kanvision.config import EvalConfig
from kanvision.config.analysis_checks import analysis_problems
from kanvision.config.analysis_schema import Analysis, AnalysisConfig
from kanvision.config.mode_checks import mode_problems


def config(**values) -> EvalConfig:
    return EvalConfig.model_validate({"ckpt": "latest", **values})


def test_every_name_has_an_analysis_and_keys_of_its_own():
    assert set(get_args(Analysis)) == set(ANALYSES) == set(AnalysisConfig.model_fields) - {"seed"}


def test_mode_analyse_needs_an_analysis():
    (problem,) = analysis_problems(config(mode="analyse"))
    assert problem.keys == ("analysis",)
    assert problem.fix.startswith("legal: attention, spectra, histograms")
    assert list(analysis_problems(config(mode="test"))) == []
    assert list(analysis_problems(config(mode="analyse", analysis="spectra"))) == []


def test_keys_of_other_analyses_are_refused():
    keys = {"seed": 3, "spectra": {"num_images": 2}, "attention": {"heads": [0], "blocks": [1]}}
    (problem,) = analysis_problems(config(mode="analyse", analysis="spectra", analyse=keys))
    assert problem.keys == ("analyse.attention.blocks", "analyse.attention.heads")
    assert problem.why == "analysis=spectra does not use them"
    assert problem.fix == "leave it out, or take analysis=attention"


def test_other_modes_refuse_all_of_it():
    (problem,) = mode_problems(config(analysis="spectra", analyse={"spectra": {"of": "weights"}, "seed": 1}))
    assert problem.keys == ("analysis", "analyse.seed", "analyse.spectra.of")
    assert problem.fix == "leave it out, or take mode=analyse"


def test_one_device():
    (problem,) = analysis_problems(config(mode="analyse", analysis="spectra", trainer={"devices": 2}))
    assert problem.keys == ("trainer.devices",)


def test_the_command_line_names_all_mistakes(judge):
    words = (
        "ckpt=.",
        "mode=analyse",
        "analysis=spectra",
        "analyse.spectra.of=both",
        "analyse.spectra.bloks=1",
    )
    found = judge(*words, config_name="eval")
    assert {problem.keys[0] for problem in found} == {"analyse.spectra.of", "analyse.spectra.bloks"}
    assert (
        judge(
            "ckpt=.", "mode=analyse", "analysis=attention", "analyse.attention.heads=[0]", config_name="eval"
        )
        == []
    )
