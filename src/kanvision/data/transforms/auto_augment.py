"""Automatic augmentation policies of torchvision by short name, beside those of timm."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image
from torchvision.transforms import AutoAugment, AutoAugmentPolicy, RandomChoice, TrivialAugmentWide

__all__ = ["POLICIES", "build_torchvision_policy"]

Policy = Callable[[Image.Image], Image.Image]

POLICIES: dict[str, Callable[[], Policy]] = {
    "tv-cifar10": lambda: AutoAugment(AutoAugmentPolicy.CIFAR10),
    "tv-imagenet": lambda: AutoAugment(AutoAugmentPolicy.IMAGENET),
    "tv-svhn": lambda: AutoAugment(AutoAugmentPolicy.SVHN),
    "tv-trivial": TrivialAugmentWide,
}
"""AutoAugment (Cubuk et al. 2019, arXiv 1805.09501) as learned on three data sets, and TrivialAugment (Müller
and Hutter 2021, arXiv 2103.10158)."""


def build_torchvision_policy(text: str | None) -> Policy | None:
    """Return the policy that a text names; of several names joined by +, one is drawn for each image.

    Args:
        text: tv-trivial, or tv-cifar10+tv-svhn, and so on.

    Returns:
        The policy; None if the text does not begin with tv-, so that it names a policy of timm.

    Raises:
        ValueError: If a name is unknown.
    """
    if text is None or not text.startswith("tv-"):
        return None
    names = text.split("+")
    unknown = [name for name in names if name not in POLICIES]
    if unknown:
        raise ValueError(
            f"augment.auto_augment={text}: unknown {', '.join(unknown)}; "
            f"legal, joined by +: {', '.join(POLICIES)}"
        )
    policies = [POLICIES[name]() for name in names]
    policy: Policy = policies[0] if len(policies) == 1 else RandomChoice(policies)
    return policy
