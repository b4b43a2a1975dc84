"""Learned functions of a layer: one function of one variable for each edge from an input to an output.

Shapes: M points, C input channels, G groups, O outputs, T taps of the kernel, F features of an edge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from kanvision.visualization.functions import Figure

__all__ = ["Edge", "FunctionPlot", "LearnedFunctions", "learned_functions", "plot_layer"]

NUM_POINTS = 201


class Edge(NamedTuple):
    """Edge of a layer."""

    output: int
    channel: int
    """Input channel, counted over all groups."""
    tap: int = 0
    """Position in the kernel, row by row."""


@dataclass(frozen=True)
class LearnedFunctions:
    """Functions f_oct(x) = sum_f w_octf g_cf(x) of the edges of a layer, in float64 on the CPU.

    The features g are the functions of the basis and, with a base branch, its activation, so that a curve is
    what the layer applies to one input: both branches together, without the norm and activation after the
    sum over inputs.
    """

    weight: Tensor
    """Weights of the features, (O, C/G, T, F)."""
    features: Callable[[Tensor, int], Tensor]
    """Values (M, C, F) of the features for an output, at points (M,)."""
    probe: Callable[[Tensor, Edge], Tensor]
    """Output of the layer (M,) for values (M,) of one input where all others are 0, computed by the layer."""
    groups: int = 1
    kernel: tuple[int, ...] = ()
    domain: tuple[float, float] | None = None
    """Interval beyond which the basis does not follow its inputs; None is the whole line."""
    argument: str = "input"
    """Meaning of x."""
    is_shared: bool = True
    """True if all outputs have the same features."""
    input_module: nn.Module | None = None
    """Module that meets the inputs."""
    inputs: Callable[[Any, Any], Tensor] = lambda args, output: args[0]
    """Inputs (..., C) from the arguments and the output of that module."""

    @property
    def num_edges(self) -> int:
        """Number of functions."""
        return self.weight[..., 0].numel()

    @property
    def num_channels(self) -> int:
        """Number of input channels, C."""
        return self.weight.shape[1] * self.groups

    def edge(self, index: int) -> Edge:
        """Return the edge of an index into the flattened (O, C/G, T)."""
        outputs, channels, taps = self.weight.shape[:3]
        output, rest = divmod(index, channels * taps)
        channel, tap = divmod(rest, taps)
        return Edge(output, output // (outputs // self.groups) * channels + channel, tap)

    def values(self, points: Tensor, edges: Sequence[Edge]) -> Tensor:
        """Return the values (M, E) of the functions of E edges at points (M,)."""
        columns, shared = [], None
        for edge in edges:
            features = shared if shared is not None else self.features(points.double(), edge.output)
            shared = features if self.is_shared else None
            weight = self.weight[edge.output, edge.channel % self.weight.shape[1], edge.tap]
            columns.append(features[:, edge.channel] @ weight)
        return torch.stack(columns, 1) if columns else points.new_zeros(len(points), 0).double()

    def largest_error(self, points: Tensor, edges: Sequence[Edge]) -> float:
        """Return the largest difference between the curves and outputs of the layer itself.

        The layer gets each point as its only input that is not 0. Both sides are compared as changes from
        the value at 0, relative to the largest value or 1.
        """
        points = points.double()
        curves = self.values(points, edges) - self.values(points.new_zeros(1), edges)
        worst = 0.0
        for curve, edge in zip(curves.unbind(1), edges, strict=True):
            measured = self.probe(points, edge) - self.probe(points.new_zeros(1), edge)
            worst = max(worst, float((measured - curve).abs().max() / measured.abs().max().clamp_min(1.0)))
        return worst

    def name(self, edge: Edge) -> str:
        """Return the text of an edge, such as `3 -> 17 (0, 2)`, with its position in the kernel."""
        text = f"{edge.channel} -> {edge.output}"
        if max(self.kernel, default=1) == 1:
            return text
        position, rest = [], edge.tap
        for size in reversed(self.kernel):
            rest, place = divmod(rest, size)
            position.append(place)
        return f"{text} ({', '.join(map(str, reversed(position)))})"


@singledispatch
def learned_functions(layer: nn.Module) -> LearnedFunctions:
    """Return the learned functions of a layer.

    Raises:
        TypeError: The layer has no functions of one variable.
    """
    raise TypeError(f"{type(layer).__name__} has no learned functions of one variable")


def plot_layer(
    layer: nn.Module,
    edges: Sequence[Edge | tuple[int, ...]] | None = None,
    *,
    limits: tuple[float, float] | None = None,
    num_panels: int = 12,
) -> Figure:
    """Draw learned functions of a layer.

    Args:
        layer: KAN layer, group rational or units of attention.
        edges: Edges (output, channel) or (output, channel, tap); None: those with the largest variation.
        limits: Interval to draw; None: the domain with a margin, or (-3, 3).
        num_panels: Number of functions if `edges` is None.

    Returns:
        Figure of matplotlib, which a notebook shows.

    Raises:
        TypeError: The layer has no functions of one variable.
    """
    from kanvision.visualization.functions import FunctionPanel, draw_functions

    functions = learned_functions(layer)
    points = torch.linspace(*(limits or default_limits(functions)), NUM_POINTS, dtype=torch.float64)
    if edges is None:
        chosen = [functions.edge(int(i)) for i in variation(functions, points).argsort(descending=True)]
        chosen = chosen[:num_panels]
    else:
        chosen = [Edge(*edge) for edge in edges]
    values, x = functions.values(points, chosen).numpy(), points.numpy()
    panels = [
        FunctionPanel(functions.name(edge), x, values[:, index], domain=functions.domain)
        for index, edge in enumerate(chosen)
    ]
    return draw_functions([(type(layer).__name__, panels)], in_notebook=True)


def default_limits(functions: LearnedFunctions) -> tuple[float, float]:
    """Return an interval that shows a function where no inputs are known."""
    if functions.domain is None:
        return -3.0, 3.0
    low, high = functions.domain
    return low - 0.15 * (high - low), high + 0.15 * (high - low)


def variation(functions: LearnedFunctions, points: Tensor, density: Tensor | None = None) -> Tensor:
    """Return the standard deviation of each function over its inputs, (O C/G T,).

    Args:
        functions: Functions of a layer.
        points: Points, (M,).
        density: Share of the inputs of each channel at each point, (C, M); None: equal shares.
    """
    return moments(functions, points, density)[0]


def moments(
    functions: LearnedFunctions,
    points: Tensor,
    density: Tensor | None = None,
    start: LearnedFunctions | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return statistics of each function over its inputs, (O C/G T,) each.

    Features have a covariance S_c for each channel, so that no function is evaluated by itself: the variance
    of f is w^T S_c w.

    Args:
        functions: Functions of a layer.
        points: Points, (M,).
        density: Share of the inputs of each channel at each point, (C, M); None: equal shares.
        start: The same layer before training.

    Returns:
        Standard deviation; share of the variance that no straight line explains; standard deviation of the
        difference from `start`. Constants do not count: they are one bias of an output together.
    """
    outputs, per_group, _, size = functions.weight.shape
    if density is None:
        density = torch.full((functions.num_channels, len(points)), 1 / len(points), dtype=torch.float64)
    found: list[tuple[Tensor, ...]] = []
    features: Tensor | None = None
    covariance = mean = None
    for output in range(outputs):
        if features is None or not functions.is_shared:
            parts = [functions.features(points, output)]
            if start is not None:
                parts.append(start.features(points, output))
            features = torch.cat([*parts, points[:, None, None].expand(-1, functions.num_channels, 1)], 2)
            mean = torch.einsum("cm,mcf->cf", density, features)
            centered = features - mean
            covariance = torch.einsum("cm,mcf,mcg->cfg", density, centered, centered)
        assert covariance is not None
        group = output // (outputs // functions.groups)
        own = covariance[group * per_group : (group + 1) * per_group]
        weight = functions.weight[output]  # (C/G, T, F)
        variance = _form(weight, own[:, :size, :size])
        slope = torch.einsum("ctf,cf->ct", weight, own[:, :size, -1])
        line = slope.square() / own[:, -1, -1].clamp_min(1e-30).unsqueeze(1)
        rows = [variance.clamp_min(0).sqrt(), (1 - line / variance.clamp_min(1e-30)).clamp(0, 1)]
        if start is not None:
            both = torch.cat([weight, -start.weight[output]], -1)
            rows.append(_form(both, own[:, :-1, :-1]).clamp_min(0).sqrt())
        found.append(tuple(rows))
    std, curved, *changed = (torch.stack(rows).flatten() for rows in zip(*found, strict=True))
    return std, curved, changed[0] if changed else None


def _form(weight: Tensor, matrix: Tensor) -> Tensor:
    """Return w^T S w for weights (C, T, F) and matrices (C, F, F)."""
    return (weight @ matrix * weight).sum(-1)


class FunctionPlot:
    """Mixin of layers with learned functions of one variable."""

    def plot(self, edges: Any = None, **options: Any) -> Figure:
        """Draw learned functions; for arguments and result see `kanvision.layers.functions.plot_layer`."""
        assert isinstance(self, nn.Module)
        return plot_layer(self, edges, **options)
