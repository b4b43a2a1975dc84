"""Histograms count every weight once, in its kind, and know its moments."""

import numpy as np
import pytest
import timm
import torch
from scipy import stats

import kanvision.models
from kanvision.analysis.histograms import (
    ALL,
    BASIS,
    COEFFICIENTS,
    MAPS,
    MIXING,
    NORMS,
    RATIONAL,
    VECTORS,
    changed,
    count,
    histogram_chart,
    kinds,
    operator_chart,
    reach,
    training_chart,
)
from kanvision.layers import KANConv2d

assert kanvision.models
SMALL = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 4}


def network(name, **kwargs):
    torch.manual_seed(0)
    return timm.create_model(name, **{**SMALL, **kwargs})


@pytest.mark.parametrize(
    ("name", "kwargs", "own"),
    [
        ("karat_micro_patch4_32", {"rank": 2}, {COEFFICIENTS: 2 * 3 * 2 * 5 * 6, MIXING: 2 * 3 * 5 * 2}),
        ("karat_micro_patch4_32", {"rank": 2, "share": "universal"}, {COEFFICIENTS: 180, MIXING: 30}),
        ("kat_micro_patch16_224", {}, {RATIONAL: 2 * 2 * (6 + 8 * 4)}),
        ("vit_tiny_patch16_224", {}, {}),
    ],
)
def test_every_weight_has_one_kind(name, kwargs, own):
    model = network(name, **kwargs)
    groups = kinds(model)
    number = {kind: sum(model.get_parameter(n).numel() for n in names) for kind, names in groups.items()}
    total = sum(p.numel() for p in model.parameters())
    assert number.pop(ALL) == total == sum(number.values())
    assert {kind: number[kind] for kind in own} == own
    assert number.keys() - own.keys() == {MAPS, VECTORS, NORMS}
    assert number[NORMS] == 5 * 24
    weights = model.state_dict()
    for names in groups.values():
        for limit in (0.01, 0.1):
            found = count(weights, names, limit, 7)
            assert found.below + found.inside.sum() + found.above == found.number


def test_kan_convolutions_have_weights_of_functions():
    model = torch.nn.Sequential(KANConv2d(2, 3, 3, basis="bspline"), torch.nn.Conv2d(3, 4, 1))
    groups = kinds(model)
    assert groups[BASIS] == ["0.basis_weight"]
    assert "1.weight" in groups[MAPS]


def test_counts_and_moments_are_those_of_the_values():
    torch.manual_seed(0)
    weights = {"a": torch.randn(40, 30) * 0.05 + 0.01, "b": torch.randn(100) ** 3}
    found = count(weights, ["a", "b"], 0.1, 20)
    values = torch.cat([w.flatten() for w in weights.values()]).double().numpy()
    assert found.inside.tolist() == np.histogram(values, 20, (-0.1, 0.1))[0].tolist()
    assert (found.below, found.above) == ((values < -0.1).sum(), (values > 0.1).sum())
    assert found.mean == pytest.approx(values.mean())
    assert found.std == pytest.approx(values.std())
    assert found.kurtosis == pytest.approx(stats.kurtosis(values), rel=1e-6)
    assert found.near_zero == (np.abs(values) < 0.001).mean()
    assert reach(weights, ["a", "b"]) == pytest.approx(np.quantile(np.abs(values), 0.995), rel=1e-5)


def test_charts_have_a_line_for_each_epoch_and_a_panel_for_each_head():
    model = network("karat_micro_patch4_32", num_softmax_heads=1)
    groups = kinds(model)
    weights = model.state_dict()
    found = {kind: dict.fromkeys((0, 2), count(weights, names, 0.1, 9)) for kind, names in groups.items()}
    figure = histogram_chart(found, dict.fromkeys(found, 0.1))
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title().rpartition(" (")[0] for ax in shown] == list(groups)
    assert all(len(ax.patches) == 2 for ax in shown)
    moved = {kind: {0: 0.0, 2: changed(weights, weights, names)} for kind, names in groups.items()}
    assert [len(ax.lines) for ax in training_chart(found, moved).axes] == [len(found)] * 3
    operators = operator_chart(model, weights)
    assert operators is not None
    assert len(operators.axes) == 2 * 2  # blocks x heads with functions
    assert operator_chart(network("vit_tiny_patch16_224"), {}) is None


def test_how_far_weights_have_come_is_relative_to_where_they_started():
    start = {"a": torch.tensor([3.0]), "b": torch.tensor([[0.0, 4.0]]), "c": torch.zeros(2)}
    end = {"a": torch.tensor([3.0]), "b": torch.tensor([[1.0, 4.0]]), "c": torch.ones(2)}
    assert changed(start, end, ["a", "b"]) == pytest.approx(1 / 5)
    assert np.isnan(changed(start, end, ["c"]))
    assert np.isnan(changed(start, {"a": torch.ones(2)}, ["a"]))
