"""KAT: published sizes, parameter names and start values; images of any size; the registry."""

import pytest
import timm
import torch
from torch import nn

from kanvision.layers import GroupRational, GroupRationalMlp
from kanvision.models import choose_patch_size, create_model, list_models
from kanvision.models.kat import KAT
from kanvision.spec.models import VIT_SIZES

PUBLISHED_SIZES = [size for size in VIT_SIZES if size != "micro"]
SMALL = {"img_size": 32, "depth": 2, "embed_dim": 48, "num_heads": 3}


def build(**kwargs):
    return create_model("kat_tiny_patch16_224", **{**SMALL, **kwargs})


def on_meta(name, **kwargs):
    with torch.device("meta"):
        return create_model(name, **kwargs)


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return create_model("kat_tiny_patch16_224")


@pytest.mark.parametrize(
    ("size", "count"),
    [("tiny", 5_718_328), ("small", 22_051_576), ("base", 86_568_568), ("large", 304_328_456)],
)
def test_parameter_counts_are_the_published_ones(size, count):
    kat, vit = on_meta(f"kat_{size}_patch16_224"), on_meta(f"vit_{size}_patch16_224")
    assert sum(p.numel() for p in kat.parameters()) == count
    rationals = [m for m in kat.modules() if isinstance(m, GroupRational)]
    assert len(rationals) == 2 * VIT_SIZES[size]["depth"]
    assert count - sum(p.numel() for p in vit.parameters()) == len(rationals) * 38  # of 6 + 8 * 4 numbers
    assert sum(p.numel() for m in rationals for p in m.parameters()) == len(rationals) * 38


@pytest.mark.parametrize("size", PUBLISHED_SIZES)
def test_keys_are_the_published_ones_but_for_the_names_of_the_rationals(size):
    published = {key: value.shape for key, value in on_meta(f"vit_{size}_patch16_224").state_dict().items()}
    for block in range(VIT_SIZES[size]["depth"]):
        for act in ("act1", "act2"):
            published[f"blocks.{block}.mlp.{act}.weight_numerator"] = (1, 6)
            published[f"blocks.{block}.mlp.{act}.weight_denominator"] = (8, 4)
    ours = {key: value.shape for key, value in on_meta(f"kat_{size}_patch16_224").state_dict().items()}
    renamed = {
        key.replace(".numerator", ".weight_numerator").replace(".denominator", ".weight_denominator"): shape
        for key, shape in ours.items()
    }
    assert len(ours) == (392 if size == "large" else 200)
    assert renamed == published


def test_released_start_values(tiny):
    state = tiny.state_dict()
    for key, value in state.items():
        if key.endswith(("fc1.weight", "fc2.weight", "head.weight", "pos_embed")):
            assert value.std().item() == pytest.approx(0.02, rel=0.03), key
            assert value.abs().max() > 0.06, key  # cut at +-2, not at two standard deviations
        elif (
            key.endswith(("qkv.bias", "proj.bias", "fc1.bias", "fc2.bias", "head.bias"))
            and "patch" not in key
        ):
            assert not value.any(), key
    assert state["cls_token"].std() < 2e-6
    assert state["patch_embed.proj.weight"].abs().max() <= 768**-0.5
    assert tiny.norm.eps == 1e-6
    assert [(b.mlp.act1.init, b.mlp.act2.init) for b in tiny.blocks] == [("identity", "swish")] * 12


def test_mimetic_attention_of_the_released_code(tiny):
    query_key, value_projection = [], []
    for block in tiny.blocks:
        query, key, value = block.attn.qkv.weight.detach().view(3, 3, 64, 192)
        query_key.append((query.mT @ key).diagonal(dim1=-2, dim2=-1).mean())
        value_projection.append((block.attn.proj.weight.detach() @ value.reshape(192, 192)).diagonal().mean())
    assert torch.stack(query_key).mean().item() == pytest.approx(0.398, abs=0.006)
    assert torch.stack(value_projection).mean().item() == pytest.approx(-0.399, abs=0.006)


def test_variance_preserving_start_values():
    torch.manual_seed(0)
    model = create_model(
        "kat_tiny_patch16_224", depth=2, init="variance_preserving", attn_init="default", num_classes=10
    )
    for block in model.blocks:
        assert block.mlp.fc1.weight.std().item() == pytest.approx(0.0722, rel=0.02)
        assert block.mlp.fc2.weight.std().item() == pytest.approx(0.0605, rel=0.02)
        bound = (6 / 384) ** 0.5
        assert 0.99 * bound < block.attn.qkv.weight.abs().max() <= bound
        assert block.attn.proj.weight.std().item() == pytest.approx(0.02, rel=0.03)


def test_torch_seed_alone_decides():
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(build().state_dict())
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())
    assert not torch.equal(states[0]["blocks.0.attn.qkv.weight"], states[2]["blocks.0.attn.qkv.weight"])


@pytest.mark.parametrize("init", ["released", "variance_preserving"])
def test_from_the_meta_device_to_start_values(init):
    with torch.device("meta"):
        model = build(init=init)
    assert all(p.is_meta for p in model.parameters())
    model.to_empty(device="cpu")
    torch.manual_seed(0)
    model.init_weights()
    assert all(p.isfinite().all() for p in model.parameters())
    assert model.blocks[0].mlp.act1.numerator.tolist() == [[0, 1, 0, 0, 0, 0]]
    std = 0.02 if init == "released" else 48**-0.5
    assert model.blocks[0].mlp.fc1.weight.std().item() == pytest.approx(std, rel=0.05)
    assert torch.equal(model.norm.weight, torch.ones(48))


def test_weight_init_can_be_skipped():
    torch.manual_seed(0)
    assert build(weight_init="skip").blocks[0].mlp.fc1.weight.std() > 0.05


@pytest.mark.parametrize("in_chans", [1, 3, 12])
@pytest.mark.parametrize(("img_size", "tokens"), [(28, 49), (32, 64), ((32, 48), 96), (8, 64)])
def test_any_image(in_chans, img_size, tokens):
    torch.manual_seed(0)
    model = build(in_chans=in_chans, img_size=img_size, num_classes=7)
    assert model.patch_embed.num_patches == tokens
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    logits = model(torch.randn(2, in_chans, height, width))
    assert logits.shape == (2, 7)
    logits.square().mean().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    # behind a denominator of zeros, too: the sign at zero counts as positive
    assert all(b.mlp.act1.denominator.grad.abs().min() > 0 for b in model.blocks)


def test_timms_protocol():
    model = build(num_classes=7)
    x = torch.randn(2, 3, 32, 32)
    assert model.forward_features(x).shape == (2, 65, 48)
    assert torch.equal(model.eval()(x), model.forward_head(model.forward_features(x)))
    final, maps = model.forward_intermediates(x, indices=[0, 1])
    assert final.shape == (2, 65, 48)
    assert [m.shape for m in maps] == [(2, 48, 8, 8)] * 2
    model.reset_classifier(3)
    assert model(x).shape == (2, 3)
    assert model.get_classifier().out_features == 3
    model.reset_classifier(0)
    assert model(x).shape == (2, 48)
    assert model.no_weight_decay() >= {"pos_embed", "cls_token"}
    assert set(model.group_matcher()) == {"stem", "blocks"}
    assert model.default_cfg["classifier"] == "head"


def test_features_of_the_last_blocks():
    x = torch.randn(2, 3, 32, 32)
    features = build(depth=4, features_only=True)
    assert [m.shape for m in features(x)] == [(2, 48, 8, 8)] * 3
    assert features.feature_info.reduction() == [4, 4, 4]
    assert len(build(depth=4, features_only=True, out_indices=(1, 3))(x)) == 2
    assert len(build(depth=2, features_only=True)(x)) == 2


def test_images_of_another_size_than_it_was_built_for():
    torch.manual_seed(0)
    model = build(num_classes=7).eval()
    with torch.no_grad():
        for block in model.blocks:
            block.mlp.fc2.weight.mul_(10)
        small = torch.randn(1, 3, 32, 32)
        wanted = model(small)
        flexible = build(num_classes=7, dynamic_img_size=True).eval()
        flexible.load_state_dict(model.state_dict())
        assert torch.equal(flexible(small), wanted)
        assert flexible(torch.randn(1, 3, 48, 40)).shape == (1, 7)
        with pytest.raises(AssertionError):
            model(torch.randn(1, 3, 48, 40))
        model.set_input_size((48, 40))
        assert model.pos_embed.shape == (1, 12 * 10 + 1, 48)
        large = torch.randn(1, 3, 48, 40)
        torch.testing.assert_close(model(large), flexible(large))


def test_options_reach_every_block():
    model = build(
        act_init="gelu",
        act1_init="tanh",
        num_groups=4,
        share_numerator=False,
        drop_path_rate=0.2,
        proj_drop_rate=0.1,
    )
    for block in model.blocks:
        assert isinstance(block.mlp, GroupRationalMlp)
        assert (block.mlp.act1.init, block.mlp.act2.init) == ("tanh", "gelu")
        assert block.mlp.act1.numerator.shape == block.mlp.act2.numerator.shape == (4, 6)
        assert block.mlp.drop1.p == 0.1
    assert model.blocks[1].drop_path1.drop_prob == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"init": "paper"}, "init='paper' is not known; legal: 'released', 'variance_preserving'"),
        ({"attn_init": "svd"}, "attn_init='svd' is not known"),
        ({"weight_init": "jax"}, "weight_init='jax' is not known"),
        ({"act_init": "silly"}, "init='silly' is not a preset"),
        ({"num_groups": 5}, "groups=5"),
        ({"mlp_layer": nn.Identity}, "mlp_layer"),
    ],
)
def test_refusals(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


@pytest.mark.parametrize("size", PUBLISHED_SIZES)
def test_names_with_an_activation(size):
    for name, init in (("", "swish"), ("_swish", "swish"), ("_gelu", "gelu")):
        for img_size in (224, 384):
            model = on_meta(f"kat_{size}{name}_patch16_{img_size}", depth=1)
            assert model.blocks[0].mlp.act2.init == init
            assert model.patch_embed.patch_size == (16, 16)
            assert model.patch_embed.img_size == (img_size, img_size)
            assert model.default_cfg["input_size"] == (3, img_size, img_size)


def test_the_micro_twins_differ_by_the_rationals():
    kat, vit = (on_meta(f"{name}_micro_patch16_224", num_classes=10, img_size=32) for name in ("kat", "vit"))
    assert kat.patch_embed.patch_size == vit.patch_embed.patch_size == (4, 4)
    assert sum(p.numel() for p in kat.parameters()) - sum(p.numel() for p in vit.parameters()) == 6 * 2 * 38
    assert isinstance(vit.blocks[0].mlp.act, nn.GELU)


@pytest.mark.parametrize(
    ("img_size", "patch"),
    [(224, 16), (384, 16), (64, 8), (32, 4), (28, 4), (8, 1), (5, 1), (96, 12), ((32, 48), 4), ([64, 64], 8)],
)
def test_patch_size(img_size, patch):
    assert choose_patch_size(img_size) == patch


@pytest.mark.parametrize(("img_size", "message"), [(223, "223 x 223 patches of 1 pixels"), (0, "positive")])
def test_patch_size_refuses(img_size, message):
    with pytest.raises(ValueError, match=message):
        choose_patch_size(img_size)


def test_compiles_as_one_graph():
    torch.manual_seed(0)
    model = build(depth=1, num_classes=3).eval()
    x = torch.randn(2, 3, 32, 32)
    assert torch.allclose(torch.compile(model, backend="eager", fullgraph=True)(x), model(x), atol=1e-5)


def test_the_registry_is_timms_and_lists_our_own():
    names = list_models()
    assert names == sorted(names)
    assert len(list_models("kat_*")) == 4 * 3 * 2 + 1
    assert "vit_micro_patch16_224" in names
    assert "vit_tiny_patch16_224" not in names
    assert set(names) <= set(timm.list_models())
    assert isinstance(timm.create_model("kat_micro_patch16_224", depth=1), KAT)
    assert type(create_model("resnet18", num_classes=3)).__name__ == "ResNet"


@pytest.mark.parametrize(
    ("name", "near"), [("kat_tiny_patch16", "kat_tiny_patch16_224"), ("resnet19", "resnet18")]
)
def test_unknown_names(name, near):
    with pytest.raises(ValueError, match=rf"no model '{name}'; nearest: .*{near}"):
        create_model(name)
