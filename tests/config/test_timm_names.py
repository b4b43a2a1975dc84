"""What the texts of timm say against what it registers; no sound name may be refused."""

from pathlib import Path

import pytest
import timm
from timm.optim import list_optimizers
from torch import nn

import kanvision.models  # noqa: F401  # registers our own
from kanvision.config import ConfigError, compose, parse_train
from kanvision.config.timm_names import OWN_PREFIXES, is_own, timm_models
from kanvision.optim import build_optimizer
from kanvision.spec.optimizers import OPTIMIZERS, UNSUPPORTED_OPTIMIZERS

CONF = Path(__file__).parents[2] / "conf"


def test_every_model_is_found():
    ours = {
        name for name in timm.list_models() if timm.model_entrypoint(name).__module__.startswith("kanvision")
    }
    assert set(timm.list_models()) - ours <= timm_models()
    assert "resnet17" not in timm_models()
    assert {name for name in timm.list_models() if is_own(name)} == ours
    assert all(any(name.startswith(f"{prefix}_") for name in ours) for prefix in OWN_PREFIXES)


def test_every_optimizer_is_legal_or_refused_for_a_reason():
    assert set(list_optimizers()) == {*OPTIMIZERS, *UNSUPPORTED_OPTIMIZERS}
    assert not set(OPTIMIZERS) & set(UNSUPPORTED_OPTIMIZERS)


@pytest.mark.parametrize("name", ["adahessian", "kron", "lookahead_kronw", "bnbadam8bit", "FusedAdam"])
def test_unsupported_optimizers_are_refused(name):
    with pytest.raises(ConfigError) as refusal:
        parse_train(compose("train", [f"optimizer.name={name}"], CONF))
    assert len(refusal.value.problems) == 1
    assert UNSUPPORTED_OPTIMIZERS[name.lower().removeprefix("lookahead_")] in str(refusal.value)
    with pytest.raises(ValueError, match=f"optimizer.name='{name}' cannot be used"):
        build_optimizer(nn.Linear(2, 2), name=name, lr=0.1)


def test_a_prefix_that_timm_ignores_is_refused():
    with pytest.raises(ConfigError, match="no such name"):
        parse_train(compose("train", ["optimizer.name=lookahed_adamw"], CONF))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optimizer.name=adamww"], "adamw"),
        (["model=timm", "model.name=resnet17"], "resnet18"),
        (["model=timm", "model.name=resnet17", "optimizer.name=adamww"], "adamw"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(words, message):
    with pytest.raises(ConfigError, match="no such name in timm's registry") as refusal:
        parse_train(compose("train", words, CONF))
    assert message in str(refusal.value)
    assert len(refusal.value.problems) == sum(word.count(".name=") for word in words)


@pytest.mark.parametrize(
    "words",
    [
        ["optimizer.name=lookahead_AdamW"],
        ["model=timm", "model.name=resnet18.a1_in1k"],
        ["model=timm", "model.name=kat_micro_patch16_224"],
        ["model=timm", "model.name=vgg_kan_11"],
        ["model=timm", "model.name=hf-hub:someone/something"],
    ],
)
def test_names_with_more_around_them_pass(words):
    parse_train(compose("train", words, CONF))
