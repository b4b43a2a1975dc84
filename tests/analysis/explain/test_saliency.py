"""Grad-CAM and integrated gradients against formulas, and on every kind of network."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import kanvision as kv
from kanvision.analysis.explain.saliency import class_score, grad_cam, integrated_gradients
from kanvision.models.feature_locations import FeatureLocation, feature_location
from tests.models.test_segmenter_contract import ONE_OF_EACH, create


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.Tanh(), nn.Conv2d(5, 2, 1)).double()


def test_grad_cam_is_its_formula(net):
    images = torch.randn(2, 3, 8, 12, dtype=torch.double)
    cams = grad_cam(class_score(net, 1), FeatureLocation(net[1]), images)
    maps = net[1](net[0](images)).detach()  # (2, 5, 4, 6)
    weights = net[2].weight[1, :, 0, 0].detach() / maps[0, 0].numel()  # the mean over pixels, derived by hand
    by_hand = (maps * weights[:, None, None]).sum(dim=1, keepdim=True).relu()
    expected = F.interpolate(by_hand, (8, 12), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(cams, expected)
    assert cams.gt(0).any()


def test_grad_cam_at_the_logits_is_the_positive_part_of_the_logit(net):
    """As the published comparison took it for one of its two networks: it shows the prediction itself."""
    images = torch.randn(1, 3, 8, 8, dtype=torch.double)
    cam = grad_cam(class_score(net, 1), FeatureLocation(net[2]), images)
    logit = F.interpolate(net(images)[:, 1:].relu(), (8, 8), mode="bilinear").detach()[:, 0]
    torch.testing.assert_close(cam / cam.max(), logit / logit.max())


def test_a_score_over_a_region_sees_only_the_region(net):
    images = torch.randn(1, 3, 8, 8, dtype=torch.double)
    region = torch.zeros(4, 4, dtype=torch.bool)
    region[0, 1] = True
    torch.testing.assert_close(class_score(net, 0, region)(images), net(images)[:, 0, 0, 1])
    torch.testing.assert_close(class_score(net, -1)(images), net(images)[:, 1].mean(dim=(1, 2)))
    with pytest.raises(ValueError, match="region has no pixel"):
        class_score(net, 0, region & False)


def test_integrated_gradients_of_polynomials_are_exact():
    """score = sum a x^2 + b x; then IG_i = a (x^2 - x0^2) + b (x - x0)."""
    torch.manual_seed(0)
    a, b, images = (torch.randn(2, 3, 4, 5, dtype=torch.double) for _ in range(3))
    start = torch.tensor([0.5, -1.0, 0.0], dtype=torch.double)[:, None, None]
    a, b = a[:1], b[:1]
    found = integrated_gradients(
        lambda x: (a * x**2 + b * x).flatten(1).sum(dim=1), images, start, steps=2, batch_size=3
    )
    expected = a * (images**2 - start**2) + b * (images - start)
    torch.testing.assert_close(found.attributions, expected)
    torch.testing.assert_close(found.difference, expected.flatten(1).sum(dim=1))
    torch.testing.assert_close(found.error, torch.zeros(2, dtype=torch.double), atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_segmenters_of_any_size(name):
    torch.manual_seed(0)
    model = create(name, in_chans=4, num_classes=2).double().eval()
    images = torch.randn(2, 4, 24, 33, dtype=torch.double)
    score = class_score(model, 1)
    for location in ("decoder_last", "bottleneck"):
        cams = grad_cam(score, feature_location(model, location), images, model.stride)
        assert cams.shape == (2, 24, 33)
        assert cams.min() >= 0
        torch.testing.assert_close(
            grad_cam(score, feature_location(model, location), images[:1], model.stride), cams[:1]
        )
    errors = []
    images = images[:1, :, :16, :16]
    for steps in (2, 24):
        found = integrated_gradients(score, images, torch.zeros(1, dtype=torch.double), steps, batch_size=32)
        torch.testing.assert_close(
            found.attributions.flatten(1).sum(dim=1) - found.difference, found.error, rtol=1e-6, atol=1e-9
        )
        errors.append(float((found.error / found.difference).abs().max()))
    if name == "u_mamba_tiny":
        # It normalizes each image, so that contrast does not matter and the answer jumps at the start of the
        # path: no number of steps is enough there, which the error has to say.
        change = (score(images / 2) - score(images)).abs()
        assert (change < 0.05 * found.difference.abs()).all()
        assert min(errors) > 0.5
    else:
        assert errors[1] < max(0.05, errors[0])


@pytest.mark.parametrize("name", ["Unet", "FPN", "DPT"])
def test_networks_of_the_library(name):
    kwargs = {"decoder_readout": "ignore"} if name == "DPT" else {}
    encoder = "tu-vit_tiny_patch16_224" if name == "DPT" else "resnet18"
    if name == "DPT":
        kwargs["img_size"] = 64
        kwargs["dynamic_img_size"] = True
    model = kv.models.create_segmenter(name, encoder_name=encoder, num_classes=2, **kwargs).eval()
    images = torch.randn(1, 3, 64, 64)
    for location in ("decoder_last", "bottleneck"):
        cam = grad_cam(class_score(model, 1), feature_location(model, location), images, model.stride)
        assert cam.shape == (1, 64, 64)


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("convkan_4", {"stages": ((4,), (4, 4), (4,))}),
        ("kat_micro_patch16_224", {"img_size": 32, "patch_size": 8}),
        ("resnet10t", {}),
    ],
)
def test_classifiers(name, kwargs):
    torch.manual_seed(0)
    model = kv.create_model(name, num_classes=3, **kwargs).eval()
    images = torch.randn(2, 3, 32, 32)
    cams = grad_cam(class_score(model, 2), feature_location(model, "encoder_last"), images)
    assert cams.shape == (2, 32, 32)
    found = integrated_gradients(class_score(model, 2), images, torch.zeros(()), steps=48)
    assert found.attributions.shape == images.shape
    torch.testing.assert_close(found.difference, (model(images) - model(images * 0))[:, 2].detach())
    assert float((found.error / found.difference).abs().max()) < 0.1


def test_locations_that_hold_no_map_are_refused(net):
    images = torch.randn(1, 3, 8, 8, dtype=torch.double)
    head = nn.Sequential(net, nn.Flatten(), nn.Linear(32, 2).double())
    with pytest.raises(ValueError, match=r"Linear has \(1, 2\) there; feature maps are"):
        grad_cam(class_score(head, 0), FeatureLocation(head[2]), images)

    def score(x):
        net[0](x)
        return x.flatten(1).sum(dim=1)

    with pytest.raises(ValueError, match="does not depend on the feature maps"):
        grad_cam(score, FeatureLocation(net[0]), images)
