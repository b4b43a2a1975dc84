"""The nets of Convolutional KANs: parameters as published, the pieces, any image size."""

import pytest
import torch
from torch import nn

import kanvision as kv
from kanvision.bases import BASES
from kanvision.layers import KANConv2d, KANLinear
from kanvision.models.kkan import KKAN

# name, grid size, parameters at 1 channel and 10 classes (arXiv 2406.13155 and its code)
PUBLISHED = [
    ("conv_mlp_small", None, 1_540),
    ("conv_mlp_medium", None, 3_020),
    ("conv_mlp_big", None, 26_620),
    ("conv_mlp_wide", None, 6_930),
    ("conv_kan_small", 10, 19_030),
    ("conv_kan_small", 20, 31_530),
    ("conv_kan_medium", 10, 38_010),
    ("conv_kan_medium", 20, 63_010),
    ("kanc_mlp_small", 10, 5_310),
    ("kanc_mlp_small", 20, 8_010),
    ("kanc_mlp_medium", 10, 9_935),
    ("kanc_mlp_medium", 20, 14_885),
    ("kanc_mlp_big", 10, 33_535),
    ("kanc_mlp_big", 20, 38_485),
    ("kkan_small", 10, 22_800),
    ("kkan_small", 20, 38_000),
    ("kkan_medium", 10, 44_925),
    ("kkan_medium", 20, 74_875),
]


@pytest.mark.parametrize(("name", "grid_size", "count"), PUBLISHED)
def test_parameter_count_is_the_published_one(name, grid_size, count):
    kwargs = {} if grid_size is None else {"basis_kwargs": {"grid_size": grid_size}}
    with torch.device("meta"):
        model = kv.create_model(name, in_chans=1, num_classes=10, **kwargs)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == count


def test_pieces():
    model = kv.create_model("kkan_small", in_chans=1, num_classes=10, basis_kwargs={"grid_size": 10})
    convs = [m for m in model.modules() if isinstance(m, KANConv2d)]
    assert [(c.in_channels, c.out_channels, c.padding) for c in convs] == [
        (1, 5, ((0, 0), (0, 0))),
        (5, 5, ((0, 0), (0, 0))),
    ]
    assert all(c.basis.domain == (-1.0, 1.0) and c.basis.num_basis == 13 for c in convs)
    head = model.get_classifier()
    assert isinstance(head, KANLinear)
    assert head.basis.domain == (0.0, 1.0)
    assert head.basis_weight.std() < 0.2 * convs[1].basis_weight.std()  # noise .01 against .1
    assert model(torch.randn(2, 1, 28, 28)).shape == (2, 10)
    assert model.forward_features(torch.randn(2, 1, 28, 28)).shape == (2, 5, 5, 5)


def test_the_map_of_a_28_pixel_image_is_flattened_as_it_is():
    model = kv.create_model("kanc_mlp_small", in_chans=1, num_classes=10)
    x = torch.randn(2, 1, 28, 28)
    flat = model.forward_features(x).flatten(1)
    torch.testing.assert_close(model(x), nn.functional.linear(flat, model.head.fc.weight, model.head.fc.bias))


@pytest.mark.parametrize("side", [10, 28, 32, 64])
def test_other_sizes(side):
    model = kv.create_model("kkan_medium", num_classes=4)
    assert model(torch.randn(2, 3, side, side)).shape == (2, 4)


def test_plain_twin_has_no_basis():
    model = kv.create_model("conv_mlp_medium", in_chans=1, num_classes=10)
    assert not [m for m in model.modules() if isinstance(m, KANConv2d | KANLinear)]


def test_no_hidden_layer_before_a_kan_classifier():
    with pytest.raises(ValueError, match="head_hidden_size=100"):
        KKAN(head_hidden_size=100)


def test_images_that_are_too_small():
    with pytest.raises(ValueError, match=r"8x30 pixels.*need 10; use padding=1"):
        kv.create_model("kkan_small", num_classes=4)(torch.randn(1, 3, 8, 30))
    assert kv.create_model("kkan_small", num_classes=4, padding=1)(torch.randn(1, 3, 8, 30)).shape == (1, 4)


@pytest.mark.parametrize("basis", BASES)
def test_a_training_step_with_every_basis(basis):
    torch.manual_seed(0)
    model = kv.create_model("kkan_small", basis=basis, num_classes=3, in_chans=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    before = [p.detach().clone() for p in model.parameters()]
    loss = nn.functional.cross_entropy(model(torch.randn(4, 1, 14, 14)), torch.tensor([0, 1, 2, 0]))
    loss.backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    optimizer.step()
    moved = [not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2
    assert all(p.isfinite().all() for p in model.parameters())


def test_as_an_encoder_of_less_depth():
    import segmentation_models_pytorch as smp

    net = smp.Unet("tu-kkan_small", encoder_weights=None, encoder_depth=2, decoder_channels=(8, 4), classes=2)
    assert net(torch.randn(1, 3, 32, 32)).shape == (1, 2, 32, 32)
    assert len(net.encoder.model.model.stages) == 2
