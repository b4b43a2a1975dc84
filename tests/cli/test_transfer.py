"""From end to end: a KArAt goes to other images and classes, and teaches a plain ViT where to look."""

import json
from pathlib import Path

import pytest
import torch

from kanvision.app.evaluate import evaluate
from kanvision.app.train import train
from kanvision.checkpoints import CheckpointError
from kanvision.config import ConfigError, compose, parse_eval, parse_train

from .conftest import REPOSITORY

CONF = REPOSITORY / "conf"
QUICK = (
    *(
        "trainer.accelerator=cpu",
        "data.limit=40",
        "data.limit_test=40",
        "data.batch_size=16",
        "trainer.max_epochs=1",
        "seed=1",
    ),
    *("scheduler.warmup_epochs=0", "trainer.enable_progress_bar=false", "logger=none"),
)
SIZE = ("model.size=micro", "model.embed_dim=24", "model.depth=2", "model.num_heads=2", "model.patch_size=2")


def run(*words: str) -> dict[str, torch.Tensor]:
    train(parse_train(compose("train", [*QUICK, *SIZE, *words], CONF)))
    folder = next(word for word in words if word.startswith("run.dir=")).removeprefix("run.dir=")
    return torch.load(Path(folder, "checkpoints", "last.ckpt"), weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A folder with a KArAt that was trained on digits."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("model=karat", "run.dir=karat")
    return folder


def test_a_karat_goes_to_larger_images_with_a_new_classifier(source, monkeypatch, capsys):
    monkeypatch.chdir(source)
    words = ("data.img_size=12", "finetune.init_from=karat", "finetune.new_head=true", "optimizer.lr=1e-12")
    state = run("model=karat", *words, "run.dir=larger", "optimizer.weight_decay=0", "seed=5")
    said = " ".join(capsys.readouterr().out.split())
    assert "start from karat; anew: head.weight, head.bias; what belongs to patches interpolated from" in said
    assert "from 4 x 4 to 6 x 6" in said
    before = torch.load("karat/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    assert torch.allclose(
        state["model.blocks.1.mlp.fc1.weight"], before["model.blocks.1.mlp.fc1.weight"], atol=1e-9
    )
    assert state["model.pos_embed"].shape == (1, 37, 24)
    assert not torch.allclose(state["model.head.weight"], before["model.head.weight"], atol=1e-3)


def test_a_karat_teaches_a_vit_where_to_look(source, monkeypatch, capsys):
    monkeypatch.chdir(source)
    words = ("model=vit", "model.teacher=karat", "model.embed_dim=32", "model.num_heads=4")
    first = run(*words, "run.dir=student")
    assert "that of karat, frozen" in capsys.readouterr().out
    teacher = torch.load("karat/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    for name, value in teacher.items():
        assert torch.equal(first[name.replace("model.", "model.teacher.", 1)], value)
    assert not any("student" in name and "qkv" in name for name in first)

    # evaluation and resuming need the teacher's run no longer
    tested = json.loads(Path("student/metrics.json").read_text())
    Path("karat").rename("elsewhere")
    evaluate(parse_eval(compose("eval", ["ckpt=student", "trainer.accelerator=cpu"], CONF)))
    assert json.loads(Path("student/eval/test.json").read_text())["test/loss"] == pytest.approx(
        tested["test/loss"], rel=1e-4
    )
    again = run(*words, "run.dir=student", "resume=student", "trainer.max_epochs=2", "test=false")
    Path("elsewhere").rename("karat")
    name = "model.student.blocks.0.attn.value.weight"
    assert not torch.equal(again[name], first[name])
    teaching = "model.teacher.blocks.0.attn.qkv.weight"
    assert torch.equal(again[teaching], first[teaching])


def test_faults_of_a_teacher_name_the_key(source, monkeypatch):
    monkeypatch.chdir(source)
    words = ("model=vit", "run.dir=refused")
    with pytest.raises(CheckpointError, match=r"model\.teacher=nobody: .*no such file or folder"):
        run(*words, "model.teacher=nobody")
    with pytest.raises(
        ConfigError, match=r"(?s)model\.teacher=karat.*the teacher has \(2, 17\), the student \(1, 17\)"
    ):
        run(*words, "model.teacher=karat", "model.depth=1")
    with pytest.raises(ConfigError, match="takes images of 1 channels, the student of 3"):
        run(*words, "model.teacher=karat", "data.in_chans=3", "data.mean=[0,0,0]", "data.std=[1,1,1]")
    torch.save({"weight": torch.zeros(1)}, "bare.pth")
    with pytest.raises(CheckpointError, match=r"carries no configuration, so train\.py did not write it"):
        run(*words, "model.teacher=bare.pth")
    assert not Path("refused").exists()
