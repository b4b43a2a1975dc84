"""Synchronized batch norms in the places of others, and back."""

import torch
from timm.layers import BatchNormAct2d
from torch import nn

from kanvision.app.distributed import SyncBatchNormPlugin


def network() -> nn.Sequential:
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    return nn.Sequential(nn.Conv2d(3, 4, 3), BatchNormAct2d(4, act_layer=nn.ReLU), inner)


def test_the_network_computes_the_same_with_all_its_activations() -> None:
    model, images = network(), torch.randn(2, 3, 5, 5)
    names = list(model.state_dict())
    expected = model(images)
    statistics = model[1].running_mean.clone()
    sync = SyncBatchNormPlugin()
    converted = sync.apply(model)
    assert all(isinstance(layer, nn.SyncBatchNorm) for layer in (converted[1], converted[2][1]))
    assert list(converted.state_dict()) == names
    torch.testing.assert_close(converted(images), expected)  # alone it needs no GPU
    assert not torch.equal(converted[1].running_mean, statistics)


def test_the_own_layers_come_back_with_what_was_learned() -> None:
    model, images = network(), torch.randn(2, 3, 5, 5)
    own = [model[1], model[2][1]]
    sync = SyncBatchNormPlugin()
    converted = sync.apply(model).double()  # moves weights, and makes new buffers
    weights = list(converted.parameters())
    converted(images.double())
    learned = {name: tensor.clone() for name, tensor in converted.state_dict().items()}
    reverted = sync.revert(converted.eval())
    assert [reverted[1], reverted[2][1]] == own
    assert all(left is right for left, right in zip(reverted.parameters(), weights, strict=True))
    assert not any(module.training for module in reverted.modules())
    for name, tensor in reverted.state_dict().items():
        assert torch.equal(tensor, learned[name]), name
