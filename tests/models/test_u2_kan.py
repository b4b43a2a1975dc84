"""U2-KAN: published counts, nested stages, deep supervision."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import kanvision as kv
from kanvision.layers import KANConv2d
from kanvision.models.u2_kan import U2KAN, DilatedU, NestedU

BASIS = {layer: options["basis"] for layer, options in kv.layers.PRESETS.items()}
FAST = {"basis_kwargs": {"num_centers": 5}}


@pytest.mark.parametrize(
    ("preset", "kwargs", "full", "small"),
    [
        ("kan", {}, 24.74, 634_861),
        ("fastkan", FAST, 16.50, 424_427),
        ("kaln", {}, 13.75, 353_661),
        ("kacn", {}, 11.00, 283_389),
        ("kagn", {}, 13_747_997, 354_109),
        ("kagn", {"form": "bottleneck"}, 3_647_002, 254_538),
        (None, {"plain": True, "norm": "batch"}, 2_761_645, 73_285),
    ],
)
def test_published_counts(preset, kwargs, full, small):
    """Numbers below 1000 are in millions, rounded as they were published."""
    kwargs = {"preset": preset, "basis": BASIS.get(preset, "gram"), "norm": "instance", **kwargs}
    # a quirk of the published small bottleneck form alone
    first = {"first_kernel_size": 1} if "form" in kwargs else {}
    with torch.device("meta"):
        models = [
            kv.create_model("u2_kan_full", **kwargs),
            kv.create_model("u2_kan_small", **kwargs, **first),
        ]
    counts = [sum(p.numel() for p in model.parameters()) for model in models]
    assert counts[1] == small
    assert counts[0] == full if full > 1000 else round(counts[0] / 1e6, 2) == full


def test_training_gives_all_logits_and_evaluation_the_fused_ones():
    torch.manual_seed(0)
    model = U2KAN("small", width_scale=0.25, num_classes=2)
    x = torch.randn(2, 3, 64, 32)
    outputs = model(x)
    assert isinstance(outputs, tuple)
    assert [tuple(logits.shape) for logits in outputs] == [(2, 2, 64, 32)] * 7
    torch.testing.assert_close(outputs[0], model.head(torch.cat(outputs[1:], 1)))
    fused = model.eval()(x)
    assert fused.shape == (2, 2, 64, 32)


def test_logits_come_from_every_resolution():
    torch.manual_seed(0)
    model = U2KAN("small", width_scale=0.25)
    sizes = []
    for side in model.sides:
        side.register_forward_hook(lambda module, args, output: sizes.append(tuple(output.shape[2:])))
    model(torch.randn(1, 3, 64, 64))
    assert sizes == [(64 // 2**level,) * 2 for level in range(6)]


def stage(cls: type[NestedU], depth: int) -> NestedU:
    def make(in_channels: int, out_channels: int, dilation: int = 1) -> nn.Module:
        return nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation)

    torch.manual_seed(0)
    return cls(make, make, depth, 3, 4, 6).double()


def test_a_nested_stage_is_the_written_formula():
    u = stage(NestedU, 4)
    x = torch.randn(1, 3, 8, 12, dtype=torch.float64)
    first = u.first(x)
    e1 = u.encoder[0](first)
    e2 = u.encoder[1](F.max_pool2d(e1, 2))
    e3 = u.encoder[2](F.max_pool2d(e2, 2))
    e4 = u.encoder[3](e3)
    d3 = u.decoder[0](torch.cat([e4, e3], 1))
    d2 = u.decoder[1](torch.cat([F.interpolate(d3, (4, 6), mode="bilinear", align_corners=True), e2], 1))
    d1 = u.decoder[2](torch.cat([F.interpolate(d2, (8, 12), mode="bilinear", align_corners=True), e1], 1))
    torch.testing.assert_close(u(x), first + d1)
    assert [conv.dilation[0] for conv in (*u.encoder, *u.decoder)] == [1, 1, 1, 2, 1, 1, 1]
    assert [conv.out_channels for conv in (*u.encoder, *u.decoder)] == [4, 4, 4, 4, 4, 4, 6]


def test_a_dilated_stage_keeps_its_resolution():
    u = stage(DilatedU, 4)
    assert [conv.dilation[0] for conv in (*u.encoder, *u.decoder)] == [1, 2, 4, 8, 4, 2, 1]
    assert u(torch.randn(1, 3, 5, 3, dtype=torch.float64)).shape == (1, 6, 5, 3)


def test_dilations_reach_kan_convolutions():
    model = U2KAN("small", width_scale=0.25)
    dilations = [m.dilation[0] for m in model.modules() if isinstance(m, KANConv2d)]
    assert {1, 2, 4, 8} == set(dilations)
    assert [m.groups for m in U2KAN("small", groups=2).encoder[0].modules() if isinstance(m, KANConv2d)][
        :2
    ] == [
        1,
        2,
    ]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"size": "large"}, "size='large' is not known; legal values: small, full"),
        ({"first_kernel_size": 2}, "first_kernel_size=2 must be odd"),
        ({"num_classes": 0}, "num_classes=0 must be at least 1"),
        ({"drop_path_rate": 0.1}, "U2KAN has no residual branches"),
        ({"widht": 1}, "U2KAN has no argument widht"),
    ],
)
def test_a_wrong_value_is_answered(kwargs, message):
    with pytest.raises(ValueError, match=message):
        U2KAN(**kwargs)
