"""Record of a network as the text in the metadata of a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from kanvision.export.record import NetworkRecord, RecordError

__all__ = ["KEY", "decode", "encode"]

KEY = "kanvision"
"""Entry of the metadata that holds the record."""


def encode(record: NetworkRecord) -> str:
    """Return a record as json."""
    return json.dumps(record.to_dict())


def decode(metadata: Mapping[str, str], path: Path) -> NetworkRecord:
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
