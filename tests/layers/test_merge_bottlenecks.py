"""Merging a whole network: outputs, the record, checkpoints of merged networks."""

import pytest
import torch
from torch import nn

from kanvision.layers import (
    BottleneckKANConv2d,
    KANConv2d,
    MoEBottleneckKANConv2d,
    change_structure,
    get_preset,
    merge_bottlenecks,
    restore_structure,
    structure_changes,
)

GRAM = get_preset("kagn", bottleneck=True, norm="batch")


def network():
    return nn.Sequential(
        KANConv2d(3, 8, 3, **get_preset("kagn")),
        nn.Sequential(
            BottleneckKANConv2d(8, 8, 3, **GRAM), MoEBottleneckKANConv2d(8, 8, 3, num_experts=3, **GRAM)
        ),
    ).eval()


def test_merges_all_and_loads_again():
    torch.manual_seed(0)
    model = network()
    x = torch.randn(2, 3, 9, 9)
    y = model(x)
    assert merge_bottlenecks(model) == 2
    assert merge_bottlenecks(model) == 0
    torch.testing.assert_close(model(x), y, rtol=1e-4, atol=1e-5)
    again = network()
    restore_structure(again, structure_changes(model))
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(x), model(x))
    with pytest.raises(RuntimeError, match="expand"):
        network().load_state_dict(model.state_dict())


def test_only_bottlenecks_can_be_merged():
    with pytest.raises(ValueError, match="layer='0' is a KANConv2d, not a bottleneck layer"):
        change_structure(network(), "merge_bottleneck", "0")
