"""Weights alone, in a file of safetensors with the record of their network, read as a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

__all__ = ["SUFFIX", "read_weights"]

SUFFIX = ".safetensors"
KEY = "kanvision"
"""Entry of the metadata with the record, see `kanvision.export.NetworkRecord`."""
STATE = ("config", "class_names", "thresholds", "structure")
"""Entries of the record that a checkpoint has too."""


def read_weights(path: Path) -> dict[str, Any]:
    """Return the content of a file as that of a checkpoint of a training run.

    Raises:
        ValueError: If it is no file of safetensors, or holds no record.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: cannot be read as safetensors ({error})") from None
    record = json.loads(metadata.get(KEY, "{}"))
    state = {name: record[name] for name in STATE if record.get(name)}
    return {"state_dict": tensors, KEY: state}
