"""Checkpoints of older versions: what they meant, and what it is said to mean now."""

import warnings
from pathlib import Path

import pytest
import torch

from kanvision.app.build import build_task, create_datamodule
from kanvision.app.model import build_model
from kanvision.app.restore import override_data, restore
from kanvision.config import ConfigError, EvalConfig, compose, parse_train

CONF = Path(__file__).resolve().parents[2] / "conf"


@pytest.mark.parametrize("is_old", [True, False])
def test_a_run_from_before_limit_test_is_tested_on_all_images_with_a_note(tmp_path: Path, is_old: bool):
    words = ["model=convkan", "model.width_scale=0.125", "data=digits", "data.limit=20", "trainer=cpu"]
    run = parse_train(compose("train", words, CONF))
    task = build_task(run, build_model(run), {})
    checkpoint: dict = {"state_dict": task.state_dict()}
    task.on_save_checkpoint(checkpoint)
    if is_old:
        del checkpoint["kanvision"]["config"]["data"]["limit_test"]
    path = tmp_path / "best.ckpt"
    torch.save(checkpoint, path)
    expected = (
        "this run is older than data.limit_test: its data.limit=20 limited validation and test as well, "
        "which now have all their images; data.limit_test=20 takes those of before"
    )
    for change, note in (({}, [expected] * is_old), ({"limit_test": 20}, [])):
        cfg = EvalConfig.model_validate({"ckpt": str(path), "data": change})
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            restored = restore(cfg)
        assert [str(warning.message) for warning in caught] == note
        images = create_datamodule(restored.train_cfg).num_images
        assert (images["train"], images["test"]) == (20, 20 if change else 359)


def test_what_own_masks_mean_can_be_said_to_runs_that_did_not_say_it():
    own, busi = (
        parse_train(compose("train", ["model=unet", "model.size=tiny", f"data={name}"], CONF))
        for name in ("segmentation_folder", "busi")
    )
    for change in ({"foreground": "all"}, {"foreground": [1, 2]}, {"threshold": 127}):
        cfg = EvalConfig.model_validate({"ckpt": "x", "data": change})
        (key,) = change
        assert getattr(override_data(own, cfg), key) == change[key]
        with pytest.raises(
            ConfigError, match=rf"data\.{key}=.*\n.*data.name=busi of the run does not have it"
        ):
            override_data(busi, cfg)
    both = EvalConfig.model_validate({"ckpt": "x", "data": {"foreground": "all", "threshold": 127}})
    with pytest.raises(ConfigError, match="a threshold decides by gray levels"):
        override_data(own, both)
