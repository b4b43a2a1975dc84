"""Keys that every model has."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from .section import Count, Kind, Rate, Section

__all__ = ["ModelConfig"]


class ModelConfig(Section):
    """Keys that every model has."""

    takes_basis: ClassVar[bool] = False
    in_name: ClassVar[frozenset[str]] = frozenset({"size"})
    """Keys that the name of the model is made of, so that its constructor does not take them."""
    after_building: ClassVar[frozenset[str]] = frozenset()
    """Keys of what is done to a network that was built, so that its constructor does not take them either."""
    null_is_a_value: ClassVar[frozenset[str]] = frozenset()
    """Keys whose null the model itself understands; null elsewhere leaves the choice to the model."""

    name: str
    """Name in the registry (timm's own, where kanvision's models are registered too)."""
    kind: Kind
    """What the model does; must fit the data's task."""
    num_classes: Count | None
    """Number of outputs; comes from the data."""
    in_chans: Count
    """Number of input channels; comes from the data."""
    drop_rate: Rate = 0.0
    """Dropout before the classifier."""
    drop_path_rate: Rate = 0.0
    """Stochastic depth, rising linearly to this rate at the last block."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """More arguments of the model's constructor, passed on as they are."""

    def arguments(self) -> dict[str, Any]:
        """Arguments for `create_model` beside the name; unset ones are left to the model's own defaults."""
        others = {"family", "name", "kind", "kwargs", *self.in_name, *self.after_building}
        values = self.model_dump(exclude=others)
        given = {
            key: value for key, value in values.items() if value is not None or key in self.null_is_a_value
        }
        return {**given, **self.kwargs}
