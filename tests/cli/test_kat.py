"""From end to end: a network of timm made a KAN, and a KAT that starts from a ViT that was trained before."""

import json
from pathlib import Path

import pytest
import torch

from kanvision.app.evaluate import evaluate
from kanvision.app.train import train
from kanvision.checkpoints import CheckpointError
from kanvision.config import ConfigError, compose, parse_eval, parse_train
from kanvision.config.checks.unused_settings import notes

from .conftest import REPOSITORY

CONF = REPOSITORY / "conf"
QUICK = (
    *(
        "trainer.accelerator=cpu",
        "data.limit=64",
        "data.limit_test=64",
        "data.batch_size=16",
        "trainer.max_epochs=1",
    ),
    *("scheduler.warmup_epochs=0", "trainer.enable_progress_bar=false", "logger=none"),
)
SIZE = ("model.size=micro", "model.embed_dim=32", "model.depth=2", "model.num_heads=2")
HOST = (
    *("model=timm", "model.name=vit_micro_patch16_224"),
    "+model.kwargs={img_size: 8, patch_size: 2, embed_dim: 32, depth: 2, num_heads: 2}",
)


def run(*words: str) -> dict[str, torch.Tensor]:
    train(parse_train(compose("train", [*QUICK, *words], CONF)))
    folder = next(word for word in words if word.startswith("run.dir=")).removeprefix("run.dir=")
    return torch.load(Path(folder, "checkpoints", "last.ckpt"), weights_only=True)["state_dict"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_network_of_timm_is_made_a_kan(folder):
    parts = ("model.kanify.mlp=group_rational", "model.kanify.attention=karat", "model.kanify.conv=gram")
    state = run(*HOST, *parts, "run.dir=kan")
    assert any(".attn.operator." in name for name in state)
    start = state["model.blocks.0.mlp.act1.denominator"]
    assert start.shape == (8, 4)
    assert start.ne(0).any()  # it was trained
    assert state["model.patch_embed.proj.basis_weight"].ne(0).any()
    tested = json.loads(Path("kan/metrics.json").read_text())
    evaluate(parse_eval(compose("eval", ["ckpt=kan", "trainer.accelerator=cpu"], CONF)))
    again = json.loads(Path("kan/eval/test.json").read_text())
    assert again["test/loss"] == pytest.approx(tested["test/loss"], rel=1e-4)
    plain = run(*HOST, "run.dir=plain")
    assert not any(".act1." in name for name in plain)


def test_what_cannot_be_made_a_kan_is_said(folder):
    words = ("model=timm", "model.name=test_resnet", "run.dir=refused")
    with pytest.raises(ConfigError, match=r"(?s)model\.kanify.*nothing to convert"):
        run(*words, "model.kanify.mlp=group_rational")
    with pytest.raises(ConfigError, match=r"conv='gramm' is not known; legal values: .*gram"):
        run(*words, "model.kanify.conv=gramm")
    assert not Path("refused").exists()


def test_a_kat_starts_from_a_vit(folder, capsys):
    vit = run("model=vit", *SIZE, "run.dir=vit", "trainer.max_epochs=2", "optimizer.lr=3e-3")
    torch.save({name.removeprefix("model."): value for name, value in vit.items()}, "vit.pth")
    words = ("model=kat", *SIZE, "model.init_from=vit.pth", "optimizer.lr=1e-12", "optimizer.weight_decay=0")
    capsys.readouterr()
    kat = run(*words, "run.dir=kat")
    assert "start from vit.pth" in capsys.readouterr().out
    assert all(torch.allclose(kat[name], value, atol=1e-9) for name, value in vit.items())
    loss = {name: json.loads(Path(name, "metrics.json").read_text())["test/loss"] for name in ("vit", "kat")}
    assert loss["kat"] == pytest.approx(loss["vit"], abs=5e-3)
    run(*words, "model.init_from_mode=paper", "run.dir=paper")
    paper = json.loads(Path("paper", "metrics.json").read_text())["test/loss"]
    assert abs(paper - loss["vit"]) > abs(loss["kat"] - loss["vit"])

    # the weights are in the checkpoint: neither evaluation nor resuming asks for the file again
    Path("vit.pth").unlink()
    evaluate(parse_eval(compose("eval", ["ckpt=kat", "trainer.accelerator=cpu"], CONF)))
    assert json.loads(Path("kat/eval/test.json").read_text())["test/loss"] == pytest.approx(
        loss["kat"], rel=1e-4
    )
    run(*words, "run.dir=kat", "resume=kat", "trainer.max_epochs=2", "test=false")


def test_faults_of_the_start_name_the_key(folder):
    words = ("model=kat", *SIZE, "run.dir=refused")
    with pytest.raises(CheckpointError, match=r"model\.init_from=vit\.pth: vit\.pth: no such file"):
        run(*words, "model.init_from=vit.pth")
    torch.save({"cls_token": torch.zeros(1, 1, 16)}, "vit.pth")
    with pytest.raises(
        CheckpointError, match=r"(?s)model\.init_from=vit\.pth: .*cls_token \(1, 1, 16\), not"
    ):
        run(*words, "model.init_from=vit.pth")
    with pytest.raises(ConfigError, match="both set the weights of the network"):
        run(*words, "model.init_from=vit.pth", "finetune.init_from=vit.pth")
    assert not Path("refused").exists()


def test_settings_without_effect_are_said():
    def said(*words: str) -> list[str]:
        return notes(parse_train(compose("train", words, CONF)), words)

    assert said("model=timm", "model.kanify.mlp=group_rational", "optimizer.decay_rationals=false") == []
    assert said("model=timm", "model.kanify.conv=gram", "optimizer.kan_lr=1e-3") == []
    (line,) = said("model=timm", "model.kanify.conv=gram", "model.kanify.num_groups=4")
    assert "only model.kanify.mlp=group_rational makes rationals" in line
    (line,) = said("model=kat", "model.init_from_mode=paper")
    assert "model.init_from is null" in line
    (line,) = said("model=karat", "finetune.new_head=true")
    assert "finetune.init_from is null" in line
