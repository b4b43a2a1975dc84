"""Files of torch.export, which torch runs without the code of the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from kanvision.export.program import FirstLogits
from kanvision.export.record import NetworkRecord

from .metadata import KEY, decode, encode

__all__ = ["read", "write"]


def write(path: Path, network: FirstLogits, program: ExportedProgram | None, record: NetworkRecord) -> None:
    """Write the graph with its weights."""
    assert program is not None
    torch.export.save(program, path, extra_files={KEY: encode(record)})


def read(path: Path) -> tuple[Callable[[Tensor], Any], NetworkRecord]:
    """Return the graph as a function, and the record of the network.

    Raises:
        RecordError: If the file has no record.
    """
    extra = {KEY: ""}
    program = torch.export.load(path, extra_files=extra)
    return program.module(), decode(extra, path)
