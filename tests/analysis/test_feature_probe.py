"""Probes on features whose worth is known."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import kanvision as kv
from kanvision.analysis.feature_probe import extract_features, linear_score, neighbor_score, score_picture


def clouds(number: int, spread: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three classes around the corners of a triangle, seen under three angles."""
    rng = np.random.default_rng(seed)
    classes = np.arange(number) % 3
    centers = np.array([[10.0, 0.0], [0.0, 10.0], [-10.0, -10.0]])
    return (centers[classes] + spread * rng.normal(size=(number, 2))).astype(np.float32), classes


@pytest.mark.parametrize("probe", [linear_score, lambda a, b: neighbor_score(a, b, 5)])
def test_separable_features_are_told_apart_and_noise_is_not(probe) -> None:  # type: ignore[no-untyped-def]
    assert probe(clouds(60, 0.5, 0), clouds(90, 0.5, 1)) == (1.0, 0.0)
    noise = np.random.default_rng(2).normal(size=(600, 4)).astype(np.float32)
    score = probe((noise[:300], np.arange(300) % 3), (noise[300:], np.arange(300) % 3))
    assert abs(score.accuracy - 1 / 3) < 4 * score.error
    assert score.error == pytest.approx(math.sqrt(score.accuracy * (1 - score.accuracy) / 300))


def test_a_line_cannot_and_neighbors_can_tell_a_ring_from_its_middle() -> None:
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    classes = np.arange(200) % 2
    points = np.stack([np.cos(angles), np.sin(angles), 0.1 + 2.0 * classes], 1) * (1 + classes)[:, None]
    rings = (points[:, :2].astype(np.float32), classes)
    assert linear_score(rings, rings).accuracy < 0.7
    cones = (points.astype(np.float32), classes)
    assert neighbor_score(cones, cones, 3).accuracy == 1.0


def test_features_are_what_the_classifier_is_given() -> None:
    torch.manual_seed(0)
    model = kv.create_model("karat_micro_patch4_32", img_size=8, depth=1, num_classes=3, in_chans=1).eval()
    batches = [{"image": torch.randn(n, 1, 8, 8), "target": torch.arange(n) % 3} for n in (4, 2)]
    features, classes = extract_features(model, batches)
    images = torch.cat([batch["image"] for batch in batches])
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(images), pre_logits=True)
    assert np.allclose(features, expected.numpy(), atol=1e-5)
    assert classes.tolist() == [0, 1, 2, 0, 0, 1]
    assert not model.head._forward_pre_hooks
    with pytest.raises(ValueError, match="Sequential has no classifier"):
        extract_features(nn.Sequential(nn.Flatten()), batches)


def test_classes_that_are_there_once_are_no_obstacle() -> None:
    train = clouds(30, 0.5, 0)
    rare = (np.concatenate([train[0], [[50.0, 50.0]]]).astype(np.float32), np.append(train[1], 3))
    assert linear_score(rare, clouds(30, 0.5, 1)).accuracy == 1.0


def test_the_picture_has_a_bar_for_each_score() -> None:
    scores = {
        name: {
            "nearest neighbors": linear_score(clouds(30, 9, 0), clouds(30, 9, seed)),
            "linear": linear_score(clouds(30, 9, 0), clouds(30, 9, seed)),
        }
        for seed, name in enumerate(("trained", "pixels"), 1)
    }
    axes = score_picture(scores, 0.3, title="x").axes[0]
    heights = sorted(bar.get_height() for bar in axes.patches)
    assert heights == sorted(score.accuracy for by in scores.values() for score in by.values())
