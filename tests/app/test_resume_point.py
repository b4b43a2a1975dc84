"""From which checkpoint a run goes on, and what keeps it from that."""

from pathlib import Path
from typing import Any

import pytest
import torch

from kanvision.app.build import setup_datamodule
from kanvision.app.resume_point import ResumePoint, find_resume_point
from kanvision.checkpoints import CheckpointError
from kanvision.config import ConfigError, TrainConfig, compose, parse_train, to_primitive
from kanvision.data.fingerprints import fingerprint

CONF = Path(__file__).resolve().parents[2] / "conf"


def configured(folder: Path, *words: str) -> TrainConfig:
    return parse_train(compose("train", [f"run.dir={folder}", "resume=auto", *words], CONF))


def written(folder: Path, name: str, cfg: TrainConfig, *, within_epoch: bool = False, **loader: Any) -> Path:
    """A checkpoint after the first epoch, or in the second one, without what only training needs."""
    epochs = {"processed": 1, "ready": 1 + within_epoch}
    loop = {
        "state_dict": {"combined_loader": [{"epoch": 1, "position": 2, "length": 4, **loader}]},
        "epoch_progress": {"current": epochs},
        "epoch_loop.batch_progress": {"total": {"processed": 4 + 2 * within_epoch}},
    }
    content = {"loops": {"fit_loop": loop}, "epoch": within_epoch, "global_step": 4 + 2 * within_epoch}
    path = folder / "checkpoints" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({**content, "kanvision": {"config": to_primitive(cfg)}}, path)
    return path


def test_the_resume_point_of_a_folder(tmp_path: Path) -> None:
    automatic = cfg = configured(tmp_path)
    resumed = cfg.model_copy(update={"resume": str(tmp_path)})
    fresh = cfg.model_copy(update={"resume": None})
    assert find_resume_point(fresh) is find_resume_point(automatic) is None
    last = written(tmp_path, "last.ckpt", cfg)
    step = written(tmp_path, "step.ckpt", cfg, within_epoch=True)
    assert find_resume_point(resumed) == find_resume_point(automatic) == str(step)
    assert find_resume_point(cfg.model_copy(update={"resume": str(last)})) == str(last)
    assert str(ResumePoint(str(last), cfg)) == f"{last} (epochs done: 1, steps: 4)"


@pytest.mark.filterwarnings("ignore:Skipping an unreadable checkpoint")
@pytest.mark.parametrize("resume", ["auto", "{folder}"])
def test_where_nothing_can_be_loaded_the_advice_leads_out(tmp_path: Path, resume: str) -> None:
    """It was to resume what cannot be resumed, in turns with a fresh start that was refused."""
    folder = tmp_path / "run"
    cfg = configured(folder)
    last = written(folder, "last.ckpt", cfg)
    last.write_bytes(last.read_bytes()[:-60])
    given = cfg.model_copy(update={"resume": resume.format(folder=folder)})
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* can be loaded \(last\.ckpt\)") as error:
        find_resume_point(given)
    assert "Delete or rename the folder, and resume=auto starts a new run" in str(error.value)
    folder.rename(tmp_path / "renamed")
    assert find_resume_point(given.model_copy(update={"resume": "auto"})) is None


def test_settings_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    """Not those of config.yaml, which an older version may have written over."""
    path = written(tmp_path, "last.ckpt", configured(tmp_path, "seed=1"))
    asked = configured(tmp_path, "seed=2", "optimizer.name=sgd", "optimizer.lr=0.1")
    with pytest.raises(ConfigError, match="2 problems in resuming from") as error:
        ResumePoint(str(path), asked).check_settings(asked)
    text = str(error.value)
    assert f"  2. seed=2\n     the run in {path} has seed=1; another value makes it another training" in text
    same = configured(tmp_path, "seed=1", "optimizer.lr=0.1")
    assert ResumePoint(str(path), same).check_settings(same) == ["optimizer.lr: 0.004 -> 0.1"]


def test_a_checkpoint_without_a_configuration(tmp_path: Path) -> None:
    cfg = configured(tmp_path)
    path = written(tmp_path, "last.ckpt", cfg)
    content = torch.load(path, weights_only=True)
    del content["kanvision"]
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"last\.ckpt carries no configuration"):
        ResumePoint(str(path), cfg)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"images": 59}, ("59 training images", "now 60 training images")),
        ({"fingerprint": "another"}, ("60 training images", "and not the same")),
        ({"processes": 2}, ("1 processes (trainer.devices", "use 2 processes")),
        ({"processes": 2, "images": 61}, ("2 problems", "61 training images", "use 2 processes")),
    ],
)
def test_images_and_processes_are_those_of_the_epoch(
    tmp_path: Path, changed: dict[str, Any], words: tuple[str, ...]
) -> None:
    cfg = configured(tmp_path, "data.limit=60")
    datamodule = setup_datamodule(cfg)
    images = datamodule.datasets["train"]
    now = {"images": 60, "fingerprint": fingerprint(images), "processes": 1}
    step = written(tmp_path, "step.ckpt", cfg, within_epoch=True, **now | changed)
    with pytest.raises(ConfigError, match="from within an epoch") as error:
        ResumePoint(str(step), cfg).check_data(datamodule, 1)
    assert all(word in str(error.value) for word in words)
    assert "start a new run in another run.dir, because no epoch is complete yet" in str(error.value)
    last = written(tmp_path, "last.ckpt", cfg, **now | changed)
    with pytest.raises(ConfigError, match=f"resume from the end of an epoch: resume={last}"):
        ResumePoint(str(step), cfg).check_data(datamodule, 1)
    assert len(ResumePoint(str(last), cfg).check_data(datamodule, 1)) == len(changed)
    unchanged = written(tmp_path, "step.ckpt", cfg, within_epoch=True, **now)
    older = written(tmp_path, "older.ckpt", cfg, within_epoch=True)
    for path in (unchanged, older):
        assert ResumePoint(str(path), cfg).check_data(datamodule, 1) == []
