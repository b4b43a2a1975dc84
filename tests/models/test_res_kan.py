"""ResKANet: blocks, stems, stochastic depth."""

import pytest
import torch
from torch import nn

import kanvision as kv
from kanvision.models.conv_factory import ConvFactory
from kanvision.models.res_kan import STEMS, BasicBlock, BottleneckBlock, ResKAN


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("block", [BasicBlock, BottleneckBlock])
def test_a_block_is_its_branch_and_its_shortcut(block, stride):
    torch.manual_seed(0)
    module = block(ConvFactory(), 4, 4, stride).eval()
    x = torch.randn(2, 4, 7, 6)
    kernels = [layer.kernel_size[0] for name, layer in module.named_children() if name.startswith("conv")]
    assert kernels == ([3, 1] if block is BasicBlock else [1, 3, 1])
    y = x
    for index in range(len(kernels)):
        y = getattr(module, f"conv{index + 1}")(y)
    straight = stride == 1 and block.expansion == 1
    assert isinstance(module.downsample, nn.Identity) == straight
    torch.testing.assert_close(module(x), y + module.downsample(x))
    assert module(x).shape == (2, 4 * block.expansion, -(-7 // stride), 6 // stride)


def test_groups_widen_the_middle_of_a_bottleneck_block():
    module = BottleneckBlock(ConvFactory(groups=2), 4, 4)
    assert (module.conv2.in_channels, module.conv2.groups) == (8, 2)
    assert (module.conv1.groups, module.conv3.groups) == (1, 1)
    assert module(torch.randn(2, 4, 5, 5)).shape == (2, 16, 5, 5)


@pytest.mark.parametrize(
    ("stem", "reductions"), [("plain", [2, 4, 8, 16, 32]), ("64p", [1, 2, 4, 8, 16]), ("32p", [1, 2, 4, 8])]
)
def test_stems(stem, reductions):
    model = kv.create_model("res_kan_18", stem=stem, width_scale=1 / 8)
    assert [info["reduction"] for info in model.feature_info] == reductions
    maps = model.forward_intermediates(torch.randn(1, 3, 64, 64), intermediates_only=True)
    assert [64 // m.shape[2] for m in maps] == reductions
    kernel, stride, pool = STEMS[stem]
    first = model.stages[0][0]
    assert (first.kernel_size[0], first.stride[0]) == (kernel, stride)
    assert any(isinstance(module, nn.MaxPool2d) for module in model.modules()) == pool


def test_norm_and_width_of_the_stem():
    with torch.device("meta"):
        model = kv.create_model("res_kan_18", stem_norm="instance", norm_affine=False)
        none = kv.create_model("res_kan_18", stem_norm=None)
        mixture = kv.create_model("res_kan_18", form="moe")
    assert isinstance(model.stages[0][0].norm, nn.InstanceNorm2d)
    assert isinstance(model.stages[1][1].conv1.norm, nn.BatchNorm2d)
    assert isinstance(none.stages[0][0].norm, nn.Identity)
    assert model.stages[0][0].out_channels == 8
    assert mixture.stages[0][0].out_channels == 16


def test_stochastic_depth_rises_and_leaves_branches_out():
    torch.manual_seed(0)
    model = kv.create_model("res_kan_34", drop_path_rate=0.3, width_scale=1 / 8)
    blocks = [module for module in model.modules() if isinstance(module, BasicBlock)]
    rates = [block.drop_path.drop_prob for block in blocks]
    torch.testing.assert_close(torch.tensor(rates), torch.linspace(0, 0.3, 16))
    block = BasicBlock(ConvFactory(norm="instance"), 2, 2, drop_path=0.5)
    x = torch.randn(64, 2, 5, 5)
    left_out = (block(x) == x).flatten(1).all(1)
    assert 10 < left_out.sum() < 54
    assert not (block.eval()(x) == x).flatten(1).all(1).any()


def test_a_hidden_layer_before_the_classifier_is_not_ignored():
    # hidden_layer_dim of the published network is
    model = kv.create_model("res_kan_18", head="hidden_kan", head_hidden_size=20, width_scale=1 / 8)
    assert model.get_classifier().in_features == 20
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 1000)


def test_what_is_not_legal_is_named():
    with pytest.raises(ValueError, match="block='basci' is not known; legal values: basic, bottleneck"):
        ResKAN(block="basci")
    with pytest.raises(ValueError, match="stem='16p' is not known; legal values: plain, 64p, 32p"):
        ResKAN(stem="16p")
    with pytest.raises(ValueError, match=r"depths=\(1,\) must have one number for each of 4 stages"):
        ResKAN(depths=(1,))
