"""Facts and pictures of attention maps."""

import math

import numpy as np
import pytest

from kanvision.analysis.attention.maps import BlockMaps, likeness, map_facts, map_sheet


def test_facts_of_a_map():
    after = np.array([[0.5, -0.25], [0.25, 0.0]], dtype=np.float32)
    facts = map_facts(np.array([[-1, 2], [0, 1]], dtype=np.float32), after)
    assert facts == {
        "logit_min": -1.0,
        "logit_max": 2.0,
        "min": -0.25,
        "max": 0.5,
        "sum": 0.5,
        "negative_share": 0.25,
        "effective_patches": pytest.approx(1 / 0.375),
    }
    assert map_facts(after, np.full((4, 4), 0.1, np.float32))["effective_patches"] == pytest.approx(16)
    assert map_facts(after, np.zeros((4, 4), np.float32))["effective_patches"] == 0


def test_likeness_is_the_mean_cosine_of_pairs():
    maps = np.random.default_rng(0).normal(size=(3, 2, 4, 4)).astype(np.float32)
    pairs = [(0, 1), (0, 2), (1, 2)]
    cosines = [
        float(maps[a, h].ravel() @ maps[b, h].ravel())
        / float(np.linalg.norm(maps[a, h]) * np.linalg.norm(maps[b, h]))
        for a, b in pairs
        for h in range(2)
    ]
    assert likeness(maps) == pytest.approx(np.mean(cosines), abs=1e-6)
    assert likeness(np.repeat(maps[:1], 3, axis=0)) == pytest.approx(1)
    assert math.isnan(likeness(maps[:1]))


@pytest.mark.parametrize(("heads", "rows"), [(2, 2), (4, 4)])
def test_a_sheet_has_all_maps_and_names_softmax_heads_beside_others(heads, rows):
    maps = np.random.default_rng(0).normal(size=(2, heads, 4, 4)).astype(np.float32)
    block = BlockMaps("b", range(heads), 1, -np.abs(maps), maps)
    figure = map_sheet(np.zeros((2, 16, 16, 3), np.uint8), ["one", "two"], block)
    shown = [ax for ax in figure.axes if ax.images]
    assert len(shown) == (2 * (1 + 2 * heads) if rows == 2 else rows * (1 + heads))
    titles = [ax.get_title() for ax in shown]
    assert sum("softmax" in title for title in titles) in (2, 4)
    # negative logits are clipped: black, and said to be
    assert sum(text.get_text() == "all <= 0" for ax in shown for text in ax.texts) == 2 * heads
