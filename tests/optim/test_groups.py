"""Parameter groups and learning-rate scaling."""

import itertools
from typing import Any

import pytest
import timm
import torch
from torch import nn

import kanvision as kv
from kanvision.bases import BASES, Basis
from kanvision.models import create_segmenter
from kanvision.optim import (
    build_optimizer,
    kan_parameter_names,
    parameter_groups,
    regroup_state,
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
    ids = [names[id(p)] for group in groups for p in group["params"]]
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert sorted(ids) == sorted(trainable)
    for group in groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            exempt = parameter.ndim < 2 or name == "pos_embed" or (name in RATIONALS and not decay_rationals)
            assert group["weight_decay"] == (0.0 if exempt else weight_decay), name
            lr = kan_lr if kan_lr and name in KAN else LR
            depth = next(v for k, v in DEPTH.items() if name.startswith(k))
            expected = lr * (layer_decay ** (3 - depth) if layer_decay else 1)
            assert group["lr"] == pytest.approx(expected), name


@pytest.mark.parametrize("layer_decay", [None, 0.8])
@pytest.mark.parametrize("model", ["convkan_4", "kkan_small", "ukan_tiny", "tu-convkan_4"])
@pytest.mark.parametrize("basis", sorted(BASES))
def test_parameters_of_functions_do_not_decay_in_any_network(model, basis, layer_decay):
    if model.startswith("tu-"):
        net = create_segmenter("Unet", encoder_name=model, num_classes=2, basis=basis, width_scale=0.1)
    else:
        net = kv.create_model(model, num_classes=2, basis=basis)
    groups = parameter_groups(net, lr=LR, weight_decay=WD, layer_decay=layer_decay)
    decaying = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    own = [p for module in net.modules() if isinstance(module, Basis) for p in module.parameters()]
    assert bool(own) is bool(list(kv.create_basis(basis, num_channels=2).parameters()))
    assert not [p for p in own if id(p) in decaying]
    assert decaying


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
    """The optimizer alone uses the right rates."""
    model = KANBlock()
    optimizer = build_optimizer(model, name="momentum", lr=LR, kan_lr=KAN_LR, weight_decay=0.0, momentum=0.0)
    (model.base_weight.sum() + model.basis_weight.sum()).backward()
    optimizer.step()
    assert torch.allclose(model.base_weight, torch.full((4, 4), 1 - LR))
    assert torch.allclose(model.basis_weight, torch.full((4, 12), 1 - KAN_LR))


@pytest.mark.parametrize("layer_decay", [None, LAYER_DECAY])
def test_everything_decays_where_that_is_asked_for(layer_decay: float | None) -> None:
    model = Net()
    groups = parameter_groups(model, lr=LR, weight_decay=WD, decay_all=True, layer_decay=layer_decay)
    assert {group["weight_decay"] for group in groups} == {WD}
    ids = [id(p) for group in groups for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert len(groups) == 1 or layer_decay is not None


def test_published_groups_of_ukan() -> None:
    """All weights of the 12 KAN layers at 1e-2, the rest at 1e-4; Adam with L2 decay of everything."""
    with torch.device("meta"):
        model = create_segmenter("ukan_medium", num_classes=1, basis="bspline")
    optimizer = build_optimizer(
        model, name="adam", lr=1e-4, kan_lr=1e-2, weight_decay=1e-4, decay_all=True, betas=(0.9, 0.999)
    )
    assert type(optimizer) is torch.optim.Adam
    assert not optimizer.param_groups[0].get("decoupled_weight_decay")
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [(1e-4, 1e-4), (1e-2, 1e-4)]
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    kan = [names[id(p)] for p in optimizer.param_groups[1]["params"]]
    assert len(kan) == 36
    assert {name.rpartition(".")[2] for name in kan} == {"basis_weight", "base_weight", "edge_scale"}
    kan_share = sum(p.numel() for p in optimizer.param_groups[1]["params"])
    assert kan_share == 10 * 3 * (2 * 160**2 + 256**2 + 128**2)


def test_the_mlp_twin_of_ukan_learns_at_the_same_rates() -> None:
    """Published so: its linear layers are named like the KAN layers that they stand for."""
    with torch.device("meta"):
        model = create_segmenter("ukan_medium", num_classes=1, plain=True)
    groups = parameter_groups(model, lr=1e-4, kan_lr=1e-2, weight_decay=1e-4, decay_all=True)
    assert [group["lr"] for group in groups] == [1e-4, 1e-2]
    assert len(groups[1]["params"]) == 24  # weights and biases


REGROUPED: list[dict[str, Any]] = [
    {"kan_lr": KAN_LR},
    {"layer_decay": LAYER_DECAY},
    {"decay_rationals": False},
    {"decay_all": True},
    {"kan_lr": KAN_LR, "layer_decay": LAYER_DECAY, "weight_decay": 0.0},
]


@pytest.mark.parametrize("options", REGROUPED)
@pytest.mark.parametrize("is_reverse", [False, True])
def test_momenta_stay_with_their_parameters_in_other_groups(options, is_reverse) -> None:
    model = Net()
    plain = {"name": "lamb", "lr": LR, "weight_decay": WD}  # lamb counts steps in its groups
    before, now = ({**plain, **options}, plain) if is_reverse else (plain, {**plain, **options})
    optimizer = build_optimizer(model, **before)
    for value, parameter in enumerate(model.parameters(), 1):
        if parameter.requires_grad:
            parameter.grad = torch.full_like(parameter, float(value))
    optimizer.step()
    momenta = {p: state["exp_avg"].clone() for p, state in optimizer.state.items()}
    assert len({float(momentum.flatten()[0]) for momentum in momenta.values()}) == len(momenta)
    resumed = build_optimizer(model, **now)
    resumed.load_state_dict(regroup_state(optimizer.state_dict(), model, before, now))
    assert all(torch.equal(resumed.state[p]["exp_avg"], momentum) for p, momentum in momenta.items())
    resumed.step()
    assert [int(group["step"]) for group in resumed.param_groups] == [2] * len(resumed.param_groups)


def test_unknown_optimizer_names_close_ones() -> None:
    with pytest.raises(ValueError, match=r"optimizer\.name='adamv'.*adamw"):
        build_optimizer(nn.Linear(2, 2), name="adamv", lr=LR)


@pytest.mark.parametrize(("rule", "expected"), [("none", 1e-3), ("linear", 2.5e-4), ("sqrt", 5e-4)])
def test_rate_follows_the_batch(rule: str, expected: float) -> None:
    assert scaled_lr(1e-3, rule, 256, 1024) == pytest.approx(expected)


def test_rate_scaling_needs_a_reference() -> None:
    assert scaled_lr(1e-3, "none", 256, None) == 1e-3
    with pytest.raises(ValueError, match=r"recipe\.batch_size"):
        scaled_lr(1e-3, "linear", 256, None)
    with pytest.raises(ValueError, match="legal: none, linear, sqrt"):
        scaled_lr(1e-3, "cubic", 256, 1024)
