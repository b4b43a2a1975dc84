"""Sweeps on the command line: each value and each combination is judged before the first run."""

from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (("model=kat,vta", "seed=1,2"), ["model=vta"]),
        (("seed=choice(1,x)", "optimizer.lr=0.1,-1"), ["seed=x", "optimizer.lr=-1"]),
        (("trainer.max_epochs=range(0,5)",), ["trainer.max_epochs=0"]),
        (("optimizer.lr=interval(-1,1)",), ["optimizer.lr=-1.0"]),
        (("basis=glob(x*)",), ["basis=glob(x*)"]),
        (("model=convkan,kat", "model.num_groups=4"), ["model.num_groups=4"]),
        (
            ("seed=1,2,3,4,5", "split=1,2,3", "data.limit=1,2,z"),
            ["split=1", "split=2", "split=3", "data.limit=z"],
        ),
        (("basis=gram,rbff,kta", "seed=range(1,4)"), ["basis=rbff", "basis=kta"]),
        (("basis=gram,rbf", "seed=1,2,x"), ["seed=x"]),
        (("run.dir=here", "seed=1,2"), ["run.dir=here"]),
    ],
)
def test_each_value_of_a_sweep_is_judged(words: tuple[str, ...], given: list[str], judge) -> None:
    assert [problem.given[0] for problem in judge(*words, multirun=True)] == given


def test_values_that_do_not_fit_together_are_found_in_any_place(judge) -> None:
    words = ("trainer.strategy=auto,single_device", "trainer.devices=1,2", "seed=range(1,9)")
    (problem,) = judge(*words, multirun=True)
    assert problem.given == ("trainer.strategy=single_device", "trainer.devices=2")


def test_a_sweep_does_not_write_over_another(judge, tmp_path: Path) -> None:
    (tmp_path / "3").mkdir()
    words = ("seed=1,2", f"hydra.sweep.dir={tmp_path}")
    assert judge(*words, multirun=True) == []
    (tmp_path / "3" / "last.ckpt").touch()
    (problem,) = judge(*words, multirun=True)
    assert (problem.given, problem.why) == ((words[1],), "the folder holds another sweep")
    assert judge(*words, "resume=auto", multirun=True) == []
    assert judge("seed=1", words[1]) == []


def test_legal_sweeps_pass(judge) -> None:
    assert (
        judge(
            "model=kat,vit",
            "basis=glob(cheb*)",
            "seed=range(1,4)",
            "optimizer.lr=tag(log,interval(0.1,1))",
            "data.limit=choice(10,20)",
            multirun=True,
        )
        == []
    )
    assert judge("seed=1,2", "hydra.mode=MULTIRUN") == []


def test_a_search_is_several_runs(judge) -> None:
    for sampler in ("TPESampler", "RandomSampler"):
        words = ("hparams_search=optuna", f"hydra.sweeper.sampler._target_=optuna.samplers.{sampler}")
        assert judge(*words, multirun=True) == []
    (problem,) = judge("hparams_search=optuna")
    assert problem.fix == "add -m"
