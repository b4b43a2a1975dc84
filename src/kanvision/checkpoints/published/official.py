"""Officially published weights, by the name of their source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from .efficient_kan import load_efficient_kan
from .kat import load_flashkat, load_kat
from .strict import read_tensors
from .torch_conv_kan.load import load_torch_conv_kan
from .ukan import load_crop_ukan, load_ukan

__all__ = ["SOURCES", "load_official"]

SOURCES: dict[str, Callable[..., nn.Module]] = {
    "torch-conv-kan": load_torch_conv_kan,
    "efficient-kan": load_efficient_kan,
    "u-kan": load_ukan,
    "crop-u-kan": load_crop_ukan,
    "kat": load_kat,
    "flashkat": load_flashkat,
}
"""Name -> function of published tensors and options, which returns a module."""


def load_official(
    path_or_state_dict: str | Path | Mapping[str, Any], source: str, **options: Any
) -> nn.Module:
    """Build the layer or network that published weights belong to, and load them strictly.

    Kind, sizes and norms are told from the names and shapes of the tensors. What those do not tell (the
    stride, for instance) is an option, with the published default.

    Args:
        path_or_state_dict: A file (safetensors, or of torch: only tensors are accepted), a folder with one,
            or tensors by name.
        source: Who published them: a key of `SOURCES`.
        **options: Of the source; a wrong one is refused with the list of the legal ones.

    Returns:
        The module, in evaluation mode. Every published tensor is in it, and nothing is left at its start.

    Raises:
        ValueError: If the source or an option is not known, or contradicts the tensors.
        CheckpointError: If the file is missing, damaged or unsafe, or if tensors are missing, unexpected or
            of another shape; the message names all of them.

    Example:
        >>> model = load_official("model.safetensors", source="torch-conv-kan")  # doctest: +SKIP
    """
    if source not in SOURCES:
        raise ValueError(f"source={source!r} is not known; legal values: {', '.join(SOURCES)}")
    return SOURCES[source](read_tensors(path_or_state_dict), **options).eval()
