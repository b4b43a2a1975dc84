"""Files of weights alone, a third of a checkpoint, from whose record kanvision builds the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.export import ExportedProgram

from kanvision.export.program import FirstLogits
from kanvision.export.record import KEY, NetworkRecord, RecordError, decode, encode
from kanvision.layers import restore_structure

__all__ = ["build_network", "load_strictly", "read", "read_network", "read_weights", "write", "write_weights"]


def write(path: Path, network: FirstLogits, program: ExportedProgram | None, record: NetworkRecord) -> None:
    """Write the weights of the network."""
    write_weights(path, network.network, record)


def write_weights(
    path: Path, network: nn.Module, record: NetworkRecord, dtype: torch.dtype | None = None
) -> None:
    """Write the weights of a network with its record.

    Parameters get the type `dtype`, or keep theirs; buffers, such as knots and statistics, keep theirs.
    """
    learned = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    # tensors that share memory are written each, since the format allows no shared memory
    tensors = {
        name: value.detach()
        .to("cpu", dtype if name in learned and dtype else value.dtype, copy=True)
        .contiguous()
        for name, value in network.state_dict().items()
    }
    save_file(tensors, path, metadata={KEY: encode(record)})


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a file and its metadata.

    Raises:
        RecordError: If it is no file of safetensors.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise RecordError(f"{path}: cannot be read as safetensors ({error})") from None


def load_strictly(network: nn.Module, tensors: dict[str, Tensor], path: object) -> None:
    """Load weights into a network, all of them and no others.

    Raises:
        RecordError: If names or shapes differ; the message has all of them.
    """
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise RecordError(f"{path}: the weights do not fit the network: {error}") from None


def build_network(record: NetworkRecord, tensors: dict[str, Tensor], path: object) -> nn.Module:
    """Return the network of a record with weights, in evaluation mode and in float32, without gradients.

    Raises:
        RecordError: If the weights do not fit.
    """
    network = record.build()
    restore_structure(network, record.structure)
    load_strictly(network, tensors, path)
    return network.float().eval().requires_grad_(False)


def read_network(path: Path) -> tuple[nn.Module, NetworkRecord]:
    """Return the network, and its record.

    Raises:
        RecordError: If the file has no record, or the weights do not fit it.
    """
    tensors, metadata = read_weights(path)
    record = decode(metadata, path)
    return build_network(record, tensors, path), record


def read(path: Path) -> tuple[Callable[[Tensor], Any], NetworkRecord]:
    """Return the network as a function, and its record; RecordError as for `read_network`."""
    return read_network(path)
