"""What all blocks of the configuration share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Rate = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Task = Literal["classification", "segmentation"]
Kind = Literal["classifier", "segmenter"]
Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu", "xpu"]
Precision = Literal["32-true", "16-mixed", "bf16-mixed", "bf16-true", "16-true", "64-true"]


class Section(BaseModel):
    """A block of the configuration; refuses keys that it does not know."""

    model_config = ConfigDict(
        extra="forbid",
        defer_build=True,  # a run needs one of the roots
        protected_namespaces=(),
        frozen=True,
        coerce_numbers_to_str=True,  # run.name=2024 is a text, though yaml reads a number
        allow_inf_nan=False,
    )

    @model_validator(mode="before")
    @classmethod
    def _true_is_no_number(cls, values: Any) -> Any:
        """Spell out booleans where none is legal, so that `seed=true` is refused rather than taken for 1."""
        if not isinstance(values, Mapping):
            return values
        takes_no_bool = _keys_without_bools(cls)
        return {
            key: str(value).lower() if isinstance(value, bool) and key in takes_no_bool else value
            for key, value in values.items()
        }


@cache
def _keys_without_bools(section: type[Section]) -> frozenset[str]:
    """Return the keys of a section that may not be true or false."""
    return frozenset(key for key, field in section.model_fields.items() if not _takes_bool(field.annotation))


def _takes_bool(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(_takes_bool(part) for part in get_args(annotation))


Model = TypeVar("Model", bound="ModelConfig")
SOURCES = frozenset(
    {
        *("pretrained", "checkpoint_path", "cache_dir", "encoder_weights", "pretrained_model_args"),
        *("url", "file", "hf_hub_id", "hf_hub_filename", "source", "state_dict", "custom_load"),
    }
)
"""Arguments, at any depth, by which timm and segmentation-models-pytorch fetch weights or read files."""


def without_sources(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of a model without those that name where weights come from, at any depth."""

    def inner(value: Any) -> Any:
        if isinstance(value, Mapping):
            return without_sources(value)
        return [inner(item) for item in value] if isinstance(value, list | tuple) else value

    return {name: inner(value) for name, value in values.items() if name not in SOURCES}


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

    def without_weights(self: Model) -> Model:
        """Return the same model with nothing to fetch or to read, for weights that come from a checkpoint."""
        unloaded: dict[str, Any] = {"pretrained": False, "encoder_weights": None}
        changes = {key: value for key, value in unloaded.items() if hasattr(self, key)}
        return self.model_copy(update={**changes, "kwargs": without_sources(self.kwargs)})
