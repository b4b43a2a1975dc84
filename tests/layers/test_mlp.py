"""Feed-forward blocks: KAT's order of operations, timm's constructor, the paper's start values."""

import pytest
import torch
from timm.layers import LayerNorm
from timm.models import VisionTransformer
from torch import nn

from kanvision.layers import GroupRational, GroupRationalMlp, KANLinear, KANMlp

TINY = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}


def test_order_is_act_drop_linear_twice():
    mlp = GroupRationalMlp(8, 16, 4, num_groups=2)
    order = [name for name, module in mlp.named_children() if not isinstance(module, nn.Identity)]
    assert order == ["act1", "drop1", "fc1", "act2", "drop2", "fc2"]
    ran = []
    for name, module in mlp.named_children():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    x = torch.randn(2, 5, 8)
    y = mlp(x)
    assert [name for name in ran if name not in ("norm", "drop3")] == order
    assert (mlp.act1.init, mlp.act2.init) == ("identity", "swish")
    want = mlp.fc2(nn.functional.silu(mlp.fc1(x)))
    assert torch.allclose(y, want, atol=1e-5)


def test_dropout_is_in_front_of_the_maps():
    torch.manual_seed(0)
    mlp = GroupRationalMlp(8, 16, drop=(1.0, 0.0), num_groups=2)
    assert torch.allclose(mlp(torch.randn(3, 8)), mlp(torch.randn(3, 8)))  # fc1 sees zeros
    mlp = GroupRationalMlp(8, 16, drop=(0.0, 1.0), num_groups=2)
    assert torch.allclose(mlp(torch.randn(3, 8)), mlp.fc2.bias.expand(3, 8))


def test_options():
    mlp = GroupRationalMlp(
        8, 16, norm_layer=LayerNorm, bias=(False, True), num_groups=4, act_init="gelu", share_numerator=False
    )
    assert mlp.norm.normalized_shape == (16,)
    assert mlp.fc1.bias is None
    assert mlp.fc2.out_features == 8
    assert mlp.act2.numerator.shape == (4, 6)
    assert mlp.act2.init == "gelu"
    with pytest.raises(ValueError, match="num_groups=3"):
        GroupRationalMlp(8, 16, num_groups=3)


def test_convolutional_form_is_the_same_function():
    torch.manual_seed(0)
    flat, conv = GroupRationalMlp(8, 16, num_groups=2), GroupRationalMlp(8, 16, num_groups=2, use_conv=True)
    conv.load_state_dict({k: v.view(conv.state_dict()[k].shape) for k, v in flat.state_dict().items()})
    x = torch.randn(2, 8, 3, 5)
    assert torch.allclose(conv(x), flat(x.movedim(1, -1)).movedim(-1, 1), atol=1e-6)


@pytest.mark.parametrize("act_init", ["identity", "swish", "gelu", "kat_gelu"])
def test_variance_preserving_start(act_init):
    torch.manual_seed(0)
    mlp = GroupRationalMlp(192, 768, act_init=act_init)
    mlp.init_variance_preserving()
    x = torch.randn(256, 192)
    hidden = mlp.fc1(mlp.act1(x))
    assert 0.9 < hidden.var() < 1.1
    assert 0.9 < mlp(x).var() < 1.1
    assert not mlp.fc1.bias.any()
    if act_init == "swish":
        assert mlp.fc1.weight.std().item() == pytest.approx(0.0722, rel=0.01)
        assert mlp.fc2.weight.std().item() == pytest.approx(0.0605, rel=0.01)


def test_rational_block_in_a_timm_transformer():
    model = VisionTransformer(**TINY, mlp_layer=GroupRationalMlp, proj_drop_rate=0.1)
    assert sum(isinstance(m, GroupRational) for m in model.modules()) == 4
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("basis", ["bspline", "chebyshev"])
def test_kan_block_in_a_timm_transformer(basis):
    def mlp_layer(*args, **kwargs):
        return KANMlp(*args, basis=basis, **kwargs)

    model = VisionTransformer(**TINY, mlp_ratio=1.0, mlp_layer=mlp_layer, proj_drop_rate=0.1)
    assert sum(isinstance(m, KANLinear) for m in model.modules()) == 4
    assert type(model.blocks[0].mlp.fc1.basis).__name__.lower().startswith(basis[:4])
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_kan_block_is_its_two_layers():
    torch.manual_seed(0)
    mlp = KANMlp(
        6, 4, 5, basis="bspline", basis_kwargs={"grid_size": 3}, norm_layer=LayerNorm, base_act="gelu"
    )
    x = torch.randn(2, 7, 6)
    assert mlp.fc1.basis.num_basis == 6
    assert torch.equal(mlp(x), mlp.fc2(mlp.norm(mlp.fc1(x))))
    assert mlp(x).shape == (2, 7, 5)
    assert KANMlp(6).fc2.out_features == 6
    assert KANMlp(6, bias=False).fc1.bias is None
    with pytest.raises(ValueError, match="basis"):
        KANMlp(6, basis="nothing")


@pytest.mark.parametrize("use_conv", [False, True])
@pytest.mark.parametrize("norm_layer", [None, nn.BatchNorm2d])
def test_recomputed_activations_are_not_kept_and_change_nothing(use_conv, norm_layer):
    if norm_layer is not None and not use_conv:
        norm_layer = nn.LayerNorm
    torch.manual_seed(0)
    options = {"norm_layer": norm_layer, "use_conv": use_conv, "act1_init": "tanh"}
    plain, lean = (GroupRationalMlp(16, 32, **options, checkpoint=wanted) for wanted in (False, True))
    lean.load_state_dict(plain.state_dict())
    x = torch.randn(2, 16, 3, 5) if use_conv else torch.randn(2, 15, 16)
    results, kept = [], []
    for block in (plain, lean):
        sizes: list[int] = []
        leaf = x.clone().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t
        ):
            y = block(leaf)
        kept.append(sum(sizes))
        results.append((y, *torch.autograd.grad(y.square().sum(), [leaf, *block.parameters()])))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
    tokens = 30
    if norm_layer is None:
        assert kept[0] >= tokens * (2 * 16 + 2 * 32)
        assert kept[1] <= kept[0] - tokens * (16 + 32)
    assert torch.equal(lean.eval()(x), plain.eval()(x))
