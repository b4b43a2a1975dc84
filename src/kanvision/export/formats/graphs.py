"""Files with the graph of a network: torch.export (pt2), and TorchScript, which torch has deprecated."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from kanvision.export.program import TRACED_BATCH, FirstLogits, random_images
from kanvision.export.record import KEY, NetworkRecord, decode, encode

__all__ = ["read_pt2", "read_torchscript", "write_pt2", "write_torchscript"]


def write_pt2(
    path: Path, network: FirstLogits, program: ExportedProgram | None, record: NetworkRecord
) -> None:
    """Write the graph with its weights."""
    assert program is not None
    torch.export.save(program, path, extra_files={KEY: encode(record)})


def read_pt2(path: Path) -> tuple[Callable[[Tensor], Any], NetworkRecord]:
    """Return the graph as a function, and the record of the network.

    Raises:
        RecordError: If the file has no record.
    """
    extra = {KEY: ""}
    program = torch.export.load(path, extra_files=extra)
    return program.module(), decode(extra, path)


def write_torchscript(
    path: Path, network: FirstLogits, program: ExportedProgram | None, record: NetworkRecord
) -> None:
    """Write the trace of the network with its weights."""
    side = record.input.img_size
    images = random_images(TRACED_BATCH, record.input.in_chans, (side, side))
    with warnings.catch_warnings(), torch.no_grad():
        # the format is deprecated, and traced conditions are compared with torch afterwards
        warnings.simplefilter("ignore")
        traced: Any = torch.jit.trace(network, images, check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, path, _extra_files={KEY: encode(record)})


def read_torchscript(path: Path) -> tuple[Callable[[Tensor], Any], NetworkRecord]:
    """Return the trace as a function, and the record of the network.

    Raises:
        RecordError: If the file has no record.
    """
    extra: dict[str, Any] = {KEY: ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced: Any = torch.jit.load(path, map_location="cpu", _extra_files=extra)  # type: ignore[no-untyped-call]
    text = extra[KEY]
    return traced, decode({KEY: text.decode() if isinstance(text, bytes) else text}, path)
