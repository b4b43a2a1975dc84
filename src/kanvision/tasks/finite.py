"""The error of a run whose numbers are none."""

from __future__ import annotations

from kanvision.metrics import NonFiniteImages

__all__ = ["NonFiniteError", "require_scores"]


class NonFiniteError(RuntimeError):
    """A loss, a gradient or the output of a network is not finite."""


def require_scores(counted: NonFiniteImages, stage: str) -> None:
    """Reset a count, and raise an error on all processes if it is not zero.

    Args:
        counted: Images for which the network gave no numbers.
        stage: Where they were counted, for the message.

    Raises:
        NonFiniteError: There is such an image.
    """
    bad, seen = map(int, counted.compute())
    counted.reset()
    if bad:
        raise NonFiniteError(
            f"{stage}: the output of the network or its loss is not finite (NaN or infinity) for {bad} "
            f"of {seen} images, so there is no score. Look at data.mean and data.std, at the values of "
            "the images, and at trainer.precision; train.py debug=nan finds the operation"
        )
