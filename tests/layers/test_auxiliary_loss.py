"""Losses that layers hand to the one who trains."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from kanvision.layers import add_auxiliary, collect_auxiliary


class Adds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        add_auxiliary(self.weight.square())
        return self.weight * x


def test_losses_reach_the_innermost_collector_only():
    model = nn.Sequential(Adds(), Adds())
    x = torch.ones(3)
    model(x)  # nobody listens
    with collect_auxiliary() as outer:
        model[0](x)
        with collect_auxiliary() as inner:
            model(x)
    assert [loss.item() for loss in outer] == [4.0]
    assert [loss.item() for loss in inner] == [4.0, 4.0]
    model(x)
    assert len(outer) == 1


def test_gradients_reach_the_layer_and_nothing_is_kept_on_it():
    layer = Adds()
    with collect_auxiliary() as losses:
        layer(torch.ones(1))
    sum(losses).backward()
    assert layer.weight.grad.item() == 4.0
    copy.deepcopy(layer)
    assert set(vars(layer)) == set(vars(Adds()))


def test_recomputation_does_not_count_twice():
    layer = Adds()
    with collect_auxiliary() as losses:
        y = checkpoint(layer, torch.ones(1), use_reentrant=False)
    (y.sum() + sum(losses)).backward()
    assert len(losses) == 1
    assert layer.weight.grad.item() == 1.0 + 4.0


def test_a_collector_is_closed_by_an_error():
    with pytest.raises(RuntimeError), collect_auxiliary():
        raise RuntimeError
    with collect_auxiliary() as losses:
        Adds()(torch.ones(1))
    assert len(losses) == 1


def test_only_scalars():
    with pytest.raises(ValueError, match=r"scalar.*\(3,\)"):
        add_auxiliary(torch.ones(3))


def test_under_a_compiler():
    torch._dynamo.reset()
    layer = Adds()
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    for _ in range(2):
        with collect_auxiliary() as losses:
            y = compiled(torch.ones(2))
        assert len(losses) == 1
        layer.weight.grad = None
        (y.sum() + losses[0]).backward()
        assert layer.weight.grad.item() == 2.0 + 4.0
