"""Pruning a selectable basis: the same function with one basis, in every shape of layer."""

import copy

import pytest
import torch
from torch import nn

import kanvision as kv
from kanvision.bases import SelectableBasis, create_basis
from kanvision.layers import (
    KANConv1d,
    KANConv2d,
    KANConv3d,
    KANLinear,
    MoEKANConv2d,
    prune_selection,
    restore_structure,
    selection_sites,
    structure_changes,
)

POOL = ["bspline", "rbf", "wavelet", "chebyshev", "gram"]
OPTIONS = {"basis": "selectable", "basis_kwargs": {"pool": POOL}}
LAYERS = {
    "linear": (lambda: KANLinear(6, 5, bias=True, norm="layer", act="silu", **OPTIONS), (3, 7, 6)),
    "linear_edges": (lambda: KANLinear(6, 5, edge_scale=True, base_act=None, **OPTIONS), (3, 6)),
    "conv1d": (lambda: KANConv1d(6, 4, 3, padding=1, stride=2, **OPTIONS), (2, 6, 9)),
    "conv2d": (lambda: KANConv2d(6, 4, 3, padding=1, norm="batch", bias=True, **OPTIONS), (2, 6, 5, 5)),
    "conv2d_groups": (
        lambda: KANConv2d(6, 4, (3, 1), groups=2, input_norm="instance", **OPTIONS),
        (2, 6, 5, 5),
    ),
    "conv2d_depthwise": (
        lambda: KANConv2d(6, 6, 3, padding=1, groups=6, edge_scale=True, pad_space="input", **OPTIONS),
        (2, 6, 5, 5),
    ),
    "conv3d": (lambda: KANConv3d(6, 2, 2, groups=2, drop_rate=0.1, **OPTIONS), (2, 6, 3, 3, 3)),
}


def decided(module: nn.Module, member: str, phase: str = "pruned", temperature: float = 1.0) -> None:
    """Let every basis choose this member, from gates that are not all alike."""
    for site in selection_sites(module):
        with torch.no_grad():
            site.basis.logits.copy_(torch.linspace(-0.5, 0.5, len(site.basis.members)))
            site.basis.logits[list(site.basis.members).index(member)] = 2.0
        site.basis.set_phase(phase, temperature)


@pytest.mark.parametrize("member", POOL)
@pytest.mark.parametrize("name", LAYERS)
def test_pruning_keeps_the_function(name: str, member: str) -> None:
    torch.manual_seed(0)
    build, shape = LAYERS[name]
    layer = build()
    with torch.no_grad():  # what members have learned goes along
        for basis in layer.basis.members.values():
            for parameter in basis.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    decided(layer, member)
    x = torch.randn(shape)
    layer.eval()
    expected = layer(x)
    assert prune_selection(layer) == {"": member}
    assert layer.basis.name == member
    assert layer.basis_weight.shape[1] == 6 // layer.groups * layer.basis.num_basis
    assert (layer(x) - expected).abs().max() < 1e-5
    layer.train()
    layer(torch.randn(shape)).square().sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    assert not any(key.startswith(("basis.members", "basis.logits")) for key in layer.state_dict())


def test_soft_gates_leave_the_share_of_the_member() -> None:
    torch.manual_seed(0)
    layer = KANLinear(3, 2, base_act=None, **OPTIONS).double()
    decided(layer, "rbf", "select", 0.8)
    share = copy.deepcopy(layer)
    with torch.no_grad():  # what the other members add is taken away
        others = share.basis.get_member_map("rbf").sum(0) == 0
        share.basis_weight[:, others.repeat(3)] = 0
    x = torch.randn(9, 3, dtype=torch.float64)
    expected = share(x)
    assert (expected - layer(x)).abs().max() > 0.1
    prune_selection(layer)
    torch.testing.assert_close(layer(x), expected)


def test_decided_gates_are_as_good_as_pruned_ones() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(KANLinear(3, 4, **OPTIONS), KANLinear(4, 2, **OPTIONS)).eval()
    decided(model, "chebyshev", "select", 0.08)
    x = torch.randn(9, 3)
    expected = model(x)
    assert prune_selection(model) == {"0": "chebyshev", "1": "chebyshev"}
    assert (model(x) - expected).abs().max() < 1e-5


def test_a_network_is_pruned_and_built_again_from_its_record() -> None:
    torch.manual_seed(0)

    def build() -> nn.Module:
        options = {"basis": "selectable", "width_scale": 0.125, "num_classes": 3, "in_chans": 2}
        return kv.create_model("convkan_4", **options).eval()

    model = build()
    for index, site in enumerate(selection_sites(model)):
        with torch.no_grad():
            site.basis.logits[index % 4] = 1.0
        site.basis.set_phase("pruned")
    x = torch.randn(2, 2, 8, 8)
    expected = model(x)
    before = sum(p.numel() for p in model.parameters())
    choices = prune_selection(model)
    assert list(choices.values()) == ["bspline", "rbf", "wavelet", "chebyshev"]
    assert sum(p.numel() for p in model.parameters()) < before / 2
    assert (model(x) - expected).abs().max() < 1e-5
    again = build()
    restore_structure(again, structure_changes(model))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(x), model(x))
    assert prune_selection(model) == {}  # nothing left to choose


def test_layers_that_share_a_basis_choose_together() -> None:
    torch.manual_seed(0)
    basis = create_basis("selectable")
    model = nn.ModuleDict({"a": KANLinear(3, 4, basis), "b": KANLinear(5, 2, basis)})
    decided(model, "rbf")
    inputs = {"a": torch.randn(2, 3), "b": torch.randn(2, 5)}
    expected = {name: layer(inputs[name]) for name, layer in model.items()}
    assert prune_selection(model) == {"a": "rbf", "b": "rbf"}
    assert model["a"].basis is model["b"].basis
    assert len(structure_changes(model)) == 1
    for name, layer in model.items():
        torch.testing.assert_close(layer(inputs[name]), expected[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("evaluation", ["auto", "loop", "joint", "sparse"])
def test_experts_choose_by_themselves(evaluation: str) -> None:
    torch.manual_seed(0)
    options = {"base_act": None, "evaluation": evaluation, "num_experts": 3, "k": 2, **OPTIONS}
    mixture = MoEKANConv2d(4, 4, 3, padding=1, **options).eval()
    for index, site in enumerate(selection_sites(mixture)):
        with torch.no_grad():
            site.basis.logits[index + 1] = 1.0
        site.basis.set_phase("pruned")
    x = torch.randn(2, 4, 5, 5)
    expected = mixture(x)
    assert list(prune_selection(mixture).values()) == ["rbf", "wavelet", "chebyshev"]
    torch.testing.assert_close(mixture(x), expected, atol=1e-5, rtol=0)


def test_what_cannot_be_pruned_is_said() -> None:
    for options, message in (
        ({"basis_act": "silu"}, "basis_act"),
        ({"basis_kwargs": {"squash": "tanh"}}, "squash='tanh'"),
    ):
        with pytest.raises(ValueError, match=message):
            prune_selection(KANLinear(2, 2, **{**OPTIONS, **options}))
    with pytest.raises(ValueError, match="'1' is a selectable basis outside of a KAN layer"):
        prune_selection(nn.Sequential(KANLinear(2, 2, **OPTIONS), SelectableBasis()))
    with pytest.raises(ValueError, match=r"legal names: bspline.*gram"):
        kv.layers.select_basis(KANLinear(2, 2, **OPTIONS), member="fourier")
    with pytest.raises(ValueError, match="not a KAN layer over a selectable basis"):
        kv.layers.select_basis(KANLinear(2, 2, "rbf"), member="rbf")
