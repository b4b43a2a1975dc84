"""Names of the outputs of a network."""

from __future__ import annotations

from collections.abc import Sequence

from kanvision.spec.tasks import MaskMode

__all__ = ["name_outputs"]


def name_outputs(
    class_names: Sequence[str], num_classes: int, mode: MaskMode | None = None
) -> tuple[str, ...]:
    """Return a name for each probability: that of its class, or a number if the names are not known.

    Args:
        class_names: Names of the classes; empty or of another number: not known.
        num_classes: Number of classes, background included for multiclass masks.
        mode: Kind of masks, of which binary ones have the probability of the foreground alone; None: classes
            of images.
    """
    if mode == "binary":
        return tuple(class_names[-1:]) or ("foreground",)
    if len(class_names) == num_classes:
        return tuple(class_names)
    return tuple(str(number) if mode is None else f"class_{number}" for number in range(num_classes))
