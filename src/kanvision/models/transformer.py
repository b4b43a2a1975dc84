"""Common parts of the registered vision transformers: patch size, default configuration and builder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import VisionTransformer, build_model_with_cfg

__all__ = ["build_transformer", "choose_patch_size", "transformer_cfg"]

LARGEST_PATCH = 16
LEAST_TOKENS = 7  # a side; 28 pixels then have patches of 4
MOST_TOKENS = 64  # a side, with patches smaller than the largest


def choose_patch_size(img_size: int | Sequence[int]) -> int:
    """Return the largest patch size up to 16 that divides the image and leaves at least 7 tokens a side.

    224 -> 16, 64 -> 8, 32 -> 4, 28 -> 4, 8 -> 1; an image below 7 pixels a side has patches of 1.

    Args:
        img_size: Side of the image in pixels, or (height, width).

    Raises:
        ValueError: The size is not positive, or only a patch so small divides it that more than 64 tokens a
            side remain.
    """
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    if height < 1 or width < 1:
        raise ValueError(f"img_size={img_size} must be positive.")
    candidates = range(min(LARGEST_PATCH, min(height, width) // LEAST_TOKENS), 1, -1)
    patch = next((size for size in candidates if height % size == 0 and width % size == 0), 1)
    if patch < LARGEST_PATCH and max(height, width) // patch > MOST_TOKENS:
        raise ValueError(
            f"img_size={img_size} would be cut into {height // patch} x {width // patch} patches of {patch} "
            f"pixels; give patch_size, or an img_size with a larger divisor up to {LARGEST_PATCH}."
        )
    return patch


def transformer_cfg(img_size: int) -> dict[str, Any]:
    """Return the default configuration, in timm's terms, of a transformer for images of this size."""
    return {
        "num_classes": 1000,
        "input_size": (3, img_size, img_size),
        "fixed_input_size": True,
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
    }


def build_transformer(
    model_cls: type[VisionTransformer],
    variant: str,
    pretrained: bool,
    *,
    depth: int,
    img_size: int | Sequence[int],
    patch_size: int | Sequence[int] | None = None,
    out_indices: int | Sequence[int] | None = None,
    **kwargs: Any,
) -> Any:
    """Build a model, or with `features_only` its feature extractor, by timm's builder.

    Args:
        model_cls: VisionTransformer of timm or a subclass.
        variant: Registered name of the model.
        pretrained: Load published weights (timm reports that there are none).
        depth: Number of blocks.
        img_size: Side of the image in pixels, or (height, width).
        patch_size: Side of a patch; None is `choose_patch_size(img_size)`.
        out_indices: Indices of the blocks whose outputs `features_only` returns; None for the last three.
        **kwargs: Arguments of the model and of timm's builder.
    """
    return build_model_with_cfg(
        model_cls,
        variant,
        pretrained,
        feature_cfg={
            "out_indices": min(3, depth) if out_indices is None else out_indices,
            "feature_cls": "getter",
        },
        depth=depth,
        img_size=img_size,
        patch_size=choose_patch_size(img_size) if patch_size is None else patch_size,
        **kwargs,
    )
