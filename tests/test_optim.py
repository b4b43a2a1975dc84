"""Parameter groups, schedules and learning-rate scaling."""

import itertools
import math
from typing import Any

import pytest
import timm
import torch
from torch import nn

from kanvision.optim import (
    SCHEDULES,
    build_optimizer,
    build_scheduler,
    kan_parameter_names,
    parameter_groups,
    scaled_lr,
)


class Rational(nn.Module):
    kan_parameters = ("numerator", "denominator")

    def __init__(self) -> None:
        super().__init__()
        self.numerator = nn.Parameter(torch.ones(1, 6))
        self.denominator = nn.Parameter(torch.ones(8, 4))


class KANBlock(nn.Module):
    kan_parameters = ("basis_weight", "phase")

    def __init__(self) -> None:
        super().__init__()
        self.base_weight = nn.Parameter(torch.ones(4, 4))
        self.basis_weight = nn.Parameter(torch.ones(4, 12))
        self.register_parameter("phase", None)
        self.bias = nn.Parameter(torch.ones(4))
        self.act = Rational()
        self.norm = nn.LayerNorm(4)


class Net(nn.Module):
    """Two blocks of all kinds of parameters; the head shares a weight with the first block."""

    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.ones(1, 9, 4))
        self.blocks = nn.ModuleList([KANBlock(), KANBlock()])
        self.head = nn.Linear(4, 4)
        self.head.weight = self.blocks[0].base_weight
        self.frozen = nn.Parameter(torch.ones(3, 3), requires_grad=False)

    def no_weight_decay(self) -> set[str]:
        return {"pos_embed"}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {"stem": r"^pos_embed", "blocks": r"^blocks\.(\d+)"}


LR, WD, KAN_LR, LAYER_DECAY = 0.1, 0.05, 0.02, 0.5
RATIONALS = {f"blocks.{i}.act.{name}" for i in (0, 1) for name in ("numerator", "denominator")}
KAN = RATIONALS | {"blocks.0.basis_weight", "blocks.1.basis_weight"}
DEPTH = {"pos_embed": 0, "blocks.0": 1, "blocks.1": 2, "head": 3}


def test_kan_parameters_are_found_by_name() -> None:
    assert kan_parameter_names(Net()) == KAN
    assert kan_parameter_names(nn.Linear(2, 2)) == set()


@pytest.mark.parametrize(
    ("decay_rationals", "kan_lr", "layer_decay", "weight_decay"),
    list(itertools.product([True, False], [None, KAN_LR], [None, LAYER_DECAY], [0.0, WD])),
)
def test_every_parameter_is_in_one_group_with_the_right_settings(
    decay_rationals: bool, kan_lr: float | None, layer_decay: float | None, weight_decay: float
) -> None:
    model = Net()
    groups = parameter_groups(
        model,
        lr=LR,
        weight_decay=weight_decay,
        decay_rationals=decay_rationals,
        kan_lr=kan_lr,
        layer_decay=layer_decay,
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    placed = [names[id(p)] for group in groups for p in group["params"]]
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert sorted(placed) == sorted(trainable)
    for group in groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            exempt = parameter.ndim < 2 or name == "pos_embed" or (name in RATIONALS and not decay_rationals)
            assert group["weight_decay"] == (0.0 if exempt else weight_decay), name
            lr = kan_lr if kan_lr and name in KAN else LR
            depth = next(v for k, v in DEPTH.items() if name.startswith(k))
            expected = lr * (layer_decay ** (3 - depth) if layer_decay else 1)
            assert group["lr"] == pytest.approx(expected), name


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18", "efficientnet_b0"])
@pytest.mark.parametrize("layer_decay", [None, 0.8])
def test_groups_of_timm_models_equal_timm(name: str, layer_decay: float | None) -> None:
    """Without KAN parameters the rates and decays are those of timm's own factory."""
    model = timm.create_model(name)
    ours = build_optimizer(model, name="adamw", lr=LR, weight_decay=WD, layer_decay=layer_decay)
    theirs = timm.optim.create_optimizer_v2(model, "adamw", lr=LR, weight_decay=WD, layer_decay=layer_decay)

    def settings(optimizer: torch.optim.Optimizer) -> dict[int, tuple[float, float]]:
        groups = optimizer.param_groups
        return {id(p): (g["weight_decay"], g.get("lr_scale", 1.0)) for g in groups for p in g["params"]}

    assert settings(ours) == settings(theirs)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("adamw", {"betas": [0.8, 0.9], "eps": 1e-5}, {"betas": (0.8, 0.9), "eps": 1e-5}),
        ("adamw", {}, {"betas": (0.9, 0.999), "eps": 1e-8}),
        ("sgd", {"momentum": 0.7}, {"momentum": 0.7, "nesterov": True}),
        ("sgd", {"betas": (0.8, 0.9), "eps": 1e-5}, {"momentum": 0.9}),
        ("lamb", {}, {"lr": LR}),
        ("lion", {"betas": (0.8, 0.9)}, {"betas": (0.8, 0.9)}),
    ],
)
def test_options_reach_the_optimizer(name: str, options: dict[str, Any], expected: dict[str, Any]) -> None:
    optimizer = build_optimizer(nn.Linear(2, 2), name=name, lr=LR, **options)
    for group in optimizer.param_groups:
        assert {key: group[key] for key in expected} == expected


def test_kan_rate_without_a_schedule() -> None:
    """The optimiser alone uses the right rates."""
    model = KANBlock()
    optimizer = build_optimizer(model, name="momentum", lr=LR, kan_lr=KAN_LR, weight_decay=0.0, momentum=0.0)
    (model.base_weight.sum() + model.basis_weight.sum()).backward()
    optimizer.step()
    assert torch.allclose(model.base_weight, torch.full((4, 4), 1 - LR))
    assert torch.allclose(model.basis_weight, torch.full((4, 12), 1 - KAN_LR))


def test_unknown_optimizer_names_close_ones() -> None:
    with pytest.raises(ValueError, match=r"optimizer\.name='adamv'.*adamw"):
        build_optimizer(nn.Linear(2, 2), name="adamv", lr=LR)


WARMUP, WARMUP_LR, MIN_LR, EPOCHS, STEPS = 2.0, 0.01, 0.001, 10, 4


def curve(name: str, t: float) -> float:
    """The formulas of the documentation."""
    if t < WARMUP:
        return WARMUP_LR + (LR - WARMUP_LR) * t / WARMUP
    return {
        "cosine": MIN_LR + (LR - MIN_LR) * (1 + math.cos(math.pi * t / EPOCHS)) / 2,
        "linear": MIN_LR + (LR - MIN_LR) * (1 - t / EPOCHS),
        "poly": MIN_LR + (LR - MIN_LR) * (1 - t / EPOCHS) ** 0.3,
        "step": LR * 0.3 ** (t // 3),
        "exponential": LR * 0.3 ** math.floor(t),
        "constant": LR,
    }[name]


@pytest.mark.parametrize("interval", ["epoch", "step"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_follow_their_formulas_with_constant_ratios(name: str, interval: str) -> None:
    optimizer = build_optimizer(Net(), name="adamw", lr=LR, kan_lr=KAN_LR, layer_decay=LAYER_DECAY)
    scales = [group["lr_scale"] for group in optimizer.param_groups]
    assert len(set(scales)) > 3
    scheduler = build_scheduler(
        optimizer,
        max_epochs=EPOCHS,
        steps_per_epoch=STEPS,
        name=name,
        warmup_epochs=WARMUP,
        warmup_lr=WARMUP_LR,
        min_lr=MIN_LR,
        decay_rate=0.3,
        decay_epochs=3,
        interval=interval,
    )
    for tick in range(EPOCHS * (STEPS if interval == "step" else 1)):
        if tick and interval == "epoch":
            scheduler.step(tick)
        elif tick:
            scheduler.step_update(tick)
        rate = curve(name, tick / STEPS if interval == "step" else tick)
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([rate * scale for scale in scales], rel=1e-9)


def test_published_schedule_of_kat() -> None:
    """Cosine over 300 epochs, with 5 of warm-up from 1e-5 inside them, to 0."""
    optimizer = build_optimizer(nn.Linear(2, 2), name="adamw", lr=1e-3)
    scheduler = build_scheduler(
        optimizer, max_epochs=300, steps_per_epoch=1251, warmup_epochs=5, warmup_lr=1e-5
    )
    rates = []
    for epoch in range(1, 301):
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step(epoch)
    assert rates[:6] == pytest.approx([1e-5 + 1.98e-4 * t for t in range(5)] + [0.99932e-3], rel=1e-4)
    assert rates[150] == pytest.approx(5e-4)
    assert rates[299] == pytest.approx(1e-3 * (1 + math.cos(math.pi * 299 / 300)) / 2)


@pytest.mark.parametrize(("key", "value"), [("name", "cosin"), ("interval", "batch")])
def test_unknown_schedule(key: str, value: str) -> None:
    optimizer = build_optimizer(nn.Linear(2, 2), name="adamw", lr=LR)
    with pytest.raises(ValueError, match=rf"scheduler\.{key}='{value}' is unknown; legal: "):
        build_scheduler(optimizer, max_epochs=3, steps_per_epoch=2, **{key: value})


@pytest.mark.parametrize(("rule", "expected"), [("none", 1e-3), ("linear", 2.5e-4), ("sqrt", 5e-4)])
def test_rate_follows_the_batch(rule: str, expected: float) -> None:
    assert scaled_lr(1e-3, rule, 256, 1024) == pytest.approx(expected)


def test_rate_scaling_needs_a_reference() -> None:
    assert scaled_lr(1e-3, "none", 256, None) == 1e-3
    with pytest.raises(ValueError, match=r"recipe\.batch_size"):
        scaled_lr(1e-3, "linear", 256, None)
    with pytest.raises(ValueError, match="legal: none, linear, sqrt"):
        scaled_lr(1e-3, "cubic", 256, 1024)
