"""File formats of an exported network, each with a writer and a reader.

A file holds the record of the network (`kanvision.export.NetworkRecord`) beside its weights.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor
from torch.export import ExportedProgram

from kanvision.export.program import FirstLogits
from kanvision.export.record import NetworkRecord
from kanvision.spec.evaluation import ExportFormat

from . import graphs, onnx, safetensors

__all__ = ["FORMATS", "FileFormat", "find_format"]


class FileFormat(NamedTuple):
    """Format of a file.

    Attributes:
        suffix: Ending of the file.
        write: Writes a network with its graph and its record.
        read: Returns a function from normalized images to logits, and the record.
        needs_program: The file holds the graph; otherwise the weights alone.
    """

    suffix: str
    write: Callable[[Path, FirstLogits, ExportedProgram | None, NetworkRecord], None]
    read: Callable[[Path], tuple[Callable[[Tensor], Any], NetworkRecord]]
    needs_program: bool


FORMATS: dict[ExportFormat, FileFormat] = {
    "pt2": FileFormat(".pt2", graphs.write_pt2, graphs.read_pt2, True),
    "torchscript": FileFormat(".torchscript", graphs.write_torchscript, graphs.read_torchscript, False),
    "safetensors": FileFormat(".safetensors", safetensors.write, safetensors.read, False),
    "onnx": FileFormat(".onnx", onnx.write, onnx.read, True),
}


def find_format(path: Path) -> FileFormat | None:
    """Return the format of a file by its ending; None if it is no exported network."""
    return next((item for item in FORMATS.values() if item.suffix == path.suffix.lower()), None)
