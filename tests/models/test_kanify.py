"""kanify: hosts of many families compute what they did, their weights are kept, and refusals say why."""

import copy

import pytest
import timm
import torch
from timm.layers import ConvMlp, Mlp
from timm.models.mlp_mixer import Affine, MlpMixer, ResBlock
from torch import nn

import kanvision as kv
from kanvision.layers import GroupRational, GroupRationalMlp, KANConv2d, KArAttention, KArAtWindowAttention
from kanvision.models import kanify

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 5}
MIXER = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "num_blocks": 2, "num_classes": 5}
# (timm name, arguments, size of the image, number of feed-forward blocks)
HOSTS = {
    "vit": ("vit_tiny_patch16_224", VIT, 32, 2),
    "deit": ("deit_tiny_distilled_patch16_224", VIT, 32, 2),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"img_size": 64, "window_size": 4, "embed_dim": 24, "depths": (1, 1), "num_heads": (2, 2)},
        64,
        2,
    ),
    "convnext": ("convnext_atto", {"dims": (8, 16, 24, 32), "depths": (1, 1, 1, 1)}, 32, 4),
    "convnext_conv_mlp": (
        "convnext_tiny",
        {"conv_mlp": True, "dims": (8, 16, 24, 32), "depths": (1, 1, 1, 1)},
        32,
        4,
    ),
    "convnextv2": ("convnextv2_atto", {"dims": (8, 16, 24, 32), "depths": (1, 1, 1, 1)}, 32, 4),
    "mixer": ("mixer_s16_224", MIXER, 32, 4),
    "resmlp": ("resmlp_12_224", MIXER, 32, 2),
}


def host(name):
    timm_name, kwargs, size, count = HOSTS[name]
    torch.manual_seed(0)
    if kwargs is MIXER:  # the registered ones have all their blocks
        options = {"block_layer": ResBlock, "norm_layer": Affine, "mlp_ratio": 4} if name == "resmlp" else {}
        model = MlpMixer(**kwargs, **options).eval()
    else:
        model = timm.create_model(timm_name, **kwargs).eval()
    with torch.no_grad():  # weights of a size that lets every block matter
        for module in model.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
        for key, parameter in model.named_parameters():
            if key.endswith(("gamma", "ls1", "ls2")):
                parameter.fill_(0.3 if name == "resmlp" else 1.0)
    return model, torch.randn(2, 3, size, size), count


@pytest.mark.parametrize("name", HOSTS)
def test_hosts_compute_what_they_did(name):
    model, x, count = host(name)
    plain = copy.deepcopy(model)
    assert kanify(model, mlp="group_rational") is model
    blocks = [module for module in model.modules() if isinstance(module, GroupRationalMlp)]
    assert len(blocks) == count
    with torch.no_grad():
        before, after = plain(x), model(x)
        assert before.std() > 0.2
        assert (after - before).norm() < 0.01 * before.norm()
        assert (after - before).norm() > 0  # something did change
        for module in model.modules():  # and without its rationals it is another function
            if isinstance(module, GroupRational) and module.init != "identity":
                module.numerator.copy_(torch.tensor([[0.0, 1, 0, 0, 0, 0]]))
                module.denominator.zero_()
        assert (model(x) - before).norm() > 0.1 * before.norm()
    added = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in plain.parameters())
    rationals = [module for module in model.modules() if isinstance(module, GroupRational)]
    assert added == sum(6 + 4 * module.num_groups for module in rationals)
    assert not any(module.training for module in model.modules())


def test_a_vit_becomes_a_kat():
    vit = timm.create_model("vit_tiny_patch16_224", **VIT)
    weights = dict(vit.named_parameters())
    kat = kv.create_model("kat_tiny_patch16_224", **VIT)
    kv.kanify(vit, mlp="group_rational")
    assert {k: v.shape for k, v in vit.state_dict().items()} == {
        k: v.shape for k, v in kat.state_dict().items()
    }
    assert all(dict(vit.named_parameters())[key] is value for key, value in weights.items())


def test_everything_is_trained():
    model, x, _ = host("convnext_conv_mlp")
    kanify(model.train(), mlp="group_rational", conv="gram")
    model(x).square().mean().backward()
    # a basis at zero passes nothing on to its own parameters, in the first step
    silent = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert [key for key in silent if ".basis." not in key] == []


@pytest.mark.parametrize("name", ["convnext", "resnet"])
@pytest.mark.parametrize("basis", ["gram", "bspline", "rbf"])
def test_convolutions_compute_exactly_what_they_did(name, basis):
    if name == "resnet":
        torch.manual_seed(0)
        model, x = (
            timm.create_model("resnet18", channels=(8, 8, 16, 16), num_classes=5),
            torch.randn(2, 3, 64, 64),
        )
        model(x)  # running statistics that are not those of the start
        model.eval()
    else:
        model, x, _ = host(name)
    plain = copy.deepcopy(model)
    kanify(model, conv=basis)
    found = [module for module in model.modules() if isinstance(module, KANConv2d)]
    large = [m for m in plain.modules() if type(m) is nn.Conv2d and max(m.kernel_size) > 1]
    assert len(found) == len(large)
    assert [m.groups for m in found] == [m.groups for m in large]
    assert not [m for m in model.modules() if type(m) is nn.Conv2d and max(m.kernel_size) > 1]
    with torch.no_grad():
        torch.testing.assert_close(model(x), plain(x), rtol=1e-4, atol=1e-5)
        for module in found:
            module.basis_weight.normal_()
        assert not torch.allclose(model(x), plain(x), atol=1e-2)


def test_options():
    model, _, _ = host("vit")
    kanify(
        model, mlp="group_rational", act_init="swish", num_groups=4, share_numerator=False, match=r"blocks\.1"
    )
    assert isinstance(model.blocks[0].mlp, Mlp)
    mlp = model.blocks[1].mlp
    assert (mlp.act1.init, mlp.act2.init) == ("identity", "swish")
    assert mlp.act1.numerator.shape == mlp.act2.numerator.shape == (4, 6)


def test_groups_that_do_not_divide_a_width():
    block = nn.Sequential(Mlp(49, 36))
    kanify(block, mlp="group_rational")
    assert (block[0].act1.num_groups, block[0].act2.num_groups) == (1, 4)


def test_dropout_stays_where_it_was():
    torch.manual_seed(0)
    block = nn.Sequential(Mlp(8, 16, drop=(0.0, 1.0)))
    kanify(block, mlp="group_rational")
    assert not block(torch.randn(2, 8)).any()  # behind fc2 everything is dropped
    block = nn.Sequential(Mlp(8, 16, drop=(1.0, 0.0)))
    kanify(block, mlp="group_rational")
    assert torch.equal(block(torch.randn(2, 8)), block[0].fc2.bias.expand(2, 8))


def test_a_block_that_stands_in_two_places_stays_one():
    mlp = Mlp(8, 16)
    block = nn.Sequential(mlp, nn.Identity(), mlp)
    kanify(block, mlp="group_rational")
    assert block[0] is block[2]
    assert isinstance(block[0], GroupRationalMlp)


def test_learned_activations_are_fitted_as_they_are():
    block = nn.Sequential(Mlp(8, 16, act_layer=lambda: nn.PReLU(init=0.5)))
    x = torch.randn(50, 8)
    before = block(x)
    kanify(block, mlp="group_rational")
    assert (block(x) - before).abs().max() < 0.05


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "nothing to convert"),
        ({"mlp": "kan"}, r"mlp='kan' is not known; legal values: None, group_rational"),
        (
            {"mlp": "group_rational", "attention": "kan"},
            "attention='kan' is not known; legal values: None, karat$",
        ),
        ({"conv": "gramm"}, r"conv='gramm' is not known; legal values: .*gram"),
        ({"mlp": "group_rational", "act_init": "silly"}, r"act_init='silly' is not known; legal .*swish"),
        ({"mlp": "group_rational", "num_groups": 0}, "num_groups=0"),
        (
            {"mlp": "group_rational", "match": "absent"},
            r"nothing to convert with a name that contains 'absent'",
        ),
    ],
)
def test_refusals(kwargs, message):
    model, _, _ = host("vit")
    with pytest.raises(ValueError, match=message):
        kanify(model, **kwargs)
    assert isinstance(model.blocks[0].mlp, Mlp)


def test_hosts_of_another_kind_are_refused():
    gated = timm.create_model("eva02_tiny_patch14_224", depth=1)
    with pytest.raises(ValueError, match="Eva has nothing to convert; similar modules: GluMlp"):
        kanify(gated, mlp="group_rational")
    normed = nn.Sequential(ConvMlp(8, 16, norm_layer=nn.BatchNorm2d))
    with pytest.raises(ValueError, match="similar modules: ConvMlp"):
        kanify(normed, mlp="group_rational")
    with pytest.raises(ValueError, match=r"Softmax\(dim=-1\) is not elementwise"):
        kanify(nn.Sequential(Mlp(8, 16, act_layer=lambda: nn.Softmax(dim=-1))), mlp="group_rational")


@pytest.mark.parametrize(
    ("name", "kwargs", "kind", "number"),
    [
        ("vit_tiny_patch16_224", {"depth": 2}, KArAttention, 2),
        ("convit_tiny", {"depth": 3, "local_up_to_layer": 1}, KArAttention, 2),
        ("swin_tiny_patch4_window7_224", {"depths": (2, 1), "num_heads": (3, 6)}, KArAtWindowAttention, 3),
    ],
)
def test_attention_keeps_its_linear_maps(name, kwargs, kind, number):
    torch.manual_seed(0)
    model = timm.create_model(name, img_size=32, num_classes=3, **kwargs)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    kanify(model, attention="karat", attention_kwargs={"rank": 2})
    after = model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert sum(isinstance(module, kind) for module in model.modules()) == number
    model(torch.randn(2, 3, 32, 32)).square().mean().backward()
    assert not [key for key, p in model.named_parameters() if p.grad is None and "operator" in key]


def test_attention_of_a_changing_number_of_tokens_is_refused():
    model = timm.create_model("vit_tiny_patch16_224", depth=1, dynamic_img_size=True)
    with pytest.raises(ValueError, match="fixed number of tokens"):
        kanify(model, attention="karat")
