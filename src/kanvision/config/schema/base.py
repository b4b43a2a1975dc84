"""Base classes and number types of all sections of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from kanvision.spec.models import without_sources
from kanvision.spec.tasks import Kind

Rate = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PluginNames = Annotated[
    list[str], BeforeValidator(lambda names: [names] if isinstance(names, str) else names)
]


class Section(BaseModel):
    """Section of the configuration; unknown keys are errors."""

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
        """Replace booleans by texts where no boolean is legal, so that `seed=true` is an error and not 1."""
        if not isinstance(values, Mapping):
            return values
        takes_no_bool = _keys_without_bools(cls)
        return {
            key: str(value).lower() if isinstance(value, bool) and key in takes_no_bool else value
            for key, value in values.items()
        }


@cache
def _keys_without_bools(section: type[Section]) -> frozenset[str]:
    """Return the keys of a section for which true and false are illegal."""
    return frozenset(key for key, field in section.model_fields.items() if not _takes_bool(field.annotation))


def _takes_bool(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(_takes_bool(part) for part in get_args(annotation))


Model = TypeVar("Model", bound="ModelConfig")
WIDTHS = ("width_scale", "embed_dim")
"""Keys that scale the width of all layers of a network."""
MATCH = r"^(params|flops):\d+(\.\d*)?([eE]\+?\d+)?$"


class ModelConfig(Section):
    """Keys of every model."""

    takes_basis: ClassVar[bool] = False
    """Whether the layers of the network expand their inputs in a basis of the user's choice."""
    has_kan_layers: ClassVar[bool] = True
    """Whether the network has layers with learned functions as it is built."""
    has_residual_branches: ClassVar[bool] = True
    """Whether stochastic depth has branches to leave out."""
    registered_prefixes: ClassVar[tuple[str, ...] | None] = None
    """Starts of the names that kanvision adds to timm's registry for this family; None: the family's name."""
    in_name: ClassVar[frozenset[str]] = frozenset({"size"})
    """Keys that are parts of the name of the model and no arguments of its constructor."""
    after_building: ClassVar[frozenset[str]] = frozenset()
    """Keys that apply to the built network and are no arguments of its constructor."""
    null_is_a_value: ClassVar[frozenset[str]] = frozenset()
    """Keys whose null is passed on to the model; a null of other keys means the default of the model."""

    name: str
    """Name in the registry of timm, which has the models of kanvision too."""
    kind: Kind
    """Kind of the model, which must fit the task of the data."""
    num_classes: Count | None
    """Number of outputs; by default that of the data."""
    in_chans: Count
    """Number of input channels; by default that of the data."""
    drop_rate: Rate = 0.0
    """Dropout rate before the classifier."""
    drop_path_rate: Rate = 0.0
    """Rate of stochastic depth at the last block; it rises linearly from 0 at the first."""
    match: Annotated[str, Field(pattern=MATCH)] | None = None
    """Budget that determines the width of the network, the nearest width to it: params:<number> or
    flops:<number of one image>; null: the width that the other keys give."""
    matched_width: Positive | None = None
    """Width that model.match has found, in place of width_scale or embed_dim; the run fills it in."""
    grad_checkpointing: bool | None = None
    """true: compute activations again in the backward pass, with the same results: less memory, longer steps:
    docs/speed.md; false: keep all of them; null: as the network is built, which keeps them except for
    dense_kan of size tiny."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the constructor of the model."""

    @classmethod
    def width_key(cls) -> str | None:
        """Return the key that scales the width of all layers; None if the family has none."""
        return next((key for key in WIDTHS if key in cls.model_fields), None)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `create_model` without the name and without unset keys."""
        others = {"family", "name", "kind", "kwargs", "match", "matched_width", "grad_checkpointing"}
        others |= self.in_name | self.after_building
        values = self.model_dump(exclude=others)
        given = {
            key: value for key, value in values.items() if value is not None or key in self.null_is_a_value
        }
        if self.matched_width is not None and (key := self.width_key()) is not None:
            given[key] = int(self.matched_width) if key == "embed_dim" else self.matched_width
        return {**given, **self.kwargs}

    def without_weights(self: Model) -> Model:
        """Return the same model without sources of weights, for weights from a checkpoint."""
        unloaded: dict[str, Any] = {"pretrained": False, "encoder_weights": None}
        changes = {key: value for key, value in unloaded.items() if hasattr(self, key)}
        return self.model_copy(update={**changes, "kwargs": without_sources(self.kwargs)})
