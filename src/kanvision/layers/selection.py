"""Selection of one basis for each layer from a pool.

Shapes: C channels, G groups, O outputs, K functions before and K' after, *k kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from kanvision.bases import Basis, SelectableBasis

from .base import KANLayer
from .grid import map_functions
from .structure import change_structure, structural_change

__all__ = ["SelectionSite", "prune_selection", "select_basis", "selection_sites"]


@dataclass(frozen=True)
class SelectionSite:
    """Selectable basis, and the layers whose weights belong to its functions."""

    name: str
    basis: SelectableBasis
    layers: Mapping[str, KANLayer]


def selection_sites(model: nn.Module) -> list[SelectionSite]:
    """Return the selectable bases of a model, in the order of their layers.

    Raises:
        ValueError: A selectable basis belongs to no KAN layer, so its weights are unknown.
    """
    owners: dict[int, dict[str, KANLayer]] = {}
    for name, module in model.named_modules():
        if isinstance(module, KANLayer) and isinstance(module.basis, SelectableBasis):
            owners.setdefault(id(module.basis), {})[name] = module
    for name, module in model.named_modules():
        if isinstance(module, SelectableBasis) and id(module) not in owners:
            raise ValueError(f"{name!r} is a selectable basis outside of a KAN layer, which cannot be pruned")
    sites = []
    for layers in owners.values():
        name, layer = next(iter(layers.items()))
        assert isinstance(layer.basis, SelectableBasis)
        sites.append(SelectionSite(name, layer.basis, layers))
    return sites


@structural_change("select_basis")
@torch.no_grad()
def select_basis(model: nn.Module, layer: str = "", *, member: str) -> Tensor:
    """Replace the selectable basis of a layer, and of all layers that share it, by one of its members.

    The weights of the member are multiplied by its scale and its current gate. In the phase "pruned", and in
    "select" with gates of 0 and 1, outputs are unchanged; otherwise only the share of the member remains.
    `basis_weight` is a new parameter, so the optimizer must be updated (`kanvision.optim.replace_parameter`).
    In training call it through `change_structure`, which records it.

    Args:
        model: Model, or the layer itself.
        layer: Name of the layer in the model.
        member: Short name of the basis to keep.

    Returns:
        Map of the weights, (K', K).

    Raises:
        ValueError: The module is not a KAN layer over a selectable basis with this member, or factors cannot
            be moved into its weights.
    """
    chosen = model.get_submodule(layer)
    if not isinstance(chosen, KANLayer) or not isinstance(chosen.basis, SelectableBasis):
        raise ValueError(
            f"layer={layer!r} is a {type(chosen).__name__}, not a KAN layer over a selectable basis"
        )
    pool = chosen.basis
    owners = [m for m in model.modules() if isinstance(m, KANLayer) and m.basis is pool]
    for owner in owners:
        if type(owner).edge_weight is not KANLayer.edge_weight:
            raise ValueError(
                f"layer={layer!r} has adapters, whose weights belong to the pool; merge them first"
            )
        if not isinstance(owner.basis_act, nn.Identity):
            raise ValueError(
                f"layer={layer!r} has a basis_act: the factor of its basis is not one of its weights"
            )
    if pool.squash is not None:
        raise ValueError(
            f"layer={layer!r} has squash={pool.squash!r} before the whole pool, which no member has"
        )
    matrix = pool.get_member_map(member)
    for owner in owners:
        weight = map_functions(owner.basis_weight, matrix, owner.groups)
        owner.basis = cast(Basis, pool.members[member])
        owner.basis_weight = nn.Parameter(weight, owner.basis_weight.requires_grad)
    return matrix


def prune_selection(model: nn.Module) -> dict[str, str]:
    """Replace every selectable basis by its member with the largest logit, and record the changes.

    With the gates of the phase "pruned", or gates close to 0 and 1, outputs are unchanged up to rounding; see
    `select_basis`.

    Args:
        model: Network, or a layer.

    Returns:
        Name of the chosen basis by name of the layer.

    Raises:
        ValueError: A basis cannot be replaced, see `select_basis`.
    """
    choices: dict[str, str] = {}
    for site in selection_sites(model):
        member, _ = site.basis.selection()
        change_structure(model, "select_basis", site.name, member=member)
        choices.update(dict.fromkeys(site.layers, member))
    return choices
