"""U-Net++: its counts, and what each node sees."""

import pytest
import torch

import kanvision as kv
from kanvision.models.nested_unet import SIZES, NestedUNet

from .structure import conv, conv_pair


@pytest.mark.parametrize(("size", "published"), [("small", 9_163_329), ("base", 36_629_633)])
def test_published_counts(size, published):
    """36.6 M at widths of 64 to 1024; the authors' own, half as wide, have 9.16 M."""
    widths = SIZES[size]["widths"]
    count = conv(widths[0], 1, 1)
    for level, width in enumerate(widths):
        count += conv_pair([3, *widths][level], width)
        for before in range(1, len(widths) - level):
            count += conv_pair(before * width + widths[level + 1], width)
    with torch.device("meta"):
        model = kv.create_model(f"nested_unet_{size}")
    assert sum(p.numel() for p in model.parameters()) == count == published


def test_it_is_the_written_recursion():
    torch.manual_seed(0)
    model = NestedUNet((3, 4, 5, 6), in_chans=2, num_classes=2).double().eval()
    image = torch.randn(1, 2, 16, 24, dtype=torch.float64)

    def node(level, column):
        if column == 0:
            return model.encoder[level](model.pool(node(level - 1, 0)) if level else image)
        before = [node(level, j) for j in range(column)]
        below = torch.nn.functional.interpolate(
            node(level + 1, column - 1), scale_factor=2, mode="bilinear", align_corners=True
        )
        return model.decoder[level][column - 1](torch.cat([*before, below], 1))

    torch.testing.assert_close(model(image), model.head(node(0, 3)))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"widths": (8,)}, r"widths=\(8,\) must have at least two levels"),
        ({"drop_path_rate": 0.1}, r"drop_path_rate=0\.1: NestedUNet has no residual branches"),
    ],
)
def test_a_wrong_value_is_answered(kwargs, message):
    with pytest.raises(ValueError, match=message):
        NestedUNet(**kwargs)
