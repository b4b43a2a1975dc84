"""Weights of IvanDrokin/torch-conv-kan, the code of Drokin 2024 (arXiv 2407.01092): layers and networks."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from kanvision.checkpoints.io import CheckpointError
from kanvision.checkpoints.published.strict import Problems, Tensors

from .attention import PublishedAttention, read_part
from .linear import PublishedLinear, PublishedStack, linear_kind
from .networks import find_reader

__all__ = ["load_torch_conv_kan"]


def load_torch_conv_kan(found: Tensors, **options: Any) -> nn.Module:
    """A published layer or network, told apart by the names of its tensors.

    Args:
        found: Published tensors by name.
        **options: What the tensors do not tell, see docs/weights.md.

    Returns:
        The layer or network here, with these weights.

    Raises:
        CheckpointError: If the tensors fit nothing, or a name is missing, unexpected or of another shape.
        ValueError: If an option is not legal.
    """
    found = _without_wrappers(found)
    problems = Problems()
    if (reader := find_reader(found)) is not None:
        network = reader(found, options)
        network.compare(problems)
        problems.raise_if_any(f"a published {network.title}")
        _warn_once(network.remarks)
        return network.build()
    if any(re.match(r"layers\.\d+\.", name) for name in found):
        stack = PublishedStack(found, **options)
        stack.compare(problems)
        problems.raise_if_any(f"a stack of {len(stack.layers)} fully connected layers")
        _warn_once(stack.remarks)
        return stack.build()
    if kind := linear_kind(found):
        linear = PublishedLinear(found, kind, **options)
        problems.compare(found, linear.wanted())
        problems.raise_if_any(
            f"a fully connected {kind} layer, {linear.in_features} -> {linear.out_features}"
        )
        _warn_once(linear.remarks)
        return linear.build()
    layer = options.pop("layer", None)
    part = read_part(found, options, layer=layer)
    problems.compare(found, part.wanted())
    what = "self-attention" if isinstance(part, PublishedAttention) else f"{part.kind} convolution"
    problems.raise_if_any(f"a {what}, {part.in_channels} -> {part.out_channels} channels")
    _warn_once(part.remarks)
    return part.build()


def _without_wrappers(found: Tensors) -> dict[str, Tensor]:
    """Remove the `module` of the published L1 wrapper around a layer from names.

    Raises:
        CheckpointError: Two names become equal.
    """
    plain = {name.replace(".module.", "."): value for name, value in found.items()}
    if len(plain) < len(found):
        twice = sorted(name for name in found if name.replace(".module.", ".") != name)
        raise CheckpointError(f"tensors are there with and without a wrapper: {', '.join(twice)}")
    return plain


def _warn_once(remarks: Iterable[str]) -> None:
    """Warn of each difference from the published network once."""
    for remark in dict.fromkeys(remarks):
        warnings.warn(remark, stacklevel=4)
