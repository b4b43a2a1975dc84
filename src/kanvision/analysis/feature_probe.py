"""Transfer of features to other images: nearest neighbors and a linear classifier on frozen features.

N images, F features, K classes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from kanvision.visualization.charts import new_chart

__all__ = ["Score", "extract_features", "linear_score", "neighbor_score", "score_picture"]

Floats = NDArray[np.float32]
Classes = NDArray[np.int64]
STRENGTHS = (0.0001, 0.001, 0.01, 0.1, 1.0)
"""Candidates for the inverse regularization of the linear classifier."""
HELD_OUT = 0.2
"""Share of the training images that selects the regularization."""

COLORS = ("#2a6f97", "#d1495b")
"""Colors of the probes."""


class Score(NamedTuple):
    """Accuracy of a probe."""

    accuracy: float
    error: float
    """Standard error due to the number of test images; the choice of the training images is not included."""


def extract_features(model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> tuple[Floats, Classes]:
    """Return the input of the classifier for each image, (N, F), and the targets, (N,).

    The network is in evaluation mode; batches have `image` and `target`, on its device.

    Raises:
        ValueError: The network has no classifier by the method `get_classifier` of timm.
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
        raise ValueError(f"{type(model).__name__} has no classifier, so its features are not defined")
    taken: list[Tensor] = []
    with head.register_forward_pre_hook(lambda _, args: taken.append(args[0].detach())):
        yield taken


def neighbor_score(train: tuple[Floats, Classes], test: tuple[Floats, Classes], neighbors: int) -> Score:
    """Score a vote of the nearest training images, weighted by cosine similarity, by features and targets."""
    from sklearn.neighbors import KNeighborsClassifier

    probe = KNeighborsClassifier(
        min(neighbors, len(train[1])),
        metric="cosine",
        weights=lambda distances: np.clip(1 - distances, 1e-6, None),
    )
    probe.fit(*train)
    return _score(probe.predict(test[0]), test[1])


def linear_score(train: tuple[Floats, Classes], test: tuple[Floats, Classes], seed: int = 0) -> Score:
    """Score a logistic regression on standardized features, by features and targets.

    A fifth of the training images, drawn by the seed, selects the regularization.
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
        # fits with little regularization may stop early; the held-out images select among them all the same
        warnings.simplefilter("ignore", ConvergenceWarning)
        scores = {c: probe(c).fit(fit_x, fit_y).score(held_x, held_y) for c in STRENGTHS}
        best = max(scores, key=lambda strength: scores[strength])
        return _score(probe(best).fit(*train).predict(test[0]), test[1])


def _score(preds: Classes, target: Classes) -> Score:
    accuracy = float((preds == target).mean())
    return Score(accuracy, math.sqrt(accuracy * (1 - accuracy) / len(target)))


def score_picture(scores: Mapping[str, Mapping[str, Score]], chance: float, *, title: str) -> Figure:
    """Draw scores with their standard errors as bars, by features and then by probe.

    The dotted line is `chance`, the accuracy of the most frequent class.
    """
    figure, [[axes]] = new_chart(6.0, 3.4, ticks=8, framed=True)
    probes = list(next(iter(scores.values())))
    positions = np.arange(len(scores))
    width = 0.8 / len(probes)
    for index, (probe, color) in enumerate(zip(probes, COLORS, strict=False)):
        values = [by_probe[probe] for by_probe in scores.values()]
        places = positions + (index - (len(probes) - 1) / 2) * width
        errors = [value.error for value in values]
        look = {"label": probe, "color": color, "capsize": 3}
        bars = axes.bar(places, [value.accuracy for value in values], width, yerr=errors, **look)
        axes.bar_label(bars, [f"{value.accuracy:.3f}" for value in values], fontsize=7, padding=2)
    axes.axhline(chance, color="black", linewidth=0.8, linestyle=":", label="most frequent class")
    axes.set_xticks(positions, list(scores))
    axes.set_ylabel("accuracy")
    axes.margins(y=0.15)
    axes.legend(fontsize=7)
    axes.set_title(title, fontsize=9)
    return figure
