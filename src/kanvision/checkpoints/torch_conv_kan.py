"""Weights of IvanDrokin/torch-conv-kan, the code of Drokin 2024 (arXiv 2407.01092): layers and networks."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from .io import CheckpointError
from .strict import Problems, Tensors
from .torch_conv_kan_conv import PublishedConv, conv_kind
from .torch_conv_kan_linear import PublishedLinear, PublishedStack, linear_kind

__all__ = ["load_torch_conv_kan"]


def load_torch_conv_kan(found: Tensors, *, layer: str | None = None, **options: Any) -> nn.Module:
    """A published layer or network, told apart by the names of its tensors.

    Args:
        found: Published tensors by name.
        layer: Name of the published layer, where the tensors fit several: "kaln", "kajn", "kabn".
        **options: What the tensors do not tell, see docs/weights.md.

    Returns:
        The layer or network here, with these weights.

    Raises:
        CheckpointError: If the tensors fit nothing, or a name is missing, unexpected or of another shape.
        ValueError: If an option is not legal.
    """
    found = without_wrappers(found)
    published: PublishedConv | PublishedLinear | PublishedStack
    problems = Problems()
    if any(re.match(r"layers\.\d+\.", name) for name in found):
        published = PublishedStack(found, **options)
        published.compare(problems)
        what = f"a stack of {len(published.layers)} fully connected layers"
    elif kind := linear_kind(found):
        published = PublishedLinear(found, kind, **options)
        problems.compare(found, published.wanted())
        what = f"a fully connected {kind} layer, {published.in_features} -> {published.out_features}"
    else:
        published = PublishedConv(found, conv_kind(found, layer), **options)
        problems.compare(found, published.wanted())
        what = f"a {published.kind} convolution, {published.in_channels} -> {published.out_channels} channels"
    problems.raise_for(what)
    warn_of(published.remarks)
    return published.build()


def without_wrappers(found: Tensors) -> dict[str, Tensor]:
    """Names without the `module` of the published L1 wrapper around a layer.

    Raises:
        CheckpointError: If two names become one.
    """
    plain = {name.replace(".module.", "."): value for name, value in found.items()}
    if len(plain) < len(found):
        twice = sorted(name for name in found if name.replace(".module.", ".") != name)
        raise CheckpointError(f"tensors are there with and without a wrapper: {', '.join(twice)}")
    return plain


def warn_of(remarks: Iterable[str]) -> None:
    """Warn of what is not as published, once each."""
    for remark in dict.fromkeys(remarks):
        warnings.warn(remark, stacklevel=4)
