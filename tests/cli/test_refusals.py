"""What only a library can judge: its refusal is a complaint about settings, before anything is written."""

import json
from pathlib import Path

import pytest
import torch

from kanvision.app.evaluate import evaluate
from kanvision.app.train import train
from kanvision.checkpoints import CheckpointError
from kanvision.config import ConfigError, EvalConfig, compose, parse_train, to_primitive

from .conftest import REPOSITORY

DATA = (
    "data.limit=20",
    "data.limit_test=20",
    "data.batch_size=10",
    "scheduler.warmup_epochs=0",
    "trainer=cpu",
    "logger=none",
)
TINY = (*DATA, "model.width_scale=0.125")


def configured(*words: str):
    return parse_train(compose("train", words, REPOSITORY / "conf"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("model=timm model.name=resnet17", ["model.name=resnet17", "nearest: resnet18"]),
        ("model=timm model.name=vit_tiny_patch16_224", ["data.img_size=8", "doesn't match model (224)"]),
        ("model=smp model.name=Unett data=synthetic_fields", ["model.name=Unett", "nearest: "]),
        ("+model.kwargs.foo=1", ["model.kwargs={foo: 1}", "unexpected keyword argument 'foo'"]),
        ("optimizer.name=adamww", ["optimizer.name=adamww", "nearest: adamw"]),
        (
            "+callbacks.best.foo=1 callbacks.nonfinite_guard.mode=x +logger.y._target_=torch.nn.Linear",
            [
                "3 problems",
                "1. callbacks.best._target_=kanvision.callbacks.BestCheckpoint\n     "
                "BestCheckpoint.__init__() got an unexpected keyword argument 'foo'\n     "
                "its arguments: dirpath, monitor, mode, keep",
                "2. callbacks.nonfinite_guard._target_=kanvision.callbacks.NonFiniteGuard\n     "
                "callbacks.nonfinite_guard.mode=x is unknown",
                "3. logger.y._target_=torch.nn.Linear\n     _target_=torch.nn.Linear is no Logger",
            ],
        ),
    ],
)
def test_a_refusal_of_a_library_names_the_setting(line: str, words: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        train(configured(*line.split(), "trainer.accelerator=cpu", f"run.dir={tmp_path / 'run'}"))
    assert [word for word in words if word not in str(refused.value)] == [], str(refused.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.accelerator.is_available(), reason="the machine has what is asked for")
@pytest.mark.parametrize("kind", ["gpu", "cuda", "mps", "tpu", "xpu"])
def test_a_device_that_is_not_there_is_named(kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"trainer\.accelerator={kind}\n.*\n     take trainer=cpu"):
        train(configured("trainer=gpu", f"trainer.accelerator={kind}"))


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    train(configured(*TINY, "trainer.max_epochs=1", f"run.dir={folder}"))
    return folder


def test_a_checkpoint_that_training_cannot_go_on_from_is_refused(trained: Path, tmp_path: Path) -> None:
    last = trained / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    torch.save(checkpoint["state_dict"], tmp_path / "weights.ckpt")
    torch.save(checkpoint | {"epoch": 7}, tmp_path / "later.ckpt")
    for name, words in (("weights", "holds weights alone"), ("later", "8 epochs behind it")):
        words_of_run = (*TINY, "trainer.max_epochs=2", f"run.dir={tmp_path / 'next'}")
        with pytest.raises(CheckpointError, match=words):
            train(configured(*words_of_run, f"resume={tmp_path / name}.ckpt"))
    assert not (tmp_path / "next").exists()


def changed(path: Path, section: str, **values: object) -> Path:
    """A copy of a checkpoint whose own configuration says something else."""
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["kanvision"]["config"][section] |= values
    torch.save(checkpoint, path.with_name("changed.ckpt"))
    return path.with_name("changed.ckpt")


def test_evaluation_calls_nothing_that_a_checkpoint_names(trained: Path, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    callback = {
        "_target_": "pathlib.Path.touch",
        "self": {"_target_": "pathlib.Path", "_args_": [str(touched)]},
    }
    path = changed(trained / "checkpoints" / "best.ckpt", "callbacks", progress=callback, other=callback)
    assert "test/acc1" in evaluate(EvalConfig(ckpt=str(path)))
    assert not touched.exists()


def test_evaluation_neither_fetches_nor_reads_other_weights(tmp_path: Path, monkeypatch) -> None:
    """Whatever the checkpoint, which may come from anywhere, says of its network."""

    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("weights are fetched or read")

    words = ("model=timm", "model.name=test_resnet", "trainer.max_epochs=1", f"run.dir={tmp_path}")
    train(configured(*DATA, *words))
    best = tmp_path / "checkpoints" / "best.ckpt"
    monkeypatch.setattr("timm.models._builder.load_pretrained", loaded)
    monkeypatch.setattr("timm.models._factory.load_checkpoint", loaded)
    overlay = {"url": "http://localhost:9/weights.pth", "file": str(best), "hf_hub_id": "any/one"}
    fetching = {"pretrained": True, "pretrained_cfg_overlay": overlay, "checkpoint_path": str(best)}
    path = changed(best, "model", pretrained=True, kwargs=fetching)
    assert "test/acc1" in evaluate(EvalConfig(ckpt=str(path)))


def test_evaluation_asks_no_hub_for_a_network(tmp_path: Path, monkeypatch) -> None:
    # would catch a checkpoint of a stranger that makes eval.py connect to the hub
    asked: list[object] = []
    monkeypatch.setattr("timm.models._hub.hf_hub_download", lambda *_, **options: asked.append(options))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    words = ("model=timm", "model.name=test_resnet", "trainer.max_epochs=1", f"run.dir={tmp_path / 'run'}")
    train(configured(*DATA, *words))
    path = changed(tmp_path / "run" / "checkpoints" / "best.ckpt", "model", name="hf-hub:any/one@main")
    with pytest.raises(ConfigError, match="hf-hub:any/one@main was never fetched to this machine"):
        evaluate(EvalConfig(ckpt=str(path)))
    assert asked == []
    # a network that was fetched before, as the hub's library keeps it
    snapshot = tmp_path / "cache" / "models--any--one" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    description = {"architecture": "test_resnet", "pretrained_cfg": {}}
    (snapshot / "config.json").write_text(json.dumps(description))
    assert "test/acc1" in evaluate(EvalConfig(ckpt=str(path)))
    assert asked == []


def test_the_folder_of_another_run_is_refused(trained: Path) -> None:
    words = (*TINY, f"run.dir={trained}")
    with pytest.raises(ConfigError, match="holds another run") as refused:
        configured(*words)
    assert f"resume={trained}" in str(refused.value)
    for legal in (f"resume={trained}", "resume=auto", "debug=fdr"):
        assert to_primitive(configured(*words, legal))["run"]["dir"] == str(trained)
