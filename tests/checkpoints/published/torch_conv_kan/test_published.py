"""Networks of torch-conv-kan at their published sizes: parameter counts, and what is told from their tensors.

No tensor here has values: on the meta device the largest network costs nothing.
"""

import pytest
import torch

from kanvision.checkpoints.published.torch_conv_kan.networks import find_reader
from kanvision.models import create_model
from tests.checkpoints.published.reference_nets import (
    Head,
    MixedDense,
    Net,
    dense_net,
    res_net,
    simple_net,
    vgg_net,
)

# what is no trainable parameter there
BUFFERS = (
    "running_mean",
    "running_var",
    "num_batches_tracked",
    "rbf.grid",
    "arange",
    "experts.mean",
    "experts.std",
)


def with_head(net, prefix, form, features, classes, **options):
    kind = "bottleneck_kagn" if net.kind == "bottleneck_moe_kagn" else net.kind
    head = Head(form, kind, features, classes, degree=net.degree, **options)
    return net.state | {prefix + name: value for name, value in head.state.items()}


def simple(net, widths, classes=10):
    strides = (1,) * len(widths)
    simple_net(net, widths, strides)
    return with_head(net, "output.", "linear", widths[-1], classes)


def vgg(net, *more, scale=2, **options):
    last = options.pop("widest", 128)
    pattern = [16, "M", 32, "M", 64, 64, "M", 128, 128, *more]
    vgg_net(net, [item if isinstance(item, str) else scale * item for item in pattern], 1, **options)
    return with_head(net, "classifier.", "linear", scale * last, 1000)


def v2(net, **options):
    return vgg(net, "M", 128, 128, "M", 128, 128, **options)


def v4(net, pool="M", **options):
    return vgg(net, pool, 128, 128, pool, 256, 256, widest=256, **options)


def res(net, depths, **options):
    _, channels = res_net(net, depths, 8, **options)
    return with_head(net, "fc.", "bare", channels, 200)


def dense(net, depths, **options):
    _, channels = dense_net(net, depths, growth=32, width=64, **options)
    return with_head(net, "classifier.", "bare", channels, 200)


def tiny(net):
    _, channels = dense_net(net, (5, 5, 5), growth=32, width=64, stem=5, pool=False, last=True)
    return with_head(net, "classifier.", "kan", channels, 200, dropout=False)


FOUR, EIGHT = (32, 64, 128, 256), (16, 32, 64, 128, 256, 256, 512, 512)
MOE_RES = {"pointwise": "kaln", "stem_kind": "bottleneck_kagn", "stem_width": 16}
D3 = {"degree": 3}
PLAIN = {"degree": 3, "affine": False}
INSTANCE = {"degree": 3, "norm": "instance"}
DEEP = {"degree": 5, "norm": "instance"}
# published parameters, tensors, options of the reader, and name and some arguments of the network here
NETWORKS = {
    "simple kan": (3_494_958, lambda: simple(Net("kan"), FOUR), {}, "convkan_4", {"preset": "kan"}),
    "simple fastkan": (
        3_494_448,
        lambda: simple(Net("fastkan"), FOUR),
        {},
        "convkan_4",
        {"preset": "fastkan"},
    ),
    "simple kaln": (1_943_210, lambda: simple(Net("kaln", **D3), FOUR), {}, "convkan_4", {"preset": "kaln"}),
    "simple kacn": (
        394_058,
        lambda: simple(Net("kacn", groups=4, **D3), FOUR),
        {},
        "convkan_4",
        {"groups": 4},
    ),
    "simple kagn": (
        491_706,
        lambda: simple(Net("kagn", groups=4, **D3), FOUR),
        {},
        "convkan_4",
        {"groups": 4},
    ),
    "simple wavkan": (952_650, lambda: simple(Net("wavkan"), FOUR), {}, "convkan_4", {"preset": "wavkan"}),
    "eight kagn": (22_613_114, lambda: simple(Net("kagn", **D3), EIGHT), {}, "convkan_8", {"preset": "kagn"}),
    "vgg_kagn11_v2": (
        24_652_420,
        lambda: v2(Net("kagn", **DEEP)),
        {},
        "vgg_kan_11",
        {"version": "v2", "width_scale": 2.0, "norm": "instance", "form": "plain", "pool_size": 1},
    ),
    "vgg_kagn11_v4": (
        41_424_516,
        lambda: v4(Net("kagn", **DEEP)),
        {},
        "vgg_kan_11",
        {"version": "v4", "width_scale": 2.0, "basis_kwargs": {"degree": 5, "parity": True}},
    ),
    "vgg_kagn_bn11_v4": (
        7_252_115,
        lambda: v4(Net("bottleneck_kagn", degree=5)),
        {},
        "vgg_kan_11",
        {"version": "v4", "form": "bottleneck", "norm": "batch", "norm_affine": True},
    ),
    "vgg_kagn_bn11sa_v4": (
        12_547_232,
        lambda: v4(Net("bottleneck_kagn", degree=5), last_attention=True),
        {},
        "vgg_kan_11",
        {"version": "v4", "last_attention": True, "pool_attention": False, "attention_reduction": None},
    ),
    "11v4sa": (
        11_225_273,
        lambda: v4(Net("bottleneck_kagn", degree=5), "SAM"),
        {},
        "vgg_kan_11",
        {"pool_attention": True, "last_attention": False},
    ),
    "11v4sa inner 8": (
        7_431_289,
        lambda: v4(Net("bottleneck_kagn", degree=5), "SAM", inner=8),
        {},
        "vgg_kan_11",
        {"pool_attention": True, "attention_reduction": 8.0},
    ),
    "vgg_kagn_bn11_v4_opt": (
        None,
        lambda: v4(Net("bottleneck_kagn", degree=3), scale=3),
        {},
        "vgg_kan_11",
        {"version": "v4", "width_scale": 3.0, "basis_kwargs": {"degree": 3, "parity": True}},
    ),
    "reskanet_18x32p": (
        800_628,
        lambda: res(Net("kan", affine=False), (2, 2, 2, 2), stem_norm="instance"),
        {"stem": "32p"},
        "res_kan_18",
        {"stem": "32p", "stem_norm": "instance", "norm": "batch", "norm_affine": False, "width_scale": 1.0},
    ),
    "reskagnet_18x32p": (
        450_640,
        lambda: res(Net("kagn", **PLAIN), (2, 2, 2, 2)),
        {"stem": "32p"},
        "res_kan_18",
        {"block": "basic"},
    ),
    "reskagnet_34x32p": (
        889_104,
        lambda: res(Net("kagn", **PLAIN), (3, 4, 6, 3)),
        {"stem": "32p"},
        "res_kan_34",
        {"block": "basic"},
    ),
    "reskagnetbn_18x32p": (
        179_157,
        lambda: res(Net("bottleneck_kagn", **PLAIN), (2, 2, 2, 2)),
        {"stem": "32p"},
        "res_kan_18",
        {"form": "bottleneck"},
    ),
    "reskagnetbn_moe_18x32p": (
        590_521,
        lambda: res(Net("bottleneck_moe_kagn", experts=8, **PLAIN), (2, 2, 2, 2), **MOE_RES),
        {"stem": "32p"},
        "res_kan_18",
        {"form": "moe_bottleneck", "num_experts": 8, "pointwise_preset": "kaln", "stem_width": 16},
    ),
    "reskalnet_50x64p": (
        1_884_160,
        lambda: res(Net("kaln", **PLAIN), (3, 4, 6, 3), block="bottleneck", stem_norm="instance"),
        {"stem": "64p"},
        "res_kan_50",
        {"block": "bottleneck", "stem": "64p"},
    ),
    "reskagnet18": (
        455_440,
        lambda: res(Net("kagn", affine=False, **INSTANCE), (2, 2, 2, 2), stem=7),
        {},
        "res_kan_18",
        {"stem": "plain"},
    ),
    "reskagnet50": (
        1_895_812,
        lambda: res(Net("kagn", **INSTANCE), (3, 4, 6, 3), block="bottleneck", stem=7),
        {},
        "res_kan_50",
        {"stem": "plain", "norm_affine": True},
    ),
    "tiny_densekanet": (8_302_112, lambda: tiny(Net("kan", norm="instance")), {}, "dense_kan_tiny", {}),
    "tiny_densekagnet": (
        4_662_528,
        lambda: tiny(Net("kagn", **INSTANCE)),
        {},
        "dense_kan_tiny",
        {"last_transition": True, "head": "kan", "stem_pool": False},
    ),
    "tiny_densekagnet_bn": (1_563_633, lambda: tiny(Net("bottleneck_kagn", **D3)), {}, "dense_kan_tiny", {}),
    "densekagnet121": (
        31_826_268,
        lambda: dense(Net("kagn", **INSTANCE), (6, 12, 24, 16)),
        {},
        "dense_kan_121",
        {"growth": 32, "stem_width": 64, "stem_pool": True, "last_transition": False},
    ),
    "tiny_densekagnet_moebn": (
        2_539_413,
        lambda: tiny(MixedDense("bottleneck_moe_kagn", experts=8, **D3)),
        {},
        "dense_kan_tiny",
        {"form": "moe_bottleneck", "num_experts": 8, "top_k": 2},
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_published_sizes(name):
    count, make, options, model_name, told = NETWORKS[name]
    with torch.device("meta"):
        state = make()
    grids = [key for key in state if key.endswith("rbf.grid")]
    state |= dict.fromkeys(grids, torch.linspace(-2, 2, 8))  # which is read
    trainable = sum(value.numel() for key, value in state.items() if not key.endswith(BUFFERS))
    # this holds the oracle itself to what is known of the published networks
    assert count is None or trainable == count
    network = find_reader(state)(state, options)
    assert network.name == model_name
    head = network.head.arguments(network.channels, None)
    arguments = {"form": "plain", **network.factory_arguments(), **network.arguments(), **head}
    assert {key: arguments[key] for key in told} == told
    with torch.device("meta"):
        model = create_model(model_name, **arguments)
    mixtures = [part for part in network.parts.values() if getattr(part, "kind", None) == "moe_kagn"]
    second_gates = sum(2 * part.width * part.num_experts for part in mixtures)  # that nothing reads
    assert sum(p.numel() for p in model.parameters()) == trainable - second_gates
