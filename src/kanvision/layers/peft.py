"""Parameter-efficient fine-tuning: add adapters to KAN layers, and merge them exactly.

Both are structural changes too, which a checkpoint of `train.py` carries:
`change_structure(model, "add_adapters", "", extra_degrees=1, degrees=[2, 3])`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from kanvision.bases import Basis, GramBasis
from kanvision.bases.orthogonal import PolynomialBasis

from .adapters import ADAPTED, AdaptedGramBasis, AdaptedKANLayer, KANAdapter
from .base import KANLayer
from .structure import structural_change

__all__ = ["add_adapters", "merge_adapters"]

_Model = TypeVar("_Model", bound=nn.Module)
_PLAIN = {adapted: plain for plain, adapted in ADAPTED.items()}


class _Plan(NamedTuple):
    """Layer and its replacement."""

    layer: KANLayer
    basis: Basis
    adapter: KANAdapter


def add_adapters(
    model: _Model,
    *,
    extra_degrees: int = 0,
    degrees: Sequence[int] = (),
    adapter_rank: int = 0,
    base_rank: int = 0,
    train_base: bool = False,
    train_norms: bool = True,
    match: str | None = None,
) -> _Model:
    """Freeze the KAN layers of a model and add trainable adapters, in place.

    Outputs are unchanged until training. Parameters outside of these layers keep their `requires_grad`, so
    that a new classifier is trained. Without any addition only the norms of the layers are trained.

    Drokin 2024, "Kolmogorov-Arnold Convolutions" (arXiv 2407.01092), section on fine-tuning: extra degrees
    and chosen degrees of Gram layers; here for every basis, with low-rank terms in addition.

    Args:
        model: Model, or a layer.
        extra_degrees: Degrees to add to a polynomial basis, with new weights.
        degrees: Degrees (for other bases: indices of functions) whose weights have a trainable delta. For a
            Gram basis the recurrence factors of the chosen and the extra degrees have one too.
        adapter_rank: Rank of a low-rank term on the basis weights; 0 for none.
        base_rank: Rank of a low-rank term on the base weights; 0 for none.
        train_base: Train the base weights themselves.
        train_norms: Train the norms inside the layers.
        match: Regular expression; only layers whose name contains a match are adapted.

    Returns:
        The model. Build the optimizer afterwards.

    Raises:
        ValueError: An argument is not legal, no layer matches, or a layer cannot have the additions or has
            adapters already. The model is then unchanged.
    """
    counts = {"extra_degrees": extra_degrees, "adapter_rank": adapter_rank, "base_rank": base_rank}
    for key, count in counts.items():
        if count < 0:
            raise ValueError(f"{key}={count} must be at least 0")
    if len(set(degrees)) != len(degrees):
        raise ValueError(f"degrees={tuple(degrees)} contains a degree twice")
    if train_base and base_rank:
        raise ValueError(f"base_rank={base_rank} adapts frozen base weights; train_base=True trains them")
    layers = _kan_layers(model, match)
    if (train_base or base_rank) and all(layer.base_weight is None for layer in layers.values()):
        raise ValueError(
            f"train_base={train_base}, base_rank={base_rank}: none of these layers has a base branch"
        )
    plans = [
        _planned(name, layer, extra_degrees, sorted(degrees), adapter_rank, base_rank)
        for name, layer in layers.items()
    ]
    for plan in plans:
        _adapt(plan, train_base, train_norms)
    return model


def merge_adapters(model: _Model) -> _Model:
    """Replace adapted layers by plain layers with the same outputs, in place.

    A layer of degree d with e extra degrees becomes one of degree d + e. Parameters that `add_adapters` froze
    are trainable again.

    Returns:
        The model. Its parameters are new, so build the optimizer afterwards.

    Raises:
        ValueError: There are no adapters.
    """
    layers = [module for module in model.modules() if isinstance(module, AdaptedKANLayer)]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no adapters to merge")
    for layer in layers:
        _merge(layer)
    return model


@structural_change("add_adapters")
def _add(model: nn.Module, layer: str, **arguments: Any) -> None:
    add_adapters(model.get_submodule(layer), **arguments)


@structural_change("merge_adapters")
def _merge_all(model: nn.Module, layer: str) -> None:
    merge_adapters(model.get_submodule(layer))


def _kan_layers(model: nn.Module, match: str | None) -> dict[str, KANLayer]:
    try:
        pattern = re.compile(match or "")
    except re.error as error:
        raise ValueError(f"match={match!r} is not a regular expression: {error}") from None
    layers = {name: module for name, module in model.named_modules() if isinstance(module, KANLayer)}
    found = {name: layer for name, layer in layers.items() if pattern.search(name)}
    if not found:
        names = ", ".join(list(layers)[:8]) + (", ..." if len(layers) > 8 else "")
        raise ValueError(f"match={match!r} is in no name of a KAN layer; these are: {names or 'none'}")
    return found


def _planned(
    name: str, layer: KANLayer, extra_degrees: int, degrees: list[int], rank: int, base_rank: int
) -> _Plan:
    """Check one layer and build its replacement before anything is changed."""
    who = f"layer {name!r}" if name else "the layer"
    if isinstance(layer, AdaptedKANLayer):
        raise ValueError(f"{who} has adapters already; call merge_adapters(model) first")
    if type(layer) not in ADAPTED:
        known = ", ".join(cls.__name__ for cls in ADAPTED)
        raise ValueError(f"{who} is a {type(layer).__name__}; adapters fit {known}; choose layers by match")
    basis = layer.basis
    if degrees and not (degrees[0] >= 0 and degrees[-1] < basis.num_basis):
        raise ValueError(
            f"degrees={tuple(degrees)}: {who} has the basis functions 0 to {basis.num_basis - 1}"
        )
    if extra_degrees and not isinstance(basis, PolynomialBasis):
        raise ValueError(
            f"extra_degrees={extra_degrees}: the basis of {who}, {type(basis).__name__}, is no family of "
            "polynomials of rising degree; use degrees or adapter_rank"
        )
    for key, value, weight in (
        ("adapter_rank", rank, layer.basis_weight),
        ("base_rank", base_rank, layer.base_weight),
    ):
        if weight is not None and value > (most := min(weight.flatten(1).shape)):
            raise ValueError(f"{key}={value}: the weights of {who} have a rank of at most {most}")
    adapter = KANAdapter(
        layer,
        extra_degrees=extra_degrees,
        degrees=degrees,
        rank=rank,
        base_rank=base_rank if layer.base_weight is not None else 0,
    )
    return _Plan(layer, _adapted_basis(layer, degrees, extra_degrees), adapter)


def _adapted_basis(layer: KANLayer, degrees: list[int], extra: int) -> Basis:
    """Return the basis with `extra` more functions; for a Gram basis, with deltas for new degrees."""
    basis = layer.basis
    if extra:
        # A copy: the basis may be shared with other layers.
        basis = cast(PolynomialBasis, basis).extended(extra)
    if isinstance(basis, GramBasis):
        adapted = [*degrees, *range(layer.basis.num_basis, basis.num_basis)]
        steps = sorted({degree - 1 for degree in adapted if degree >= 2})
        if steps:
            basis = AdaptedGramBasis.adapt(basis if extra else copy.deepcopy(basis), steps)
    return basis.to(layer.basis_weight.dtype) if basis is not layer.basis else basis


def _adapt(plan: _Plan, train_base: bool, train_norms: bool) -> None:
    layer = plan.layer
    kept = {id(layer.base_weight)} if train_base else set()
    if train_norms:
        kept |= {id(parameter) for norm in (layer.norm, layer.input_norm) for parameter in norm.parameters()}
    layer.basis = plan.basis
    frozen = []
    for name, parameter in layer.named_parameters():
        if parameter.requires_grad and id(parameter) not in kept and name != "basis.beta_delta":
            frozen.append(name)
            parameter.requires_grad_(False)
    layer.__class__ = ADAPTED[type(layer)]
    adapted = cast(AdaptedKANLayer, layer)
    adapted.frozen = tuple(frozen)
    adapted.adapter = plan.adapter


@torch.no_grad()
def _merge(layer: AdaptedKANLayer) -> None:
    adapter = layer.adapter
    layer.basis_weight = _like(layer.basis_weight, adapter.basis_weight(layer.basis_weight))
    if layer.base_weight is not None:
        layer.base_weight = _like(layer.base_weight, adapter.base_weight(layer.base_weight))
    if isinstance(layer.basis, AdaptedGramBasis):
        layer.basis = layer.basis.merged()
    for name in layer.frozen:
        layer.get_parameter(name).requires_grad_(True)
    del layer.adapter, layer.frozen
    cast(KANLayer, layer).__class__ = _PLAIN[type(layer)]


def _like(parameter: nn.Parameter, value: Tensor) -> nn.Parameter:
    return parameter if value is parameter else nn.Parameter(value.contiguous(), parameter.requires_grad)
