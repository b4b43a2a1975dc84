"""Error and check for outputs that are not finite."""

from __future__ import annotations

from kanvision.metrics import NonFiniteImages

__all__ = ["NonFiniteError", "check_finite_scores"]


class NonFiniteError(RuntimeError):
    """The error of a loss, a gradient or a model output that is not finite."""


def check_finite_scores(metric: NonFiniteImages, stage: str) -> None:
    """Reset the count of images without finite outputs, and check on all ranks that it was zero.

    Args:
        metric: Count of images for which the model's output or loss is not finite.
        stage: Name of the stage, for the message.

    Raises:
        NonFiniteError: If there is such an image.
    """
    num_bad, num_images = map(int, metric.compute())
    metric.reset()
    if num_bad:
        raise NonFiniteError(
            f"{stage}: the output of the network or its loss is not finite (NaN or infinity) for {num_bad} "
            f"of {num_images} images, so there is no score. Check data.mean and data.std, the values of the "
            "images, and trainer.precision; train.py debug=nan finds the operation"
        )
