"""Callbacks of Lightning that are refused, with what does the same."""

from pathlib import Path

import pytest

from kanvision.config import ConfigError, compose, parse_train

CONF = Path(__file__).parents[3] / "conf"
LIGHTNING = "+callbacks.x._target_=pytorch_lightning.callbacks."


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("StochasticWeightAveraging", ["after the last checkpoint", "ema.decay=0.99"]),
        ("stochastic_weight_avg.StochasticWeightAveraging", ["ema.decay=0.99"]),
        ("LearningRateFinder", ["does not hold", "-m optimizer.lr="]),
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
