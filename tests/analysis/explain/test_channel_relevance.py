"""Channels that a network does not look at are worth nothing, those that it looks at are."""

import torch
from torch import nn

from kanvision.analysis.explain.channel_relevance import (
    attribution_shares,
    channel_relevance,
    disagreement,
    without_channel,
)
from kanvision.analysis.explain.saliency import class_score, grad_cam
from kanvision.models.feature_locations import FeatureLocation


def test_without_channel():
    images = torch.randn(2, 3, 4, 4)
    baseline = torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    changed = without_channel(images, 1, baseline)
    assert (changed[:, 1] == 2).all()
    assert torch.equal(changed[:, ::2], images[:, ::2])


def test_disagreement():
    first = torch.tensor([[[True, True, False]], [[False, False, False]]])
    second = torch.tensor([[[True, False, True]], [[False, False, False]]])
    torch.testing.assert_close(disagreement(first, second), torch.tensor([2 / 3, 0.0]))
    assert float(disagreement(first[1:], first[:1])) == 1.0


def test_unused_channels_are_worth_nothing():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 2, 1)).eval()
    with torch.no_grad():
        net[0].weight[:, 2] = 0  # the network does not see channel 2
    images = torch.randn(3, 4, 12, 12)

    def decided(images):
        return net(images).argmax(dim=1) == 1

    found = channel_relevance(
        lambda x: grad_cam(class_score(net, 1), FeatureLocation(net[1]), x),
        lambda x: disagreement(decided(x), decided(images).repeat(len(x) // 3, 1, 1)),
        images,
        torch.zeros(()),
    )
    for values in found:
        assert values.shape == (3, 4)
        assert (values[:, 2] == 0).all()
        assert (values[:, [0, 1, 3]] > 0).all()
        assert values.max() <= 1


def test_shares_of_attributions():
    attributions = torch.zeros(2, 3, 2, 2)
    attributions[0, 0, 0, 0], attributions[0, 1, 1, 1] = -3.0, 1.0
    shares = attribution_shares(attributions)
    assert shares[0].tolist() == [0.75, 0.25, 0.0]
    assert shares[1].isnan().all()
