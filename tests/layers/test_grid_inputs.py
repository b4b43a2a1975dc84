"""What reaches a grid, and that looking at it leaves no trace."""

import pytest
import torch
from torch import nn

from kanvision.layers import (
    KANConv2d,
    KANLinear,
)
from kanvision.layers.grid import move_grids
from kanvision.layers.grid_inputs import grid_sites, measure_inputs, measure_share_outside
from kanvision.layers.peft import add_adapters

from .grid_layers import build, sample


def test_moving_leaves_no_other_trace() -> None:
    model = nn.Sequential(
        KANConv2d(3, 4, 3, norm="batch"), nn.Dropout(0.5), KANConv2d(4, 2, 3, input_norm="batch")
    )
    model[1].eval()
    x = torch.randn(4, 3, 8, 8)
    buffers = {name: tensor.clone() for name, tensor in model.named_buffers() if "knots" not in name}
    state = torch.get_rng_state()
    assert len(move_grids(model, [x])) == 2
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(model.get_buffer(name), tensor) for name, tensor in buffers.items())
    assert [module.training for module in model] == [True, False, True]
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert model[0].norm.track_running_stats


def test_compiled_code_is_looked_into() -> None:
    model = nn.Sequential(nn.ReLU(), build("linear"))
    model.compile(backend="eager")
    x = sample("linear")
    model(x)
    assert measure_inputs(model, [x])["1"].num_values == x.numel()
    compiled = model._compiled_call_impl
    assert compiled is not None
    assert len(move_grids(model, [x])) == 1
    assert model._compiled_call_impl is compiled


def test_batch_norms_of_a_new_network_use_the_batch() -> None:
    """Their running statistics, 0 and 1, say nothing yet."""
    model = nn.Sequential(nn.BatchNorm1d(6), build("linear"))
    seen = measure_inputs(model, [5 + 10 * torch.randn(500, 6)])["1"]
    assert seen.ends == pytest.approx((-3.2, 3.2), abs=1)


def test_share_outside_of_one_layer() -> None:
    x = sample("linear", count=4000)
    assert measure_share_outside(build(domain=(-1.0, 1.0)), x) == pytest.approx(
        float((x.abs() > 1).float().mean())
    )
    assert measure_share_outside(build(domain=(-1.0, 1.0), basis_kwargs={"squash": "clamp"}), x) > 0.3
    assert measure_share_outside(build(domain=(-1.0, 1.0), input_norm="minmax"), x) == 0
    with pytest.raises(ValueError, match="no bounded domain"):
        measure_share_outside(KANLinear(6, 2, "wavelet"), x)


def test_sites_are_where_there_is_an_outside() -> None:
    model = nn.ModuleDict(
        {
            "spline": build(),
            "clamped": build(basis_kwargs={"squash": "clamp"}),
            "squashed": build(basis_kwargs={"squash": "tanh"}),
            "relu": KANLinear(6, 2, "relu"),
            "wavelet": KANLinear(6, 2, "wavelet"),
            "plain": nn.Linear(6, 2),
            "adapted": add_adapters(build(), adapter_rank=1),
        }
    )
    assert {site.name: site.movable for site in grid_sites(model)} == {
        "spline": True,
        "clamped": True,
        "relu": False,
        "adapted": False,
    }
