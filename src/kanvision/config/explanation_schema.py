"""Keys of `explain`: how `eval.py mode=explain` looks for reasons."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .section import Count, Section

Method = Literal["grad_cam", "integrated_gradients"]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]
_METHODS: list[Method] = ["grad_cam", "integrated_gradients"]


class ExplanationConfig(Section):
    """What mode=explain explains, and how."""

    num_images: Count | None = 16
    """Images of the split, spread evenly over it; null: all."""
    methods: list[Method] = Field(default_factory=lambda: _METHODS.copy(), min_length=1)
    """Methods; chance, a map of random numbers, is always measured along with them."""
    layers: Annotated[list[str], Field(min_length=1)] | None = None
    """Places of Grad-CAM: encoder_last, bottleneck, decoder_last, paths of modules; null: all that differ."""
    classes: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = None
    """Classes by number; null: the foreground classes of an image, or the predicted class."""
    region: Literal["image", "predicted"] = "image"
    """Pixels whose logits are explained, for masks: all, or those that were said to be the class."""
    baseline: Literal["mean", "black"] = "mean"
    """What removed pixels and channels become: the mean of the data (0 after normalisation), or black."""
    steps: Count = 64
    """Points of the quadrature of integrated gradients."""
    threshold: Literal["otsu"] | Share = "otsu"
    """How a map becomes a set of pixels: Otsu's threshold of each map, or the share of pixels to take."""
    border: Count = 2
    """Pixels on each side of a mask's edge that count as its border."""
    channels: bool = True
    """Measure what each channel is worth: one more pass of the network and Grad-CAM for each."""
    pictures: Count | None = 16
    """Images to draw, at most; null: all that are explained."""
