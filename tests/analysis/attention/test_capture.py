"""Matrices of attention of every kind of network, against the formulas and the networks' own results."""

import math

import pytest
import timm
import torch
from timm.models.swin_transformer import window_partition

import kanvision.models  # registers ours
from kanvision.analysis.attention.capture import attentions, has_class_token, maps

assert kanvision.models
KARAT = "karat_micro_patch4_32"
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 4}


def network(name, **kwargs):
    torch.manual_seed(0)
    model = timm.create_model(name, **{**SMALL, **kwargs}).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def outputs_of(model, name):
    """What the attention of that name got and gave."""
    seen = {}
    module = model.get_submodule(name)
    handle = module.register_forward_hook(lambda m, args, out: seen.update(args=args, out=out))
    with torch.no_grad():
        model(IMAGES)
    handle.remove()
    return module, seen["args"][0], seen["out"]


def sweep_values(module, x):
    heads = module.num_heads
    return module.qkv(x).reshape(*x.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)[2]


@pytest.mark.parametrize(
    ("name", "kwargs", "soft"),
    [
        ("vit_tiny_patch16_224", {}, 3),
        (KARAT, {}, 0),
        (KARAT, {"share": "universal", "num_softmax_heads": 1}, 1),
    ],
)
@pytest.mark.parametrize("fused", [True, False])
def test_the_matrices_are_those_that_the_network_mixes_values_by(name, kwargs, soft, fused):
    model = network(name, **kwargs)
    for block in model.blocks:
        block.attn.fused_attn = fused
    found = attentions(model, IMAGES)
    assert [a.name for a in found] == ["blocks.0.attn", "blocks.1.attn"]
    for each in found:
        module, x, out = outputs_of(model, each.name)
        with torch.no_grad():
            mixed = module.proj((each.after @ sweep_values(module, x)).transpose(1, 2).flatten(2))
            q, k = module.qkv(x).reshape(2, 17, 3, 3, 8).permute(2, 0, 3, 1, 4)[:2]
        torch.testing.assert_close(mixed, out, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(each.before, q @ k.mT / math.sqrt(8), atol=1e-5, rtol=1e-4)
        assert each.num_softmax_heads == soft
        assert each.head_dim == 8
        assert each.rank == (None if soft == 3 else 12)
        torch.testing.assert_close(each.after[:, :soft].sum(-1), torch.ones(2, soft, 17))


@pytest.mark.parametrize("w_bias", ["none", "head"])
def test_the_rank_of_learned_matrices_is_at_most_r(w_bias):
    model = network(KARAT, rank=3, w_bias=w_bias)
    with torch.no_grad():
        for block in model.blocks:
            if block.attn.operator.bias is not None:
                block.attn.operator.bias.normal_()
    for each in attentions(model, IMAGES):
        assert each.rank == 3 + (w_bias == "head")
        assert (torch.linalg.matrix_rank(each.after) == each.rank).all()


def test_only_wanted_attentions_are_kept_and_nothing_stays_behind():
    model = network(KARAT)
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    (one,) = attentions(model, IMAGES, ["blocks.1.attn"])
    assert one.name == "blocks.1.attn"
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    with pytest.raises(AssertionError):
        attentions(model, torch.randn(1, 3, 16, 16))
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]


def test_convolutional_networks_have_none():
    assert attentions(timm.create_model("resnet10t", num_classes=3).eval(), IMAGES) == []


def test_gated_attention_is_the_mixture_that_convit_uses():
    kwargs = {"img_size": 32, "patch_size": 8, "embed_dim": 8, "num_heads": 4, "num_classes": 3}
    model = timm.create_model("convit_tiny", depth=3, local_up_to_layer=2, **kwargs).eval()
    with torch.no_grad():
        for block in model.blocks[:2]:
            block.attn.gating_param.normal_()
    found = attentions(model, IMAGES)
    assert [a.after.shape for a in found] == [(2, 4, 16, 16), (2, 4, 16, 16), (2, 4, 17, 17)]
    for each in found[:2]:
        module, x, _ = outputs_of(model, each.name)
        with torch.no_grad():
            torch.testing.assert_close(each.after, module.get_attention(x))
    assert [maps(model, a.name, a.after, 2).shape for a in found] == [(2, 4, 4, 4)] * 3


def test_a_map_is_the_class_tokens_row_or_the_mean_row():
    model = network("vit_tiny_patch16_224")
    (each, _) = attentions(model, IMAGES)
    assert has_class_token(model)
    torch.testing.assert_close(maps(model, each.name, each.after, 2).flatten(2), each.after[:, :, 0, 1:])
    model = network("vit_tiny_patch16_224", class_token=False, global_pool="avg")
    (each, _) = attentions(model, IMAGES)
    assert not has_class_token(model)
    torch.testing.assert_close(maps(model, each.name, each.after, 2).flatten(2), each.after.mean(2))


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "karat_swin_tiny_patch4_window7_224"])
def test_windows_are_put_back_in_their_locations(name):
    kwargs = {"img_size": 32, "patch_size": 4, "window_size": 4, "embed_dim": 12, "num_classes": 3}
    model = timm.create_model(name, depths=(2,), num_heads=(2,), **kwargs).eval()
    plain, shifted = attentions(model, IMAGES)
    assert plain.after.shape == (2 * 4, 2, 16, 16)
    assert plain.head_dim == 6
    # the mean row of each window, cut out of the map again
    for each, shift in ((plain, 0), (shifted, 2)):
        whole = maps(model, each.name, each.after, 2)  # (B, h, 8, 8)
        back = torch.roll(whole.permute(0, 2, 3, 1), (-shift, -shift), (1, 2))
        windows = window_partition(back.contiguous(), (4, 4)).flatten(1, 2).transpose(1, 2)
        torch.testing.assert_close(windows, each.after.mean(2))


def test_unknown_names_are_refused_by_name():
    model = network("vit_tiny_patch16_224")
    with pytest.raises(ValueError, match=r"blocks\.0\.attn attends within 3 groups of tokens"):
        maps(model, "blocks.0.attn", torch.rand(6, 1, 16, 16), 2)
    with pytest.raises(ValueError, match="attends to 23 tokens"):
        maps(model, "blocks.0.attn", torch.rand(2, 1, 23, 23), 2)
