"""U-Net: counts of the published baseline, the ways up, refusals."""

import pytest
import torch
from torch import nn

import kanvision as kv
from kanvision.models.unet import SIZES, UNet


@pytest.mark.parametrize(("in_chans", "published"), [(12, 17_268_226), (2, 17_262_466)])
def test_published_counts(in_chans, published):
    with torch.device("meta"):
        model = kv.create_model("unet_base", in_chans=in_chans, num_classes=2)
    assert sum(p.numel() for p in model.parameters()) == published


@pytest.mark.parametrize("upsampling", ["bilinear", "transposed"])
@pytest.mark.parametrize("widths", [(4, 6), (3, 4, 5, 6, 8, 8, 9)])
def test_any_number_of_stages(upsampling, widths):
    model = UNet(widths, upsampling, in_chans=2, num_classes=3)
    assert model.stride == 2 ** (len(widths) - 1)
    assert model(torch.randn(2, 2, 64, 128)).shape == (2, 3, 64, 128)
    assert any(isinstance(m, nn.ConvTranspose2d) for m in model.modules()) == (upsampling == "transposed")


def test_a_level_sees_the_map_of_its_size():
    """Without what comes from below the output still depends on every stage of the encoder."""
    torch.manual_seed(0)
    model = UNet((4, 4, 4), in_chans=1).eval()
    x = torch.randn(1, 1, 8, 8)
    expected = model(x)
    for stage in model.encoder:
        nn.init.zeros_(stage.norm2.weight)
        assert not torch.allclose(model(x), expected)
        nn.init.ones_(stage.norm2.weight)
    torch.testing.assert_close(model(x), expected)


def test_width_scale():
    model = UNet(**SIZES["base"], width_scale=1 / 16)
    assert [stage.conv1.out_channels for stage in model.encoder] == [4, 8, 16, 32, 32]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"upsampling": "nearest"}, "upsampling='nearest' is not known; legal values: bilinear, transposed"),
        ({"widths": (8,)}, r"widths=\(8,\) must have at least two stages"),
        ({"drop_path_rate": 0.1}, r"drop_path_rate=0\.1: UNet has no residual branches"),
    ],
)
def test_a_wrong_value_is_answered(kwargs, message):
    with pytest.raises(ValueError, match=message):
        UNet(**kwargs)
