"""Sufficiency and comprehensiveness of networks whose reasons are known."""

import pytest
import torch

from kanvision.analysis.explain.faithfulness import SHARES, faithfulness, keep, remove


def test_keep_and_remove_are_two_halves():
    torch.manual_seed(0)
    images, baseline = torch.randn(2, 3, 5, 4), torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    pixels = torch.rand(2, 5, 4) > 0.5
    kept, left = keep(images, pixels, baseline), remove(images, pixels, baseline)
    torch.testing.assert_close(kept + left, images + baseline)
    assert (
        kept[0, :, 0, 0].tolist() == (images[0, :, 0, 0] if pixels[0, 0, 0] else baseline[:, 0, 0]).tolist()
    )


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_a_network_that_adds_up_what_it_sees(share):
    """m = sum of the image: what is lost is the sum of what is gone."""
    values = torch.arange(16.0).reshape(1, 1, 4, 4)
    number = round(16 * share)
    top, whole = float(values.flatten()[-number:].sum()), float(values.sum())

    def measure(images):
        return images.sum(dim=(1, 2, 3))

    found = faithfulness(measure, values, values[:, 0], torch.zeros(()), [share])
    assert float(found.sufficiency) == whole - top
    assert float(found.comprehensiveness) == top
    turned = faithfulness(measure, values, -values[:, 0], torch.zeros(()), [share])
    assert float(turned.comprehensiveness) == float(values.flatten()[:number].sum())


def test_the_right_map_beats_chance_and_the_wrong_one():
    """m looks at a tenth of the image alone."""
    torch.manual_seed(0)
    images = torch.rand(4, 2, 20, 20) + 1
    matters = torch.zeros(4, 20, 20)
    matters[:, :4, :10] = 1.0  # 40 of 400 pixels

    def measure(images):
        return (images * matters[:1, None]).sum(dim=(1, 2, 3)) / 80

    zero = torch.zeros(())
    right, chance, wrong = (
        faithfulness(measure, images, maps, zero) for maps in (matters, torch.rand(4, 20, 20), 1 - matters)
    )
    assert (right.sufficiency < chance.sufficiency).all()
    assert (chance.sufficiency < wrong.sufficiency).all()
    assert (right.comprehensiveness > chance.comprehensiveness).all()
    assert (chance.comprehensiveness > wrong.comprehensiveness).all()
    # shares 0.1, 0.2 and 0.5 hold all that matters, 0.05 half of it
    whole = measure(images)
    assert len(SHARES) == 4
    assert ((right.sufficiency / whole - 0.125).abs() < 0.02).all()
    assert ((right.comprehensiveness / whole - 0.875).abs() < 0.02).all()
    # the wrong map's top half is drawn from the 360 pixels that do not matter
    torch.testing.assert_close(wrong.comprehensiveness, torch.zeros(4), atol=1e-6, rtol=0)
