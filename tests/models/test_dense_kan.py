"""DenseKANet: what a layer sees, transitions, memory."""

import pytest
import torch
from torch import nn

import kanvision as kv
from kanvision.layers import BottleneckKANLinear, KANLinear
from kanvision.models.conv_factory import ConvFactory
from kanvision.models.dense_kan import DenseBlock, DenseLayer


def block(depth: int, checkpoint: bool = False, **kwargs) -> DenseBlock:
    factory = ConvFactory(**kwargs)
    return DenseBlock([DenseLayer(factory, 4 + 3 * i, 3, 12, checkpoint) for i in range(depth)])


def test_a_layer_sees_all_before_it():
    torch.manual_seed(0)
    dense = block(3).eval()
    x = torch.randn(2, 4, 5, 5)
    y = dense(x)
    assert y.shape == (2, 4 + 9, 5, 5)
    torch.testing.assert_close(y[:, :4], x)
    for index, layer in enumerate(dense):
        start = 4 + 3 * index
        torch.testing.assert_close(y[:, start : start + 3], layer.conv2(layer.conv1(y[:, :start])))


@pytest.mark.parametrize("form", ["plain", "bottleneck", "moe_bottleneck"])
def test_concatenated_inputs_are_not_kept(form):
    torch.manual_seed(0)
    kept, results = [], []
    for checkpoint in (False, True):
        torch.manual_seed(1)
        dense = block(6, checkpoint, form=form, moe_kwargs={"noisy": False} if "moe" in form else None)
        x = torch.randn(2, 4, 8, 8, requires_grad=True)
        sizes: dict[int, int] = {}
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: sizes.update({t.untyped_storage().data_ptr(): t.numel()}) or t, lambda t: t
        )
        with hooks:
            y = dense(x)
        y.square().sum().backward()
        kept.append(sum(sizes.values()))
        results.append([y, x.grad, *(p.grad for p in dense.parameters()), *dense.buffers()])
    copies = sum(
        2 * 64 * (4 + 3 * i) for i in range(1, 6)
    )  # of what came before, for each layer but the first
    assert kept[0] - kept[1] >= copies
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_dropout_is_that_of_the_3x3_convolutions():
    layer = DenseLayer(ConvFactory(layer_drop_rate=0.25), 4, 3, 12)
    assert (layer.conv1.drop_rate, layer.conv2.drop_rate) == (0, 0.25)


@pytest.mark.parametrize(("size", "reductions"), [("121", [2, 4, 8, 16, 32]), ("tiny", [2, 4, 8, 16])])
def test_transitions_halve_width_and_resolution(size, reductions):
    with torch.device("meta"):
        model = kv.create_model(f"dense_kan_{size}")
    assert [info["reduction"] for info in model.feature_info] == reductions
    transitions = [m for m in model.modules() if isinstance(m, nn.AvgPool2d)]
    assert len(transitions) == 3
    plain = [m for m in model.modules() if type(m) is nn.Conv2d]
    assert all(conv.out_channels == conv.in_channels // 2 and conv.bias is None for conv in plain)
    assert len(plain) == 3


def test_an_odd_map_is_averaged_to_its_edge():
    model = kv.create_model("dense_kan_121", width_scale=1 / 16, depths=(1, 1))
    pool = next(m for m in model.modules() if isinstance(m, nn.AvgPool2d))
    x = torch.arange(9.0).view(1, 1, 3, 3)
    torch.testing.assert_close(pool(x), torch.tensor([[[[2.0, 3.5], [6.5, 8.0]]]]))


@pytest.mark.parametrize(("form", "cls"), [("plain", KANLinear), ("bottleneck", BottleneckKANLinear)])
def test_the_tiny_network_ends_in_a_kan_layer_and_saves_memory(form, cls):
    with torch.device("meta"):
        model = kv.create_model("dense_kan_tiny", form=form)
    assert isinstance(model.get_classifier(), cls)
    layers = [m for m in model.modules() if isinstance(m, DenseLayer)]
    assert len(layers) == 15
    assert all(layer.checkpoint for layer in layers)
    model.set_grad_checkpointing(False)
    assert not any(layer.checkpoint or layer.conv1.checkpoint for layer in layers)
