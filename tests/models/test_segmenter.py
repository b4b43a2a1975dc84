"""Segmenters over library encoders and our own: sizes, channels, names."""

import pytest
import torch
from timm.layers import DropPath
from torch import nn

from kanvision.models import BUILDERS, Segmenter, create_segmenter

OURS = {"width_scale": 0.125, "basis": "gram"}


@pytest.mark.parametrize("size", [(32, 32), (45, 70), (7, 5)])
@pytest.mark.parametrize(("in_chans", "num_classes"), [(1, 2), (12, 5)])
def test_any_size_and_any_number_of_channels(size: tuple[int, int], in_chans: int, num_classes: int):
    model = create_segmenter("unet", num_classes=num_classes, in_chans=in_chans)
    logits = model(torch.randn(2, in_chans, *size))
    assert logits.shape == (2, num_classes, *size)
    logits.square().mean().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_padding_repeats_the_edge_and_is_cut_away():
    class Recorder(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen = x
            return x[:, :1] * 2

    network = Recorder()
    image = torch.randn(1, 3, 5, 9)
    logits = Segmenter(network, num_classes=1, stride=8)(image)
    assert torch.equal(logits, image[:, :1] * 2)
    assert network.seen.shape == (1, 3, 8, 16)
    assert torch.equal(network.seen[..., :5, :9], image)
    assert torch.equal(network.seen[..., 5:, :9], image[..., 4:5, :].expand(-1, -1, 3, -1))
    whole = torch.randn(1, 3, 8, 16)
    Segmenter(network, num_classes=1, stride=8)(whole)
    assert network.seen is whole


@pytest.mark.parametrize("encoder", ["tu-convkan_8", "tu-convkan_4"])
@pytest.mark.parametrize("name", ["Unet", "UnetPlusPlus", "MAnet", "Linknet"])
def test_our_models_are_encoders(name: str, encoder: str):
    model = BUILDERS["segmenter"](name, encoder_name=encoder, num_classes=3, in_chans=4, **OURS)
    assert model.stride == 32
    logits = model(torch.randn(2, 4, 33, 21))
    assert logits.shape == (2, 3, 33, 21)
    logits.square().mean().backward()
    # distributed training stops at a parameter without gradient
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    kan = [p.grad for name, p in model.named_parameters() if name.endswith("basis_weight")]
    assert kan
    assert all(grad.abs().sum() > 0 for grad in kan)


def test_arguments_reach_the_encoder():
    rbf = create_segmenter("Unet", encoder_name="tu-convkan_4", num_classes=2, width_scale=0.125, basis="rbf")
    gram = create_segmenter("Unet", encoder_name="tu-convkan_4", num_classes=2, **OURS)
    sizes = [sum(p.numel() for p in model.parameters()) for model in (rbf, gram)]
    assert sizes[0] != sizes[1]
    model = create_segmenter("Unet", encoder_name="tu-convnext_atto", num_classes=2, drop_path_rate=0.3)
    rates = [m.drop_prob for m in model.modules() if isinstance(m, DropPath)]
    assert max(rates) == pytest.approx(0.3)


@pytest.mark.parametrize("name", ["FPN", "DeepLabV3Plus", "PSPNet", "UPerNet", "Segformer"])
def test_other_architectures_build_and_run(name: str):
    model = create_segmenter(name, num_classes=2, in_chans=3).eval()
    with torch.inference_mode():
        assert model(torch.randn(1, 3, 50, 40)).shape == (1, 2, 50, 40)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "Unett"}, "model.name='Unett' is unknown; nearest: Unet"),
        ({"encoder_name": "resnet19"}, "model.encoder_name='resnet19' is unknown; nearest: .*resnet18"),
        (
            {"encoder_name": "tu-convkn_8"},
            "model.encoder_name='tu-convkn_8' is unknown; nearest: tu-convkan_8",
        ),
        ({"encoder_name": "????"}, "model.encoder_name='....' is unknown; legal: densenet121, "),
        ({"encoder_name": "tu-vit_tiny_patch16_224"}, "needs one at each halving"),
        ({"drop_rate": 0.1}, "model.drop_rate=0.1"),
        ({"drop_path_rate": 0.1}, "model.drop_path_rate=0.1: encoder resnet18 has no stochastic depth"),
    ],
)
def test_a_wrong_name_or_setting_is_answered(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        create_segmenter(**{"name": "Unet", "num_classes": 2, **arguments})
