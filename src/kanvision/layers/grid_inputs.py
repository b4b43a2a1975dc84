"""Grids of a model and the inputs that they receive. Shapes: C channels, G groups, K basis functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kanvision.bases import Basis, BSplineBasis, GridBasis

from .base import KANLayer
from .input_statistics import InputRange

__all__ = ["GridSite", "grid_sites", "measure_inputs", "measure_share_outside", "observe"]


@dataclass(frozen=True)
class GridSite:
    """Basis with a bounded domain, and the layers whose weights belong to its functions.

    Inputs can lie outside only if no smooth map puts them into the domain (squash None or "clamp").
    """

    name: str
    basis: Basis
    layers: Mapping[str, KANLayer]

    @property
    def movable(self) -> bool:
        """Return True if the grid can be moved: a `GridBasis` of layers without adapters."""
        layers = self.layers.values()
        plain = all(type(layer).edge_weight is KANLayer.edge_weight for layer in layers)
        alike = len({num_channels(layer) for layer in layers}) == 1
        return isinstance(self.basis, GridBasis) and plain and alike

    @property
    def grid(self) -> GridBasis:
        """Return the basis of a movable site."""
        assert isinstance(self.basis, GridBasis)
        return self.basis

    @property
    def num_cells(self) -> int | None:
        """Return the number of cells of a grid that can be refined, else None."""
        basis, layers = self.basis, self.layers.values()
        plain = self.movable and all(isinstance(layer.basis_act, nn.Identity) for layer in layers)
        return basis.num_cells if plain and isinstance(basis, BSplineBasis) and basis.uniform else None

    @property
    def num_channels(self) -> int:
        """Return the number of input channels, C."""
        return num_channels(next(iter(self.layers.values())))

    @property
    def device(self) -> torch.device:
        """Return the device of the layers."""
        return next(iter(self.layers.values())).basis_weight.device


def num_channels(layer: KANLayer) -> int:
    """Return the number of channels that a layer expands, C."""
    return layer.basis_weight.shape[1] // layer.basis.num_basis * layer.groups


def grid_sites(model: nn.Module) -> list[GridSite]:
    """Return the bases of a model with a bounded domain, in the order of their layers."""
    owners: dict[int, dict[str, KANLayer]] = {}
    for name, module in model.named_modules():
        if isinstance(module, KANLayer):
            owners.setdefault(id(module.basis), {})[name] = module
    sites = []
    for layers in owners.values():
        name, layer = next(iter(layers.items()))
        if layer.basis.domain is not None and layer.basis.squash in (None, "clamp"):
            sites.append(GridSite(name, layer.basis, layers))
    return sites


def measure_share_outside(layer: KANLayer, x: Tensor) -> float:
    """Return the share of a layer's inputs outside the domain of its basis, after the input norm.

    Args:
        layer: KAN layer whose basis has a domain.
        x: Input of the layer.

    Raises:
        ValueError: The functions of the basis live on the whole line.
    """
    if layer.basis.domain is None:
        raise ValueError(f"the functions of {type(layer.basis).__name__} have no bounded domain")
    site = GridSite("", layer.basis, {"": layer})
    return measure_inputs(layer, [x], [site])[""].share_outside


def measure_inputs(
    model: nn.Module, inputs: Iterable[Any], sites: Iterable[GridSite] | None = None
) -> dict[str, InputRange]:
    """Measure the inputs of each basis with `observe`; a collective call of all processes.

    Args:
        model: Model that is called with each of the inputs.
        inputs: Batches of inputs.
        sites: Sites to measure; None for `grid_sites(model)`.

    Returns:
        Range and share outside, by name of the site.
    """
    sites = grid_sites(model) if sites is None else list(sites)
    ranges = {}
    for site in sites:
        assert site.basis.domain is not None
        ranges[site.name] = InputRange(site.basis.domain, site.device)
    observe(model, inputs, sites, ranges)
    return ranges


def observe(
    model: nn.Module, inputs: Iterable[Any], sites: Iterable[GridSite], observers: Mapping[str, Any]
) -> None:
    """Run a model and pass the inputs of each basis to the observer of its site.

    Dropout is off. Batch norms in training mode use the statistics of the batch, so that a new network is
    measured as in training, and do not update their running statistics.
    """
    handles = []
    for site in sites:
        observer = observers[site.name]

        def hook(
            _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], observer: Any = observer
        ) -> None:
            channel_dim = args[1] if len(args) > 1 else kwargs.get("channel_dim", -1)
            observer.add(args[0].detach().movedim(channel_dim, -1))

        handles.append(site.basis.register_forward_pre_hook(hook, with_kwargs=True))
    try:
        with _measuring(model), torch.no_grad():
            for batch in inputs:
                model(batch)
    finally:
        for handle in handles:
            handle.remove()
    for observer in observers.values():
        observer.all_reduce()


@contextmanager
def _measuring(model: nn.Module) -> Iterator[None]:
    """Put a model into the state that `observe` describes, and restore it afterwards."""
    before = [(module, dict(vars(module))) for module in model.modules()]
    try:
        for module, state in before:
            module.training = module.training and isinstance(module, _BatchNorm)
            if isinstance(module, _BatchNorm) and module.training:
                module.track_running_stats = False
            if "_compiled_call_impl" in state:
                module._compiled_call_impl = None  # compiled code ignores the hooks
        yield
    finally:
        for module, state in before:
            for key in ("training", "track_running_stats", "_compiled_call_impl"):
                if key in state:
                    setattr(module, key, state[key])
