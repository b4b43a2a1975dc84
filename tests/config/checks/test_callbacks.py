"""Callbacks of Lightning that are refused, with what does the same."""

from pathlib import Path

import pytest
from pytorch_lightning.callbacks import SpikeDetection

from kanvision.config import ConfigError, compose, parse_train

CONF = Path(__file__).parents[3] / "conf"
LIGHTNING = "+callbacks.x._target_=pytorch_lightning.callbacks."


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("StochasticWeightAveraging", ["after the last checkpoint", "callbacks=[default,swa]"]),
        ("stochastic_weight_avg.StochasticWeightAveraging", ["callbacks=[default,swa]"]),
        ("SpikeDetection", ["load its state", "trainer.gradient_clip_val=1"]),
        ("LearningRateFinder", ["does not hold", "callbacks=[default,lr_finder]", "-m optimizer.lr="]),
        ("BatchSizeFinder", ["does not hold", "data.batch_size"]),
        ("BackboneFinetuning", ["backbone", "finetune.freeze"]),
    ],
)
def test_callbacks_that_cannot_work_are_refused(target, told):
    with pytest.raises(ConfigError) as refusal:
        parse_train(compose("train", [LIGHTNING + target], CONF))
    assert [
        word
        for word in [f"callbacks.x._target_=pytorch_lightning.callbacks.{target}", *told]
        if word not in str(refusal.value)
    ] == []


def test_spike_detection_still_cannot_load_its_state():
    """Fails once Lightning has repaired it: then it need not be refused any more."""
    with pytest.raises(AttributeError, match="running"):
        SpikeDetection().load_state_dict(SpikeDetection().state_dict())


@pytest.mark.parametrize(
    "other",
    ["trainer.accumulate_grad_batches=2", "trainer.global_batch_size=64", "optimizer.lr_scaling=linear"],
)
def test_batches_are_accumulated_in_one_way(other):
    target = LIGHTNING + "GradientAccumulationScheduler"
    parse_train(compose("train", [target], CONF))
    with pytest.raises(ConfigError, match="the callback sets") as refusal:
        parse_train(compose("train", [target, other], CONF))
    assert other in str(refusal.value)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_logger_without_its_package_is_refused_with_the_extra(monkeypatch, name):
    """A run that ends in Lightning's traceback, or a message that names no way to install the package."""
    monkeypatch.setattr("kanvision.config.checks.callbacks.find_spec", lambda package: None)
    with pytest.raises(ConfigError, match=f"needs the package {name}") as refusal:
        parse_train(compose("train", [f"logger=[csv,{name}]"], CONF))
    assert f'pip install "kanvision[{name}]"' in str(refusal.value)


def test_a_run_has_one_average():
    with pytest.raises(ConfigError, match="one average"):
        parse_train(compose("train", ["callbacks=swa", "+ema={decay:0.9}"], CONF))
