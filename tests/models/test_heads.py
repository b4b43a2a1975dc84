"""Classifiers: what each kind is made of, nested logits, replacing them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import kanvision as kv
from kanvision.layers import KANLinear
from kanvision.models.conv_factory import ConvFactory
from kanvision.models.heads import KANHead, NestedLinear
from kanvision.spec.models import HEADS

KINDS = {
    "linear": [nn.Linear],
    "mlp": [nn.Linear, nn.Linear],
    "vgg": [nn.Linear, nn.Linear, nn.Linear],
    "kan": [KANLinear],
    "hidden_kan": [KANLinear, nn.Linear],
    "matryoshka": [nn.Linear, NestedLinear],
    "kantryoshka": [KANLinear, NestedLinear],
}


@pytest.mark.parametrize("kind", HEADS)
def test_layers_of_each_kind(kind):
    head = KANHead(4, 3, ConvFactory(), kind=kind, pool_size=2, drop_rate=0.5)
    layers = [module for module in head.modules() if isinstance(module, nn.Linear | KANLinear)]
    layers.sort(key=lambda module: module is head.fc)
    assert [type(module) for module in layers] == KINDS[kind]
    assert layers[0].in_features == 4 * 2 * 2
    assert sum(isinstance(module, nn.Dropout) and module.p == 0.5 for module in head.modules()) == (
        len(layers) - (kind in ("mlp", "vgg", "matryoshka"))
    )
    logits = head.eval()(torch.randn(2, 4, 5, 6))
    assert logits.shape == (2, 3)


@pytest.mark.parametrize("kind", ["matryoshka", "kantryoshka"])
def test_nested_logits_use_the_first_features(kind):
    torch.manual_seed(0)
    model = kv.create_model("convkan_4", head=kind, head_hidden_size=32, width_scale=0.125, num_classes=3)
    x = torch.randn(4, 3, 8, 8)
    outputs = model(x)
    assert len(outputs) == 5
    assert model.head.fc.widths == [2, 4, 8, 16, 32]
    features = torch.randn(4, 32)
    fc = model.head.fc
    for width, logits in zip(fc.widths, fc(features), strict=True):
        cut = features * (torch.arange(32) < width)
        torch.testing.assert_close(logits, F.linear(cut, fc.weight, fc.bias))
    target = torch.tensor([0, 1, 2, 0])
    sum(F.cross_entropy(logits, target) for logits in outputs).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    model.eval()
    assert model(x).shape == (4, 3)
    torch.testing.assert_close(model(x), fc.nested(model.forward_head(model.forward_features(x), True))[-1])


def test_published_widths():
    with torch.device("meta"):
        assert KANHead(8, 3, ConvFactory(), kind="matryoshka").fc.widths == [64, 128, 256, 512, 1024]
        assert KANHead(8, 3, ConvFactory(), kind="kantryoshka").fc.widths == [32, 64, 128, 256, 512]
        assert KANHead(8, 3, ConvFactory(), kind="hidden_kan").num_features == 512


@pytest.mark.parametrize("kind", HEADS)
def test_reset(kind):
    size = {} if kind in ("linear", "kan") else {"head_hidden_size": 16}
    model = kv.create_model("convkan_4", head=kind, width_scale=0.125, num_classes=7, **size).double().eval()
    x = torch.randn(2, 3, 8, 8, dtype=torch.double)
    before = model.forward_head(model.forward_features(x), pre_logits=True)
    model.reset_classifier(4)
    assert model(x).shape == (2, 4)
    torch.testing.assert_close(model.forward_head(model.forward_features(x), pre_logits=True), before)
    model.reset_classifier(0)
    assert model(x).shape == (2, model.head_hidden_size)
    assert not model.head.training
    model.reset_classifier(0, "")
    torch.testing.assert_close(model(x), model.forward_features(x))
    model.reset_classifier(5, "catavgmax")
    assert model(x).shape == (2, 5)


def test_the_hidden_width_is_honored_and_means_something():
    model = kv.create_model("convkan_4", head="hidden_kan", head_hidden_size=24, width_scale=0.125)
    assert model.head.hidden[1].out_features == model.head.fc.in_features == 24
    with pytest.raises(ValueError, match="head_hidden_size=24: head='kan' has no hidden layer"):
        kv.create_model("convkan_4", head="kan", head_hidden_size=24, width_scale=0.125)
    with pytest.raises(ValueError, match="head_hidden_size=24: head='linear' has no hidden layer"):
        kv.create_model("convkan_4", head_hidden_size=24, width_scale=0.125)
    with pytest.raises(ValueError, match="head='kna' is not known"):
        kv.create_model("convkan_4", head="kna", width_scale=0.125)


def test_degree_of_the_head_is_its_own():
    model = kv.create_model("convkan_4", head="kan", head_basis_kwargs={"degree": 2}, width_scale=0.125)
    assert model.head.fc.basis.degree == 2
    assert model.stages[0][0].basis.degree == 3
