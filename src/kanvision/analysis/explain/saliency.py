"""Saliency of pixels and channels for a prediction: Grad-CAM and integrated gradients, by captum.

B batch, C channels of the image, F channels of a feature map, K classes, H W space, N tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kanvision.models.feature_locations import FeatureLocation

__all__ = ["Gradients", "Score", "class_score", "grad_cam", "integrated_gradients", "tapped"]

Score = Callable[[Tensor], Tensor]
"""Function from images (B, C, H, W) to one number each, (B,)."""

UNUSED = ("to not have been used in the graph", "does not require grad")
"""Parts of messages of torch for an output that does not depend on a tensor."""


class Gradients(NamedTuple):
    """Integrated gradients and their error of completeness."""

    attributions: Tensor
    """Attributions, (B, C, H, W); positive where a value raises the score."""
    difference: Tensor
    """Score of the image minus that of the baseline, (B,)."""
    error: Tensor
    """Sum of the attributions minus `difference`, (B,); 0 for infinitely many steps."""


def class_score(
    compute_logits: Callable[[Tensor], Tensor], channel: int, region: Tensor | None = None
) -> Score:
    """Return the score to explain: the logit of a class, for masks its mean over pixels.

    Args:
        compute_logits: Function from images (B, C, H, W) to logits (B, K) or (B, K, H, W).
        channel: Channel of the class; negative numbers count from the end.
        region: Pixels of the mean, bool (H, W); None for all.

    Raises:
        ValueError: The region is empty.
    """
    if region is not None and not region.any():
        raise ValueError("region has no pixel: no score can be taken over it")

    def score(images: Tensor) -> Tensor:
        logits = compute_logits(images)[:, channel]  # (B,) or (B, H, W)
        if logits.ndim == 1:
            return logits
        return (logits.flatten(1) if region is None else logits[:, region]).mean(dim=1)

    return score


def grad_cam(score: Score, location: FeatureLocation, images: Tensor, stride: int = 1) -> Tensor:
    """Return Grad-CAM maps: feature maps weighted by the mean gradient of the score, negative values as 0.

    CAM = relu(sum_f w_f A_f), w_f = mean over H' W' of d score / d A_f, for feature maps A (B, F, H', W');
    resized bilinearly to the image. Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks
    via Gradient-based Localization" (arXiv 1610.02391); for masks, with the mean over pixels as the score,
    Vinogradova et al. 2020, "Towards Interpretable Semantic Segmentation via Gradient-weighted Class
    Activation Mapping" (arXiv 2002.11434).

    Args:
        score: Score to explain; it calls the network that has the location.
        location: Location of the feature maps.
        images: Images, (B, C, H, W).
        stride: The network pads images at the right and below to a multiple of this.

    Returns:
        Maps, (B, H, W), not negative.

    Raises:
        ValueError: The score does not depend on the location, or its value is not a feature map.
    """
    from captum.attr import LayerAttribution, LayerGradCam

    height, width = images.shape[-2:]
    padded = (height + -height % stride, width + -width % stride)
    with tapped(location, padded) as tap:
        cams: Any = LayerGradCam(score, tap)
        try:
            maps: Tensor = cams.attribute(images, relu_attributions=True)  # (B, 1, H', W')
        except RuntimeError as error:
            if not any(sign in str(error) for sign in UNUSED):
                raise
            raise ValueError("the score does not depend on the feature maps of this location") from None
    grown: Tensor = LayerAttribution.interpolate(maps.detach(), padded, "bilinear")
    return grown[:, 0, :height, :width]


def integrated_gradients(
    score: Score, images: Tensor, baseline: Tensor, steps: int = 32, batch_size: int | None = None
) -> Gradients:
    """Return integrated gradients: gradients along the line from a baseline to the image, times the line.

    IG_i = (x_i - b_i) * integral over t in [0, 1] of d score(b + t (x - b)) / d x_i, by Gauss-Legendre
    quadrature. Sundararajan, Taly and Yan 2017, "Axiomatic Attribution for Deep Networks"
    (arXiv 1703.01365). They are complete: sum_i IG_i = score(x) - score(b), up to the quadrature.

    Args:
        score: Score to explain.
        images: Images, (B, C, H, W).
        baseline: Image without evidence, broadcastable to the images.
        steps: Number of points of the quadrature.
        batch_size: Images in one forward pass; None for all B * steps.
    """
    from captum.attr import IntegratedGradients

    start = baseline.expand_as(images).contiguous()
    method: Any = IntegratedGradients(score)
    found: Tensor = method.attribute(
        images,
        start,
        n_steps=steps,
        method="gausslegendre",
        internal_batch_size=None if batch_size is None else max(batch_size, len(images)),
    )
    found = found.detach()
    with torch.no_grad():
        difference = score(images) - score(start)
    return Gradients(found, difference, found.flatten(1).sum(dim=1) - difference)


@contextmanager
def tapped(location: FeatureLocation, size: tuple[int, int]) -> Iterator[nn.Identity]:
    """Provide a module that the feature maps of a location pass as (B, F, H', W') inside the context.

    `size` is height and width of the padded images, which give the grid of tokens.
    """
    tap = nn.Identity()

    def through(found: Tensor) -> Tensor:
        if found.ndim == 3:
            return _through_tokens(found, tap, size, location.num_prefix_tokens)
        if found.ndim != 4:
            raise ValueError(
                f"{type(location.module).__name__} has {tuple(found.shape)} there; feature maps are "
                "(B, C, H, W), (B, H, W, C) or (B, N, C)"
            )
        if location.channels_last:
            y: Tensor = tap(found.movedim(-1, 1)).movedim(1, -1)
            return y
        z: Tensor = tap(found)
        return z

    module = location.module
    if location.is_input:
        handle = module.register_forward_pre_hook(
            lambda _, args: _change_item(args, (0, *location.items), through)
        )
    else:
        handle = module.register_forward_hook(
            lambda _, args, found: _change_item(found, location.items, through)
        )
    with handle:
        yield tap


def _through_tokens(tokens: Tensor, tap: nn.Module, size: tuple[int, int], num_prefix: int) -> Tensor:
    prefix, patches = tokens[:, :num_prefix], tokens[:, num_prefix:]
    number = patches.shape[1]
    rows = round(math.sqrt(number * size[0] / size[1]))
    if rows < 1 or number % rows:
        raise ValueError(f"{number} tokens of an image of {size[0]} x {size[1]} pixels make no rectangle")
    maps = patches.transpose(1, 2).reshape(len(tokens), -1, rows, number // rows)  # (B, F, H', W')
    return torch.cat([prefix, tap(maps).flatten(2).transpose(1, 2)], dim=1)  # (B, N, F)


def _change_item(value: Any, items: tuple[int, ...], change: Callable[[Tensor], Tensor]) -> Any:
    """Return nested lists and tuples of tensors with one tensor changed, or the changed tensor."""
    if not items:
        if not isinstance(value, Tensor):
            raise ValueError(f"a {type(value).__name__} is there, and no feature map (B, C, H, W)")
        return change(value)
    parts = list(value)
    parts[items[0]] = _change_item(parts[items[0]], items[1:], change)
    return tuple(parts) if isinstance(value, tuple) else parts
