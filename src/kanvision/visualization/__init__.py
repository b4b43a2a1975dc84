"""Pictures: images and masks as RGB arrays, charts of learned functions."""

from .images import PALETTE, overlay_mask, to_uint8_rgb

__all__ = ["PALETTE", "overlay_mask", "to_uint8_rgb"]
