"""Widths of networks by a budget."""

from pathlib import Path

import pytest
import torch

from kanvision.app.budget import match_width
from kanvision.app.build import measure_cost
from kanvision.app.model import build_model
from kanvision.config import ConfigError, TrainConfig, compose, parse_train

pytestmark = pytest.mark.usefixtures("own_folder")

CONF = Path(__file__).resolve().parents[2] / "conf"
CONVKAN = ("model=convkan", "model.size=4")
MICRO = ("data=fashion_mnist", "data.root=here", "model.size=micro")


def config(*words: str) -> TrainConfig:
    return parse_train(compose("train", ["run.dir=here", *words], CONF))


@pytest.mark.parametrize(
    "words",
    [
        (*CONVKAN, "basis=gram", "model.match=params:5e4"),
        (*CONVKAN, "model.plain=true", "model.match=params:5e4"),
        (*CONVKAN, "basis=rbf", "model.match=flops:4e5"),
        ("model=kat", *MICRO, "model.match=params:3.8e5"),
        ("model=karat", *MICRO, "model.match=flops:3e7"),
        ("model=unet", "model.size=tiny", "model.match=params:2e5"),
    ],
    ids=" ".join,
)
def test_the_width_meets_the_budget_and_stays(words: tuple[str, ...]) -> None:
    """A neighboring width is no nearer; the constructor gets the width, and a resumed run keeps it."""
    cfg = config(*words)
    state = torch.get_rng_state()
    matched = match_width(cfg, None)
    assert torch.equal(torch.get_rng_state(), state)
    kind, _, budget = str(cfg.model.match).partition(":")
    cost = measure_cost(matched, build_model(matched))
    number = cost.parameters if kind == "params" else cost.flops + cost.basis_flops
    assert abs(number / float(budget) - 1) < 0.1
    key = matched.model.width_key()
    assert matched.model.arguments()[key] == matched.model.matched_width
    assert "match" not in matched.model.arguments()
    kept = match_width(cfg, {"model": {"matched_width": 0.25}})
    assert kept.model.matched_width == 0.25
    assert match_width(matched, None) == matched


def test_a_budget_that_no_width_meets_is_refused() -> None:
    with pytest.raises(ConfigError, match="no width comes within 10% of it"):
        match_width(config(*CONVKAN, "model.match=params:30"), None)


def test_a_network_without_a_width_is_refused_before_anything_is_built() -> None:
    with pytest.raises(ConfigError, match="this network has no key for its width"):
        config("model=kkan", "data=fashion_mnist", "data.root=here", "model.match=params:1e4")
    with pytest.raises(ConfigError, match=r"model\.match"):
        config(*CONVKAN, "model.match=weights:1e4")
