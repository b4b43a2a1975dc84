"""Every network names its feature maps by the same positions, and they are where they are said to be."""

import pytest
import torch

import kanvision as kv
from kanvision.analysis.explain.saliency import tapped
from kanvision.models import create_segmenter
from kanvision.models.feature_locations import feature_location, feature_locations
from kanvision.spec.models import LOCATIONS
from tests.covering import one_of_each

from .families import TINY, tiny
from .test_segmenter_contract import MODELS, create, family

LIBRARY = ("Unet", "UnetPlusPlus", "FPN", "PSPNet", "DeepLabV3Plus", "Linknet", "UPerNet", "Segformer")
SIDE = 64


def library_network(architecture: str):
    return create_segmenter(architecture, encoder_name="resnet18", num_classes=2, in_chans=4)


NETWORKS = {
    **{name: lambda name=name: create(name, in_chans=4, num_classes=2) for name in MODELS},
    **{name: lambda name=name: library_network(name) for name in LIBRARY},
}


@torch.no_grad()
def shapes_and_effects(model, names):
    """Shape of the map at each place, and how far the output moves when it is set to zero."""
    images, found = torch.randn(2, 4, SIDE, SIDE), {}
    before = model(images)
    for name in names:
        shapes = []
        with (
            tapped(feature_location(model, name), (SIDE, SIDE)) as tap,
            tap.register_forward_hook(lambda _, args, maps, s=shapes: s.append(maps.shape) or maps * 0),
        ):
            after = model(images)
        found[name] = shapes[0], float((after - before).abs().max())
    torch.testing.assert_close(model(images), before, msg="a tap that is gone leaves no trace")
    return found


@pytest.mark.parametrize(
    "network", one_of_each(NETWORKS, lambda name: name if name in LIBRARY else family(name))
)
def test_places_of_segmenters(network):
    torch.manual_seed(0)
    model = NETWORKS[network]().eval()
    assert set(feature_locations(model)) == set(LOCATIONS)
    sizes = {}
    for name, (shape, effect) in shapes_and_effects(model, LOCATIONS).items():
        assert shape[0] == 2
        assert effect > 0
        sizes[name] = shape[2]
    assert sizes["bottleneck"] == SIDE // model.stride
    assert sizes["encoder_last"] == sizes["bottleneck"]
    assert sizes["decoder_last"] >= max(SIDE // 8, sizes["bottleneck"])


def test_the_decoder_ends_where_the_head_begins():
    """With a head of one 1x1 convolution, nothing is between the place and the logits."""
    for name in ("ukan_tiny", "unet_tiny", "kan_unet_3", "res_kan_unet_18"):
        model, images, found = create(name, in_chans=4, num_classes=2).eval(), torch.randn(1, 4, 32, 32), []
        with torch.no_grad(), tapped(feature_location(model, "decoder_last"), (32, 32)) as tap:
            tap.register_forward_hook(lambda _, args, maps, found=found: found.append(maps))
            logits = model(images)
            torch.testing.assert_close(model.network.head(found[0]), logits)


@pytest.mark.parametrize("family", TINY)
def test_classifiers_have_the_last_map_of_their_encoder(family):
    model = tiny(family, in_chans=4).eval()
    assert list(feature_locations(model)) == ["encoder_last"]
    shape, effect = shapes_and_effects(model, ["encoder_last"])["encoder_last"]
    assert shape[1] == model.num_features
    assert effect > 0


@pytest.mark.parametrize("name", ["kat_micro_patch16_224", "vit_micro_patch16_224"])
def test_tokens_are_laid_out_as_a_map(name):
    model = kv.create_model(name, img_size=(64, 32), patch_size=8, in_chans=4, num_classes=3).eval()
    images, found = torch.randn(2, 4, 64, 32), []
    with torch.no_grad(), tapped(feature_location(model, "encoder_last"), (64, 32)) as tap:
        tap.register_forward_hook(lambda _, args, maps: found.append(maps))
        model(images)
        tokens = model.forward_intermediates(images, indices=[4], intermediates_only=True)[0]
    assert found[0].shape == (2, 96, 8, 4)
    torch.testing.assert_close(found[0], tokens)


def test_maps_with_channels_last():
    model = kv.create_model(
        "swin_tiny_patch4_window7_224", img_size=64, window_size=2, embed_dim=24, num_heads=(1, 1, 2, 2)
    )
    with torch.no_grad(), tapped(feature_location(model, "encoder_last"), (64, 64)) as tap:
        shapes = []
        tap.register_forward_hook(lambda _, args, maps: shapes.append(maps.shape))
        model(torch.randn(1, 3, 64, 64))
    assert shapes == [(1, 192, 2, 2)]


def test_paths_of_modules_and_what_does_not_exist():
    model = create("unet_tiny")
    assert feature_location(model, "network.encoder.1").module is model.network.encoder[1]
    with pytest.raises(ValueError, match=r"layer='network\.encodr'.*bottleneck, decoder_last.*network\.pool"):
        feature_location(model, "network.encodr")
    with pytest.raises(ValueError, match=r"layer='decoder_last': .*its locations: encoder_last"):
        feature_location(tiny("convkan"), "decoder_last")
