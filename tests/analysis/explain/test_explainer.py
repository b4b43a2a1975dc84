"""An explainer of networks whose reasons are known."""

import math

import pytest
import torch
from torch import nn

from kanvision.analysis.explain.explainer import CHANCE, SCORES, Explainer, ExplanationTarget, mean_scores
from kanvision.models.feature_locations import FeatureLocation

SIDE = 16


class Bright(nn.Module):
    """Says 1 where channel 0 is positive; does not look at channel 1."""

    def __init__(self):
        super().__init__()
        self.maps = nn.Conv2d(2, 1, 1, bias=False)
        with torch.no_grad():
            self.maps.weight.copy_(torch.tensor([8.0, 0.0]).reshape(1, 2, 1, 1))

    def forward(self, images):
        return self.maps(images)


@pytest.fixture
def network():
    return Bright().eval()


@pytest.fixture
def image():
    torch.manual_seed(0)
    image = torch.randn(1, 2, SIDE, SIDE)
    image[:, 0] = -1
    image[:, 0, 4:10, 3:12] = 1
    return image


def target(network, image, truth=None):
    def decided(images):
        return network(images)[:, 0] > 0

    found = decided(image)[0]

    def probability(images):
        return network(images).sigmoid()[:, 0][:, found].mean(dim=1)

    return ExplanationTarget(0, probability, decided, decided(image) if truth is None else truth)


def explainer(network, **options):
    return Explainer(network, {"maps": FeatureLocation(network.maps)}, torch.zeros(2, 1, 1), **options)


def test_a_network_that_looks_at_the_mask_is_found_to(network, image):
    results, attributions = explainer(network, steps=8).explain(image, target(network, image))
    scores = {result.name: result.scores for result in results}
    assert list(scores) == ["grad_cam@maps", "integrated_gradients", CHANCE]
    area = 54 / SIDE**2
    for name in ("grad_cam@maps", "integrated_gradients"):
        found = scores[name]
        assert found["selected"] == pytest.approx(area)
        assert [found[key] for key in ("iou", "precision", "recall", "f1")] == [1, 1, 1, 1]
        assert found["prediction_iou"] == found["kept_iou"] == 1
        assert found["removed_iou"] == 0
        assert found["concentration"] == pytest.approx(1 / area)
        # the top 5, 10, 20 and 50 % of 256 pixels hold 13, 26, 51 and all 54 of the mask
        certain, even = 1 / (1 + math.exp(-8)), 0.5
        mean = (13 + 26 + 51 + 54) / 54 / 4
        assert found["probability"] == pytest.approx(certain)
        assert found["comprehensiveness"] == pytest.approx(mean * (certain - even), abs=1e-5)
        assert found["sufficiency"] == pytest.approx((1 - mean) * (certain - even), abs=1e-5)
    assert scores["integrated_gradients"]["incomplete"] == pytest.approx(0, abs=1e-5)
    assert scores[CHANCE]["iou"] < 0.4
    assert scores[CHANCE]["comprehensiveness"] < scores["grad_cam@maps"]["comprehensiveness"] / 1.5
    assert attributions.shape == (2, SIDE, SIDE)
    assert set().union(*scores.values()) <= set(SCORES)


def test_borders_count_as_wide_as_wanted(network, image):
    narrow, wide = (
        explainer(network, steps=0, border=width).explain(image, target(network, image))[0][0].scores
        for width in (1, 3)
    )
    # 54 pixels of the mask; the band of one pixel has 26 of them and 34 outside
    assert narrow["border_iou"] == pytest.approx(26 / (54 + 34))
    assert wide["border_iou"] > narrow["border_iou"]
    everything = torch.ones(1, SIDE, SIDE, dtype=torch.bool)
    scores = explainer(network, steps=0).explain(image, target(network, image, everything))[0][0].scores
    assert math.isnan(scores["border_iou"])
    assert scores["iou"] == pytest.approx(54 / SIDE**2)


def test_what_channels_are_worth(network, image):
    what = explainer(network, steps=4)
    asked = target(network, image)
    worth = what.channels(image, asked, what.explain(image, asked)[1])
    assert [values.tolist() for values in worth] == [[1, 0], [1, 0], [1, 0]]
    without = Explainer(network, {}, torch.zeros(2, 1, 1), steps=0).channels(image, asked, None)
    assert without.attention.isnan().all()
    assert without.gradients.isnan().all()
    assert without.answer.tolist() == [1, 0]


def test_classes_of_whole_images(network, image):
    def logits(images):
        return network(images).mean(dim=(2, 3))

    asked = ExplanationTarget(0, lambda images: logits(images).sigmoid()[:, 0])
    what = Explainer(logits, {"maps": FeatureLocation(network.maps)}, torch.zeros(2, 1, 1), steps=4)
    results, attributions = what.explain(image, asked)
    assert set(results[0].scores) == {"selected", "probability", "sufficiency", "comprehensiveness"}
    # the mean logit is negative: what is not the bright part speaks against it
    assert results[0].scores["comprehensiveness"] > 0
    assert torch.equal(results[0].map > 0, image[0, 0] > 0)
    worth = what.channels(image, asked, attributions)
    assert worth.answer[1] == 0


def test_a_share_of_the_pixels_may_stand_for_the_map(network, image):
    results, _ = explainer(network, steps=0, threshold=0.25).explain(image, target(network, image))
    assert [result.scores["selected"] for result in results] == [0.25, 0.25]


def test_means_leave_out_what_is_undefined():
    rows = [{"iou": 0.5, "f1": math.nan}, {"iou": 1.0}, {"iou": math.inf}]
    assert mean_scores(rows) == {"iou": 0.75}
