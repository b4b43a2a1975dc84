"""The families of KAN networks at the smallest size that has all their parts."""

from typing import Any

import kanvision as kv

TINY: dict[str, tuple[str, dict[str, Any]]] = {
    "convkan": ("convkan_4", {"stages": ((4,), (4, 4), (4,))}),
    "vgg_kan": ("vgg_kan_11", {"depths": (1, 1, 1, 1, 1), "version": "v4", "width_scale": 1 / 32}),
    "res_kan": ("res_kan_18", {"depths": (1, 1, 1, 1), "width_scale": 1 / 8}),
    "res_kan_bottleneck": ("res_kan_50", {"depths": (1, 1, 1, 1), "width_scale": 1 / 8}),
    "dense_kan": ("dense_kan_121", {"depths": (1, 2, 1, 1), "width_scale": 1 / 16}),
    "dense_kan_tiny": ("dense_kan_tiny", {"depths": (2, 1, 1), "width_scale": 1 / 16}),
    "rd_kan": ("rd_kan_tiny", {"growths": (4, 4, 4, 4), "halvings": (1, 2, 3), "depths": 1, "stem_width": 4}),
}
"""A registered name and arguments, by family."""


def tiny(family: str, **kwargs: Any):
    """A model of three classes that trains in a moment."""
    name, small = TINY[family]
    return kv.create_model(name, **{**small, "num_classes": 3, **kwargs})
