"""What all blocks of the configuration share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, get_args

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
        use_attribute_docstrings=True,
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
