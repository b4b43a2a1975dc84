"""Published networks of torch-conv-kan, loaded, against their forward passes on the published tensors."""

import warnings

import pytest
import torch
import torch.nn.functional as F

from kanvision.checkpoints import CheckpointError, load_official
from kanvision.models import create_model
from tests.checkpoints.published import reference_nets as nets

SOURCE = "torch-conv-kan"
KINDS = ("kan", "fastkan", "kaln", "kacn", "kagn", "wavkan", "bottleneck_kagn", "bottleneck_moe_kagn")
STRIDES = {
    4: (1, 2, 2, 1),
    8: (1, 2, 2, 1, 1, 2, 1, 1),
    16: (1, 2, 1, 2, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1),
}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def load(state, **options):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the published KALN")
        return load_official(state, source=SOURCE, **options)


def check(model, net, forward, side, batch=1):
    assert not model.training
    x = torch.randn(batch, 3, side, side, dtype=torch.float64)
    with torch.no_grad():
        want = forward(x)
        tolerance = 1e-5 if "moe" in net.kind else 1e-6
        torch.testing.assert_close(model(x), want, atol=tolerance, rtol=tolerance)
    assert want.std() > 0.01


def with_head(net, head, prefix):
    return net.state | {prefix + name: value for name, value in head.state.items()}


def reloads(model, name, **arguments):
    """The weights fit a network that was made from its name and arguments."""
    twin = create_model(name, **arguments).double()
    twin.load_state_dict(model.state_dict())
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(twin.eval()(x), model(x))


@pytest.mark.parametrize("kind", KINDS)
def test_simple_networks(kind):
    groups = 1 if kind == "bottleneck_moe_kagn" else 2
    net = nets.Net(kind, groups=groups)
    forward = nets.simple_net(net, (4, 6, 4, 8), STRIDES[4])
    head = nets.Head("linear", kind, 8)
    model = load(nets.wrapped(with_head(net, head, "output.")))
    check(model, net, lambda x: head(forward(x)), 12)


@pytest.mark.parametrize("depth", STRIDES)
def test_simple_networks_of_all_depths(depth):
    net = nets.Net("kagn", norm="instance", affine=False)
    widths = [2 + index % 3 for index in range(depth)]
    forward = nets.simple_net(net, widths, STRIDES[depth])
    head = nets.Head("linear", "kagn", widths[-1])
    model = load(nets.wrapped(with_head(net, head, "output.")))
    check(model, net, lambda x: head(forward(x)), 16)
    stages = [[layer.out_channels for layer in stage] for stage in model.stages]
    basis = {"basis": "gram", "basis_kwargs": {"degree": 4, "parity": True}, "norm": "instance"}
    reloads(model, f"convkan_{depth}", stages=stages, num_classes=3, norm_affine=False, **basis)


@pytest.mark.parametrize("kind", ["kan", "fastkan", "kaln", "kacn", "kagn", "wavkan"])
@pytest.mark.parametrize("dropout", [True, False])
def test_simple_networks_with_a_kan_classifier(kind, dropout):
    net = nets.Net(kind)
    forward = nets.simple_net(net, (4, 6, 4, 8), STRIDES[4])
    head = nets.Head("kan", kind, 8, dropout=dropout)
    check(load(nets.wrapped(with_head(net, head, "output."))), net, lambda x: head(forward(x)), 12)


VGG11 = [2, "M", 4, "M", 8, 8, "M", 16, 16, "M", 16, 16]
PATTERNS = {
    "11": VGG11,
    "11v2": [*VGG11, "M", 16, 16],
    "11v3": [*VGG11, "M", 16, 32],
    "11v4": [*VGG11, "M", 32, 32],
    "13": [2, 2, "M", 4, 4, "M", 8, 8, "M", 16, 16, "M", 16, 16],
    "16v4": [2, 2, "M", 4, 4, "M", *[8] * 3, "M", *[16] * 3, "M", *[16] * 3, "M", 32, 32],
    "19": [2, 2, "M", 4, 4, "M", *[8] * 4, "M", *[16] * 4, "M", *[16] * 4],
}


@pytest.mark.parametrize("name", PATTERNS)
def test_vgg(name):
    net = nets.Net("kagn", norm="instance")
    forward = nets.vgg_net(net, PATTERNS[name], 1)
    head = nets.Head("linear", "kagn", PATTERNS[name][-1])
    model = load(with_head(net, head, "classifier."))
    check(model, net, lambda x: head(forward(x)), 64)
    size, version = name[:2], name[2:] or "v1"
    basis = {"basis": "gram", "basis_kwargs": {"degree": 4, "parity": True}, "norm": "instance"}
    reloads(model, f"vgg_kan_{size}", version=version, width_scale=0.125, num_classes=3, **basis)


@pytest.mark.parametrize("kind", KINDS)
def test_vgg_of_all_kinds(kind):
    options = {"base_act": F.gelu} if kind == "fastkan" else {}
    net = nets.Net(kind, groups=1 if "moe" in kind else 2, **options)
    forward = nets.vgg_net(net, VGG11, 2)
    head = nets.Head("linear", kind, 64)
    check(load(with_head(net, head, "classifier.")), net, lambda x: head(forward(x)), 32)


@pytest.mark.parametrize("form", ["linear", "vgg", "kan", "hidden_kan", "matryoshka", "kantryoshka"])
@pytest.mark.parametrize("kind", ["kagn", "kan"])
def test_heads_of_vgg(kind, form):
    net = nets.Net(kind)
    forward = nets.vgg_net(net, VGG11, 2)
    head = nets.Head(form, kind, 64, act=F.gelu, hidden=32)
    state = with_head(net, head, "classifier.")
    check(load(state), net, lambda x: head(forward(x)), 32)
    if form in ("kan", "hidden_kan") and kind == "kagn":
        head.act = F.silu
        check(load(state, head_act="silu"), net, lambda x: head(forward(x)), 32)


@pytest.mark.parametrize(
    ("kind", "head_kind", "act"),
    [
        ("bottleneck_kagn", "kagn", F.gelu),
        ("bottleneck_moe_kagn", "kagn", F.gelu),
        ("kaln", "kaln", F.gelu),
        ("fastkan", "fastkan", F.gelu),
        ("kacn", "kacn", None),
        ("wavkan", "wavkan", None),
    ],
)
def test_published_activation_in_heads_of_vgg(kind, head_kind, act):
    """That of `mlp_<kind>`: it follows the layer in the head, not the convolutions before it."""
    net = nets.Net(kind, **({"base_act": F.gelu} if kind == "fastkan" else {}))
    forward = nets.vgg_net(net, VGG11, 1)
    head = nets.Head("kan", head_kind, 16, act=act or F.silu)
    state = with_head(net, head, "classifier.")
    check(load(state), net, lambda x: head(forward(x)), 32)
    if act is None:
        with pytest.raises(ValueError, match=r"head_act='gelu': this head has no activation"):
            load(state, head_act="gelu")


def test_published_activation_in_heads_of_simple_mixtures():
    net = nets.Net("bottleneck_moe_kagn")
    forward = nets.simple_net(net, (4, 6, 4, 8), STRIDES[4])
    head = nets.Head("kan", "kagn", 8)
    check(load(nets.wrapped(with_head(net, head, "output."))), net, lambda x: head(forward(x)), 12)


def test_published_activation_in_heads_of_dense_mixtures():
    net = nets.MixedDense("bottleneck_moe_kagn")
    forward, channels = nets.dense_net(net, (2, 1), stem=5, pool=False, last=True)
    head = nets.Head("kan", "bottleneck_kagn", channels, dropout=False)
    check(load(with_head(net, head, "classifier.")), net, lambda x: head(forward(x)), 32)


def test_vgg_without_a_head():
    net = nets.Net("kagn")
    forward = nets.vgg_net(net, VGG11, 1)
    check(load(net.state), net, forward, 32)


@pytest.mark.parametrize("inner", [None, 2])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("pools", [True, False])
@pytest.mark.parametrize("kind", ["kagn", "bottleneck_kagn"])
def test_vgg_with_attention(kind, pools, last, inner):
    pool = "SAM" if pools else "M"
    pattern = [2, "M", 4, "M", 8, 8, "M", 16, 16, pool, 16, 16, pool, 32, 32]
    net = nets.Net(kind)
    forward = nets.vgg_net(net, pattern, 1, last_attention=last, inner=inner)
    head = nets.Head("linear", kind, 32)
    model = load(with_head(net, head, "classifier."))
    check(model, net, lambda x: head(forward(x)), 64)
    if pools or last:
        attention = {"pool_attention": pools, "last_attention": last, "attention_reduction": inner}
        basis = {"basis_kwargs": {"degree": 4, "parity": True}, "attention_kwargs": {"parity": True}}
        basis["form"] = "bottleneck" if kind == "bottleneck_kagn" else "plain"
        arguments = {"version": "v4", "width_scale": 0.125, "num_classes": 3, **attention, **basis}
        reloads(model, "vgg_kan_11", **arguments)


@pytest.mark.parametrize("kind", KINDS)
def test_res_networks(kind):
    options = {"base_act": F.gelu} if kind == "fastkan" else {}
    special = {}
    if kind == "bottleneck_moe_kagn":
        # the mixture is in the 3x3 convolutions alone, and everything else but the stem is KALN
        special = {"pointwise": "kaln", "stem_kind": "bottleneck_kagn", "stem_width": 4}
        special["stem_norm"] = "instance"
    elif kind not in ("kagn", "bottleneck_kagn"):
        special = {"stem_norm": "instance"}
    net = nets.Net(kind, **options)
    net.norms = {} if kind == "kaln" else {"kaln": "instance"}
    forward, channels = nets.res_net(net, (2, 2, 2, 2), 2, **special)
    head = nets.Head("bare", kind, channels)
    check(load(with_head(net, head, "fc."), stem="32p"), net, lambda x: head(forward(x)), 24)


STEMS = {
    "plain": {"stem": 7, "stride": 2, "pool": True},
    "64p": {"stem": 3, "pool": True},
    "32p": {"stem": 3},
}


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("stem", STEMS)
def test_res_networks_of_all_stems(stem, block):
    net = nets.Net("kagn", groups=2 if block == "basic" else 1)
    depths = (3, 4, 6, 3)
    forward, channels = nets.res_net(net, depths, 2, block=block, **STEMS[stem])
    head = nets.Head("bare", "kagn", channels)
    model = load(with_head(net, head, "fc."), **({} if stem == "plain" else {"stem": stem}))
    check(model, net, lambda x: head(forward(x)), 32)
    basis = {"basis_kwargs": {"degree": 4, "parity": True}, "groups": net.groups}
    name = "res_kan_34" if block == "basic" else "res_kan_50"
    reloads(model, name, stem=stem, width_scale=0.25, num_classes=3, **basis)


def test_the_stem_has_to_be_said():
    net = nets.Net("kagn")
    _, channels = nets.res_net(net, (1, 1, 1, 1), 2)
    state = with_head(net, nets.Head("bare", "kagn", channels), "fc.")
    with pytest.raises(ValueError, match=r"stem=None: no tensor tells stride.*'64p', '32p'"):
        load(state)
    with pytest.raises(ValueError, match="stem='plain'"):
        load(state, stem="plain")


@pytest.mark.parametrize("kind", [*KINDS[:5], *KINDS[6:]])
def test_dense_networks(kind):
    options = {"base_act": F.gelu} if kind == "fastkan" else {}
    net = nets.Net(kind, **options)
    if kind == "bottleneck_moe_kagn":
        net = nets.MixedDense(kind)
    forward, channels = nets.dense_net(net, (2, 3, 2))
    head = nets.Head("bare", kind, channels)
    check(load(with_head(net, head, "classifier.")), net, lambda x: head(forward(x)), 64)


@pytest.mark.parametrize("kind", ["kan", "fastkan", "kaln", "kacn", "kagn", "bottleneck_kagn"])
def test_tiny_dense_networks(kind):
    gelu = {"base_act": F.gelu} if kind == "fastkan" else {}
    net = nets.Net(kind, groups=2, **gelu)
    forward, channels = nets.dense_net(net, (2, 1, 2), stem=5, pool=False, last=True)
    head = nets.Head("kan", kind, channels, dropout=False, act=F.gelu if kind == "fastkan" else F.silu)
    check(load(with_head(net, head, "classifier.")), net, lambda x: head(forward(x)), 32)


def test_dense_networks_reload():
    net = nets.Net("kagn", norm="instance")
    forward, channels = nets.dense_net(net, (5, 5, 5), growth=2, stem=5, pool=False, last=True)
    head = nets.Head("kan", "kagn", channels)
    model = load(with_head(net, head, "classifier."))
    check(model, net, lambda x: head(forward(x)), 32)
    basis = {"basis_kwargs": {"degree": 4, "parity": True}, "norm": "instance"}
    reloads(model, "dense_kan_tiny", growth=2, stem_width=6, num_classes=3, **basis)


def simple():
    net = nets.Net("kagn", groups=2)
    nets.simple_net(net, (4, 6, 4, 8), STRIDES[4])
    return with_head(net, nets.Head("linear", "kagn", 8), "output.")


def vgg():
    net = nets.Net("bottleneck_kagn")
    nets.vgg_net(net, [*VGG11, "M", 32, 32], 1, last_attention=True)
    return with_head(net, nets.Head("vgg", "kagn", 32), "classifier.")


def res():
    net = nets.Net("kacn")
    _, channels = nets.res_net(net, (1, 2, 1, 1), 2, stem=7)
    return with_head(net, nets.Head("bare", "kacn", channels), "fc.")


def dense():
    net = nets.Net("kan")
    _, channels = nets.dense_net(net, (1, 2), stem=5, last=True)
    return with_head(net, nets.Head("kan", "kan", channels), "classifier.")


@pytest.mark.parametrize("make", [simple, vgg, res, dense])
def test_damage_anywhere_is_named_at_once(make):
    state = make()
    names = list(state)
    norm, later = (
        next(n for n in part if n.endswith("norm.0.bias")) for part in (names, names[len(names) // 2 :])
    )
    del state[norm]
    state[later] = torch.randn(9)
    state |= {"alien": torch.zeros(1), norm.replace("bias", "stranger"): torch.zeros(1)}
    with pytest.raises(CheckpointError) as refusal:
        load(state)
    message = str(refusal.value)
    assert f"1 missing: {norm}" in message
    assert "2 unexpected: " in message
    assert "alien" in message
    assert f"1 of another shape: {later} (9,), not" in message


@pytest.mark.parametrize("make", [simple, vgg, res, dense])
def test_every_tensor_is_needed(make):
    state = make()
    for name in state:
        with pytest.raises(CheckpointError):
            load({key: value for key, value in state.items() if key != name})


@pytest.mark.parametrize("kind", ["kaln", "kagn"])
def test_one_layer_cannot_become_of_another_kind(kind):
    net = nets.Net(kind)
    nets.simple_net(net, (2, 2, 2, 2), STRIDES[4])
    state = with_head(net, nets.Head("linear", kind, 2), "output.")
    if kind == "kagn":
        del state["layers.2.beta_weights"]
    else:
        state["layers.2.beta_weights"] = torch.zeros(5)
    with pytest.raises(CheckpointError, match=r"1 (missing|unexpected): layers.2.beta_weights$"):
        load(state)


@pytest.mark.parametrize("gone", [("weight", "bias"), ("running_mean", "running_var", "num_batches_tracked")])
def test_one_norm_cannot_become_another(gone):
    state = simple()
    names = [f"layers.1.layer_norm.{group}.{name}" for group in range(2) for name in gone]
    with pytest.raises(CheckpointError, match=f"{len(names)} missing: layers.1.layer_norm.0.{gone[0]}"):
        load({key: value for key, value in state.items() if key not in names})


@pytest.mark.parametrize(
    ("kind", "there", "here"),
    [
        ("kan", {"base_act": F.silu}, {"base_act": "silu"}),
        ("wavkan", {"wavelet_kind": "dog"}, {"wavelet": "dog"}),
        ("kajn", {"alpha": 0.5, "beta": 2.0}, {"layer": "kajn", "alpha": 0.5, "beta": 2.0}),
    ],
)
def test_options_reach_the_layers(kind, there, here):
    net = nets.Net(kind, **there)
    forward = nets.simple_net(net, (2, 2, 2, 2), STRIDES[4])
    head = nets.Head("linear", kind, 2)
    check(load(with_head(net, head, "output."), **here), net, lambda x: head(forward(x)), 12)


def test_another_pooling():
    net = nets.Net("kagn")
    nets.vgg_net(net, VGG11, 1)
    head = nets.Head("linear", "kagn", 16)
    model = load(with_head(net, head, "classifier."), global_pool="max")
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(x), head(model.forward_features(x).amax((2, 3))))


def test_networks_that_were_not_published():
    with pytest.raises(CheckpointError, match=r"layers \[0, 1, 3\].*missing"):
        load({name: value for name, value in simple().items() if not name.startswith("layers.2.")})
    with pytest.raises(CheckpointError, match=r"3 layers; the published ones have 4, 8 and 16"):
        load({name: value for name, value in simple().items() if not name.startswith("layers.3.")})
    net = nets.Net("kagn")
    nets.vgg_net(net, [2, "M", 4, "M", 8, 8, "M", 16, 16, "M", 16, 18], 1)
    with pytest.raises(CheckpointError, match=r"widths .*18.* no published VGG"):
        load(net.state)
    net = nets.Net("kagn")
    nets.vgg_net(net, VGG11, 1)
    with pytest.raises(CheckpointError, match=r"say pool_size=\(height, width\)"):
        load(with_head(net, nets.Head("linear", "kagn", 32), "classifier."))
    model = load(with_head(net, nets.Head("linear", "kagn", 32), "classifier."), pool_size=(1, 2))
    assert model(torch.randn(1, 3, 32, 32, dtype=torch.float64)).shape == (1, 3)
    with pytest.raises(ValueError, match=r"degree=3: a published VGG has the options"):
        load(net.state, degree=3)


def test_batch_norms_cannot_become_instance_norms():
    with pytest.raises(ValueError, match=r"norm='instance'.*running statistics"):
        load(simple(), norm="instance")
