"""Record of a trained network: what its use needs beside the weights, as plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from torch import nn

from kanvision.models import BUILDERS, AttentionTransfer, kanify
from kanvision.spec.data import Interpolation, PreprocessingName
from kanvision.spec.models import SOURCES
from kanvision.spec.tasks import Kind, MaskMode

from .errors import ExportError

__all__ = ["KEY", "InputRecord", "NetworkRecord", "RecordError", "decode", "encode"]

FORMAT = 1
"""Version of the record; a reader refuses others."""
KEY = "kanvision"
"""Entry of the metadata of a file that holds the record."""
Record = TypeVar("Record")


class RecordError(ExportError):
    """A record is missing, incomplete, or of another version."""


@dataclass(frozen=True)
class InputRecord:
    """Preprocessing of the images of a network.

    Attributes:
        in_chans: Number of channels, C.
        img_size: Side of the image in pixels, S.
        mean: Mean of each channel, in units of [0, 1].
        std: Standard deviation of each channel, in units of [0, 1].
        interpolation: Interpolation by which images are resized.
        crop_pct: Share of the resized image that the center crop keeps; 1 for masks.
        preprocessing: Name of the preprocessing of images with masks.
        bands: Bands of a file to use, counted from 1; None: all.
        max_value: Stored value that becomes 1; None: by the type of the file.
    """

    in_chans: int
    img_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Interpolation = "bilinear"
    crop_pct: float = 1.0
    preprocessing: PreprocessingName = "default"
    bands: tuple[int, ...] | None = None
    max_value: float | None = None


@dataclass(frozen=True)
class NetworkRecord:
    """Network with its task, and the run that trained it.

    Attributes:
        kind: Kind of the network.
        name: Registered name.
        arguments: Arguments of its builder.
        input: Preprocessing of its images.
        num_classes: Number of classes, background included for multiclass masks.
        mode: Kind of masks; None: classes of images.
        class_names: Names of the classes; empty if they are not known.
        thresholds: Threshold of each foreground class of binary and multilabel masks.
        kanify: Arguments of `kanify`; empty: the network stays as it is built.
        teacher: Kind, name, arguments and `kanify` of the network whose attention is used; empty: none.
        structure: Changes of structure, such as refined grids, see `kanvision.layers.restore_structure`.
        config: Configuration of the run that trained the network.
        facts: Facts about the run: commit, versions, scores.
    """

    kind: Kind
    name: str
    arguments: dict[str, Any]
    input: InputRecord
    num_classes: int
    mode: MaskMode | None = None
    class_names: tuple[str, ...] = ()
    thresholds: tuple[float, ...] = ()
    kanify: dict[str, Any] = field(default_factory=dict)
    teacher: dict[str, Any] = field(default_factory=dict)
    structure: list[Any] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """Return the network with fresh weights, without its changes of structure."""
        network = _build(self.kind, self.name, self.arguments, self.kanify)
        if not self.teacher:
            return network
        return AttentionTransfer(_build(**self.teacher), network)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain values for a json file."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self), allow_nan=False))
        return {"format": FORMAT, **values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: object) -> NetworkRecord:
        """Return the record from the plain values of `to_dict`; messages name the source.

        Raises:
            RecordError: If entries are missing or unknown, or of another version.
        """
        values = dict(values)
        if (version := values.pop("format", None)) != FORMAT:
            raise RecordError(f"{source}: the record has format={version}; this version reads {FORMAT}")
        values["input"] = _parse(InputRecord, values.get("input") or {}, f"{source}: input")
        return _parse(cls, values, str(source))


def encode(record: NetworkRecord) -> str:
    """Return a record as json."""
    return json.dumps(record.to_dict())


def decode(metadata: Mapping[str, str], path: object) -> NetworkRecord:
    """Return the record in the metadata of a file.

    Raises:
        RecordError: If there is none, or this version does not know it.
    """
    if not metadata.get(KEY):
        raise RecordError(f"{path}: carries no record of a network, so mode=export did not write it")
    try:
        values = json.loads(metadata[KEY])
    except ValueError as error:
        raise RecordError(f"{path}: its record is no json ({error})") from None
    return NetworkRecord.from_dict(values, path)


def _build(kind: Kind, name: str, arguments: Mapping[str, Any], changes: Mapping[str, Any]) -> nn.Module:
    if kind not in BUILDERS:
        raise RecordError(f"kind={kind!r}: legal: {', '.join(BUILDERS)}")
    if ":" in name or _names_source(arguments):
        # a record may come from anywhere, and only the weights beside it are read
        raise RecordError(f"the record of {name} names another source of weights; nothing was read from it")
    network = BUILDERS[kind](name, **arguments)
    if changes:
        kanify(network, **changes)
    return network


def _names_source(value: Any) -> bool:
    """Return True if arguments name, at any depth, files or addresses of weights."""
    if isinstance(value, Mapping):
        return any(key in SOURCES or _names_source(item) for key, item in value.items())
    return isinstance(value, list | tuple) and any(map(_names_source, value))


def _parse(cls: type[Record], values: Mapping[str, Any], source: str) -> Record:
    """Return a dataclass of plain values, whose lists become tuples where the dataclass has tuples."""
    known = {item.name: item for item in fields(cls)}  # type: ignore[arg-type]
    unknown = [name for name in values if name not in known]
    try:
        if unknown:
            raise TypeError(f"unknown entries {', '.join(unknown)}")
        tuples = {name for name, item in known.items() if str(item.type).startswith("tuple")}
        return cls(
            **{
                name: tuple(value) if name in tuples and value is not None else value
                for name, value in values.items()
            }
        )
    except TypeError as error:
        raise RecordError(f"{source}: no record of a network ({error})") from None
