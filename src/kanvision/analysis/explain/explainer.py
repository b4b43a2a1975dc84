"""Explanations of one prediction by several methods, with the same scores for each.

C channels of the image, K classes, H W space; images are single ones, (1, C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import torch
from torch import Tensor

from kanvision.models.feature_locations import FeatureLocation

from .channel_relevance import ChannelRelevance, attribution_shares, channel_relevance, disagreement
from .faithfulness import faithfulness, keep, remove
from .plausibility import Threshold, border_band, concentration, overlap, selected
from .saliency import Score, class_score, grad_cam, integrated_gradients

__all__ = [
    "CHANCE",
    "SCORES",
    "ChannelWorth",
    "Explainer",
    "ExplanationTarget",
    "SaliencyResult",
    "mean_scores",
]

CHANCE: Final = "chance"
"""Method whose maps are random numbers, the baseline of all scores."""
SCORES: Final[Mapping[str, str]] = {
    "selected": "share of the image's pixels that the map stands for",
    "iou": "IoU of these pixels with the mask: plausibility",
    "precision": "how much of them lies in the mask",
    "recall": "how much of the mask they cover",
    "f1": "F1 of these pixels with the mask",
    "border_iou": "IoU of these pixels with the border of the mask",
    "border_f1": "F1 of these pixels with the border of the mask",
    "concentration": "density of the map in the mask over that of the image; 1: knows nothing of the mask",
    "border_concentration": "the same for the border of the mask",
    "prediction_iou": "IoU of what is predicted with the mask",
    "kept_iou": "IoU with the mask of what is predicted from these pixels alone; high: they are enough",
    "removed_iou": "IoU with the mask of what is predicted without these pixels; low: they are needed",
    "probability": "of the class, on the pixels that it was predicted for",
    "sufficiency": "probability lost with the map's top pixels only, mean over 5, 10, 20, 50 %; low is good",
    "comprehensiveness": "probability lost without the map's top pixels, mean over the same; high is good",
    "incomplete": "share of the score's change from the baseline that attributions miss; near 0 is good",
}
"""What is measured, and how to read it. Scores with masks need masks; `incomplete` is that of gradients."""


@dataclass(frozen=True)
class ExplanationTarget:
    """Prediction to explain: one class of one image."""

    channel: int
    """Channel of the logits; negative numbers count from the end."""
    probability: Callable[[Tensor], Tensor]
    """Function from images (B, C, H, W) to the probability of the class, (B,)."""
    decided: Callable[[Tensor], Tensor] | None = None
    """Function from images to the pixels predicted as the class, bool (B, H, W); None for whole images."""
    truth: Tensor | None = None
    """Pixels whose target is the class, bool (1, H, W); None if unknown."""
    region: Tensor | None = None
    """Pixels whose logits are explained, bool (H, W); None for all."""


class SaliencyResult(NamedTuple):
    """Saliency map with its scores."""

    method: str
    layer: str
    """Location of the feature maps; empty for methods without feature maps."""
    map: Tensor
    """Evidence for the class, (H, W), not negative."""
    scores: dict[str, float]
    """Scores by the names of `SCORES`."""

    @property
    def name(self) -> str:
        """Method and layer."""
        return f"{self.method}@{self.layer}" if self.layer else self.method


class ChannelWorth(NamedTuple):
    """Relevance of each channel by three measures, (C,), fractions."""

    attention: Tensor
    """See `ChannelRelevance.attention`."""
    answer: Tensor
    """1 - IoU of the predicted pixels, or loss of probability, with and without the channel."""
    gradients: Tensor
    """Share in the absolute integrated gradients; NaN if they were not computed."""


@dataclass(frozen=True)
class Explainer:
    """Explainer of the predictions of one network.

    Args:
        logits: Function from images (B, C, H, W) to logits (B, K) or (B, K, H, W), differentiable.
        locations: Feature maps for Grad-CAM by name; empty for no Grad-CAM.
        baseline: Replacement of removed pixels and channels, (C, 1, 1).
        stride: See `grad_cam`.
        steps: Number of points of integrated gradients; 0 for no integrated gradients.
        batch_size: Images in one forward pass.
        threshold: See `selected`.
        border: Width of the border of a mask in pixels, on each side of its edge.
    """

    logits: Callable[[Tensor], Tensor]
    locations: Mapping[str, FeatureLocation]
    baseline: Tensor
    stride: int = 1
    steps: int = 64
    batch_size: int = 16
    threshold: Threshold = "otsu"
    border: int = 2
    _noise: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))

    def explain(self, image: Tensor, target: ExplanationTarget) -> tuple[list[SaliencyResult], Tensor | None]:
        """Return the maps of all methods with their scores, and the integrated gradients (C, H, W)."""
        score = class_score(self.logits, target.channel, target.region)
        maps: list[tuple[str, str, Tensor, dict[str, float]]] = [
            ("grad_cam", layer, grad_cam(score, location, image, self.stride), {})
            for layer, location in self.locations.items()
        ]
        attributions = None
        if self.steps:
            found = integrated_gradients(score, image, self.baseline, self.steps, self.batch_size)
            attributions = found.attributions[0]
            missed = {"incomplete": float((found.error / found.difference).abs())}
            maps.append(("integrated_gradients", "", found.attributions.sum(dim=1).clamp(min=0), missed))
        noise = torch.rand(image[:, 0].shape, generator=self._noise).to(image)
        maps.append((CHANCE, "", noise, {}))
        same = self._prediction_scores(image, target)
        results = [
            SaliencyResult(method, layer, saliency[0], self._scores(image, saliency, target) | more | same)
            for method, layer, saliency, more in maps
        ]
        return results, attributions

    def channels(self, image: Tensor, target: ExplanationTarget, attributions: Tensor | None) -> ChannelWorth:
        """Return the relevance of each channel to one prediction; maps are those of the first location.

        `attributions` are integrated gradients, (C, H, W), or None.
        """
        score = class_score(self.logits, target.channel, target.region)
        location = next(iter(self.locations.values()), None)

        def saliency(images: Tensor) -> Tensor:
            if location is None:
                return torch.zeros_like(images[:, 0])
            parts: tuple[Tensor, ...] = torch.split(images, self.batch_size)
            return torch.cat([grad_cam(score, location, part, self.stride) for part in parts])

        relevance: ChannelRelevance = channel_relevance(
            saliency, self._prediction_distance(image, target), image, self.baseline
        )
        missing = torch.full((image.shape[1],), torch.nan)
        return ChannelWorth(
            attention=relevance.attention[0] if location is not None else missing,
            answer=relevance.answer[0],
            gradients=missing if attributions is None else attribution_shares(attributions[None])[0],
        )

    @torch.no_grad()
    def _prediction_distance(self, image: Tensor, target: ExplanationTarget) -> Score:
        """Return a function from images to the distance of their predictions from that of `image`."""
        decided, probability = target.decided, target.probability
        if decided is not None:
            before = decided(image)
            return torch.no_grad()(
                lambda images: disagreement(decided(images), before.expand(len(images), -1, -1))
            )
        certain = probability(image)
        return torch.no_grad()(lambda images: (certain - probability(images)).clamp(min=0))

    @torch.no_grad()
    def _scores(self, image: Tensor, saliency: Tensor, target: ExplanationTarget) -> dict[str, float]:
        pixels = selected(saliency, self.threshold)
        scores: dict[str, Tensor] = {"selected": pixels.float().mean()}
        truth, decided = target.truth, target.decided
        if truth is not None:
            scores |= self._agreement(saliency, pixels, truth)
        if truth is not None and decided is not None:
            versions = [change(image, pixels, self.baseline) for change in (keep, remove)]
            iou = overlap(decided(torch.cat(versions)), truth.expand(2, -1, -1)).iou
            scores |= {"kept_iou": iou[0], "removed_iou": iou[1]}
        lost = faithfulness(target.probability, image, saliency, self.baseline)
        return {name: float(value) for name, value in {**scores, **lost._asdict()}.items()}

    @torch.no_grad()
    def _prediction_scores(self, image: Tensor, target: ExplanationTarget) -> dict[str, float]:
        """Return the scores that do not depend on a map."""
        scores = {"probability": float(target.probability(image))}
        if target.truth is not None and target.decided is not None:
            scores["prediction_iou"] = float(overlap(target.decided(image), target.truth).iou)
        return scores

    def _agreement(self, saliency: Tensor, pixels: Tensor, truth: Tensor) -> dict[str, Tensor]:
        border = border_band(truth, self.border)
        edge = overlap(pixels, border)
        return {
            **overlap(pixels, truth)._asdict(),
            "border_iou": edge.iou.where(border.any(), torch.nan),
            "border_f1": edge.f1.where(border.any(), torch.nan),
            "concentration": concentration(saliency, truth),
            "border_concentration": concentration(saliency, border),
        }


def mean_scores(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each score over the rows where it is finite; scores of no row are left out."""
    means = {}
    for name in SCORES:
        values = torch.tensor([row[name] for row in rows if name in row], dtype=torch.double)
        values = values[values.isfinite()]
        if len(values):
            means[name] = float(values.mean())
    return means
