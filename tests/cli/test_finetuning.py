"""Fine-tuning from end to end: start from another run, train little of it, go on, evaluate, start again."""

import json
from pathlib import Path

import pytest
import torch

from kanvision.app.evaluate import evaluate
from kanvision.app.train import train
from kanvision.config import compose, parse_eval, parse_train

from .conftest import REPOSITORY

QUICK = (
    *(
        "trainer.accelerator=cpu",
        "data.limit=64",
        "data.limit_test=64",
        "data.batch_size=16",
        "model.width_scale=0.0625",
    ),
    *("scheduler.warmup_epochs=0", "trainer.enable_progress_bar=false", "logger=none", "callbacks=default"),
)
ADDITIONS = ("finetune.freeze=true", "finetune.extra_degrees=1", "finetune.degrees=[2,3]")


def run(*overrides: str) -> dict[str, torch.Tensor]:
    train(parse_train(compose("train", [*QUICK, *overrides], REPOSITORY / "conf")))
    folder = next(word for word in overrides if word.startswith("run.dir=")).removeprefix("run.dir=")
    return torch.load(Path(folder, "checkpoints", "last.ckpt"), weights_only=True)["state_dict"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_starts_from_another_and_trains_what_was_added(folder):
    source = run("run.dir=source", "trainer.max_epochs=1")
    start = ("finetune.init_from=source", *ADDITIONS, "seed=7", "ema={decay: 0.5}")
    tuned = run("run.dir=tuned", *start, "trainer.max_epochs=2")
    frozen = [name for name in source if name.endswith(("basis_weight", "base_weight"))]
    assert len(frozen) == 8
    for name in frozen:
        assert torch.equal(tuned[name], source[name]), name
    assert tuned["model.stages.0.0.adapter.extra"].ne(0).any()
    assert not torch.equal(tuned["model.head.fc.weight"], source["model.head.fc.weight"])
    tested = json.loads(Path("tuned/metrics.json").read_text())
    assert tested["test/acc1"] >= 0

    evaluate(parse_eval(compose("eval", ["ckpt=tuned", "trainer.accelerator=cpu"], REPOSITORY / "conf")))
    again = json.loads(Path("tuned/eval/test.json").read_text())
    assert again["test/loss"] == pytest.approx(tested["test/loss"], rel=1e-4)

    # An interrupted run goes on with its adapters, even where what it started from is gone.
    run("run.dir=half", *start, "trainer.max_epochs=1", "test=false")
    Path("source").rename("elsewhere")
    resumed = run("run.dir=half", *start, "trainer.max_epochs=2", "test=false", "resume=half")
    assert resumed.keys() == tuned.keys()

    # The next training merges them, and goes on with everything.
    following = run("run.dir=following", "finetune.init_from=tuned", "trainer.max_epochs=1")
    assert following["model.stages.0.0.basis.recurrence"].shape == (3, 4)
    assert not any("adapter" in name for name in following)


@pytest.mark.long
def test_additions_are_trained_by_two_processes(folder, program):
    """What is trained gets a gradient in each of them, or they would wait for ever; the rest is frozen."""
    source = run("run.dir=source", "trainer.max_epochs=1", "test=false")
    quick = [word for word in QUICK if not word.startswith("trainer.accelerator")]
    more = ("trainer=ddp_sim", "run.dir=tuned", "trainer.max_epochs=1", "test=false")
    program("train.py", *quick, *more, "finetune.init_from=source", *ADDITIONS)
    tuned = torch.load("tuned/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert tuned["model.stages.0.0.adapter.extra"].ne(0).any()
    assert torch.equal(tuned["model.stages.0.0.basis_weight"], source["model.stages.0.0.basis_weight"])
