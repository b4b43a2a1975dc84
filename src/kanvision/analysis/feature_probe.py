"""What a network's features are worth on other images: nearest neighbors and a linear classifier on them.

N images, F features, K classes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["Score", "extract_features", "linear_score", "neighbor_score", "score_picture"]

Floats = NDArray[np.float32]
Classes = NDArray[np.int64]
STRENGTHS = (0.0001, 0.001, 0.01, 0.1, 1.0)
"""Inverse regularization of the linear classifier; held-out training images choose."""
HELD_OUT = 0.2


class Score(NamedTuple):
    """Share of right answers."""

    accuracy: float
    error: float
    """Standard error from the number of test images; how the training images were drawn is not in it."""


def extract_features(model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> tuple[Floats, Classes]:
    """What a network's classifier is given for each image, (N, F), and the classes (N,).

    Args:
        model: In evaluation mode, with timm's `get_classifier`.
        batches: Each with `image` and `target`, on the network's device.

    Raises:
        ValueError: If the network has no classifier of its own.
    """
    features, classes = [], []
    with torch.no_grad(), _classifier_inputs(model) as taken:
        for batch in batches:
            model(batch["image"])
            features.append(taken.pop().flatten(1).float().cpu().numpy())
            classes.append(batch["target"].cpu().numpy())
    return np.concatenate(features), np.concatenate(classes)


@contextmanager
def _classifier_inputs(model: nn.Module) -> Iterator[list[Tensor]]:
    get: Any = getattr(model, "get_classifier", None)
    head = get() if callable(get) else None
    if not isinstance(head, nn.Module) or isinstance(head, nn.Identity):
        raise ValueError(
            f"{type(model).__name__} has no classifier, so that it is not known what its features are"
        )
    taken: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, args: taken.append(args[0].detach()))
    try:
        yield taken
    finally:
        handle.remove()


def neighbor_score(train: tuple[Floats, Classes], test: tuple[Floats, Classes], neighbors: int) -> Score:
    """Vote of the nearest training images by cosine similarity, each vote weighted by it.

    Args:
        train: Features and classes of the images that are known.
        test: Those of the images to name.
        neighbors: How many vote, at most all.
    """
    from sklearn.neighbors import KNeighborsClassifier

    probe = KNeighborsClassifier(
        min(neighbors, len(train[1])),
        metric="cosine",
        weights=lambda distances: np.clip(1 - distances, 1e-6, None),
    )
    probe.fit(*train)
    return _score(probe.predict(test[0]), test[1])


def linear_score(train: tuple[Floats, Classes], test: tuple[Floats, Classes], seed: int = 0) -> Score:
    """Logistic regression on standardized features; a fifth of the training images choose its regularization.

    Args:
        train: Features and classes to learn from.
        test: Those to score on.
        seed: Of the fifth.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def probe(strength: float) -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300, tol=1e-3))

    counts = np.unique(train[1], return_counts=True)[1]
    fit_x, held_x, fit_y, held_y = train_test_split(
        *train,
        test_size=HELD_OUT,
        random_state=seed,
        stratify=train[1] if counts.min() > 1 and HELD_OUT * len(train[1]) >= len(counts) else None,
    )
    with warnings.catch_warnings():
        # hardly regularized fits to many features may stop early; held-out images judge them as they are
        warnings.simplefilter("ignore", ConvergenceWarning)
        scores = {c: probe(c).fit(fit_x, fit_y).score(held_x, held_y) for c in STRENGTHS}
        best = max(scores, key=lambda strength: scores[strength])
        return _score(probe(best).fit(*train).predict(test[0]), test[1])


def _score(answers: Classes, truth: Classes) -> Score:
    accuracy = float((answers == truth).mean())
    return Score(accuracy, math.sqrt(accuracy * (1 - accuracy) / len(truth)))


def score_picture(
    scores: Mapping[str, Mapping[str, Score]],
    chance: float,
    *,
    title: str,
    colors: Sequence[str] = ("#2a6f97", "#d1495b"),
) -> Figure:
    """Bars of scores with their standard errors.

    Args:
        scores: By features and then by probe.
        chance: Accuracy of always saying the most frequent class, a dotted line.
        title: Above the picture.
        colors: Of the probes.
    """
    figure = Figure(figsize=(6.0, 3.4), layout="constrained")
    axes = figure.subplots()
    probes = list(next(iter(scores.values())))
    positions = np.arange(len(scores))
    width = 0.8 / len(probes)
    for index, (probe, color) in enumerate(zip(probes, colors, strict=False)):
        values = [by_probe[probe] for by_probe in scores.values()]
        bars = axes.bar(
            positions + (index - (len(probes) - 1) / 2) * width,
            [value.accuracy for value in values],
            width,
            yerr=[value.error for value in values],
            label=probe,
            color=color,
            capsize=3,
        )
        axes.bar_label(bars, [f"{value.accuracy:.3f}" for value in values], fontsize=7, padding=2)
    axes.axhline(chance, color="black", linewidth=0.8, linestyle=":", label="most frequent class")
    axes.set_xticks(positions, list(scores))
    axes.set_ylabel("accuracy", fontsize=8)
    axes.margins(y=0.15)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=7)
    axes.set_title(title, fontsize=9)
    return figure
