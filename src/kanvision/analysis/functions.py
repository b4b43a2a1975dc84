"""Learned functions of a network with the inputs that they receive.

Shapes: C input channels of a layer, N bins, E edges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from kanvision.layers import Edge, KArAtOperator, LearnedFunctions, learned_functions
from kanvision.layers.functions import default_limits, moments
from kanvision.layers.input_statistics import InputHistogram, InputRange
from kanvision.visualization.charts import new_chart
from kanvision.visualization.functions import FunctionPanel, draw_functions

__all__ = [
    "MeasuredLayer",
    "find_learned_layers",
    "measure_layers",
    "overview_chart",
    "plot_functions",
    "spread_evenly",
]

Item = TypeVar("Item")
NUM_BINS = 64
TAIL = 1e-3
"""Share of the inputs at either end that the drawn interval may exclude."""
NUM_POINTS = 201
WHOLE_LINE = (-float("inf"), float("inf"))


@dataclass(frozen=True)
class MeasuredLayer:
    """Learned functions of a layer, over the inputs of some images."""

    name: str
    functions: LearnedFunctions
    start: LearnedFunctions | None
    """The same layer before training."""
    limits: tuple[float, float]
    """Interval of the curves and histograms."""
    counts: Tensor
    """Inputs of each channel in each bin, (C, N); all 0 if the layer received none."""
    share_outside: float
    """Share of the inputs outside of the domain."""

    @cached_property
    def edges(self) -> Tensor:
        """Ends of the bins, (N + 1,)."""
        return torch.linspace(*self.limits, self.counts.shape[1] + 1, dtype=torch.float64)

    @cached_property
    def statistics(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Standard deviation, curved share, and change of each function, see `layers.functions.moments`."""
        centers = (self.edges[1:] + self.edges[:-1]) / 2
        density = None
        if int(self.counts.sum()):
            density = self.counts.double() / self.counts.sum(1, keepdim=True).clamp_min(1)
        return moments(self.functions, centers, density, self.start)

    def most_used(self, number: int) -> list[Edge]:
        """Return the edges whose functions vary most over their inputs."""
        return self._first(self.statistics[0], number)

    def most_changed(self, number: int) -> list[Edge]:
        """Return the edges whose functions changed most in training; none if their start is unknown."""
        changed = self.statistics[2]
        return [] if changed is None else self._first(changed, number)

    def _first(self, values: Tensor, number: int) -> list[Edge]:
        found = values.topk(min(number, len(values))).indices
        return [self.functions.edge(int(index)) for index in found]

    def index(self, edge: Edge) -> int:
        """Return the index of an edge into the statistics."""
        _, per_group, taps = self.functions.weight.shape[:3]
        return (edge.output * per_group + edge.channel % per_group) * taps + edge.tap

    def panels(self, edges: Sequence[Edge], note: str = "") -> list[FunctionPanel]:
        """Return panels of some edges, with titles such as `3 -> 17 (0, 2): 0.41`."""
        points = torch.linspace(*self.limits, NUM_POINTS, dtype=torch.float64)
        values = self.functions.values(points, edges).numpy()
        start = None if self.start is None else self.start.values(points, edges).numpy()
        has_inputs = bool(self.counts.sum())
        panels = []
        for column, edge in enumerate(edges):
            counts = self.counts[edge.channel].double().numpy()
            std = float(self.statistics[0][self.index(edge)])
            panels.append(
                FunctionPanel(
                    f"{self.functions.name(edge)}{note}: {std:.2g}",
                    points.numpy(),
                    values[:, column],
                    None if start is None else start[:, column],
                    self.edges.numpy() if has_inputs else None,
                    counts / max(counts.sum(), 1) if has_inputs else None,
                    self.functions.domain,
                )
            )
        return panels


def find_learned_layers(model: nn.Module) -> dict[str, LearnedFunctions]:
    """Return the functions of all layers that have some, by the path of the layer."""
    found = {}
    for name, module in model.named_modules():
        if learned_functions.dispatch(type(module)) is not learned_functions.dispatch(object):
            found[name] = learned_functions(module)
    return found


def measure_layers(
    model: nn.Module,
    batches: Callable[[], Iterable[Tensor]],
    found: Mapping[str, LearnedFunctions],
    start: Mapping[str, LearnedFunctions] | None = None,
    num_bins: int = NUM_BINS,
) -> list[MeasuredLayer]:
    """Measure the inputs of layers in two passes over some images; only counts are stored.

    The network is in evaluation mode, and `batches` returns the same images at each call. `found` and `start`
    are its layers now and before training, see `find_learned_layers`.
    """
    ranges = {name: InputRange(each.domain or WHOLE_LINE) for name, each in found.items()}
    _observe(model, batches(), found, ranges)
    limits = {name: _limits(each, ranges[name]) for name, each in found.items()}
    histograms = {
        name: InputHistogram(torch.linspace(*limits[name], num_bins + 1), each.num_channels)
        for name, each in found.items()
    }
    _observe(model, batches(), found, histograms)
    return [
        MeasuredLayer(
            name,
            each,
            (start or {}).get(name),
            limits[name],
            histograms[name].counts,
            ranges[name].share_outside,
        )
        for name, each in found.items()
    ]


def _limits(functions: LearnedFunctions, seen: InputRange) -> tuple[float, float]:
    if not seen.num_values:
        return default_limits(functions)
    low, high = seen.quantiles(TAIL)
    if functions.domain is not None:
        low, high = min(low, functions.domain[0]), max(high, functions.domain[1])
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin


def _observe(
    model: nn.Module,
    batches: Iterable[Tensor],
    found: Mapping[str, LearnedFunctions],
    observers: Mapping[str, Any],
) -> None:
    def hook(functions: LearnedFunctions, observer: Any, _: nn.Module, args: Any, output: Any) -> None:
        observer.add(functions.inputs(args, output).detach().cpu())

    with ExitStack() as hooks, torch.no_grad(), _matrices_of_attention(model):
        for name, functions in found.items():
            assert functions.input_module is not None
            observe = partial(hook, functions, observers[name])
            hooks.enter_context(functions.input_module.register_forward_hook(observe))
        for batch in batches:
            model(batch)


@contextmanager
def _matrices_of_attention(model: nn.Module) -> Iterator[None]:
    """Let operators of KArAt call their units, which fused implementations avoid."""
    operators = [module for module in model.modules() if isinstance(module, KArAtOperator)]
    before = [operator.implementation for operator in operators]
    for operator in operators:
        operator.implementation = "gemm"
    try:
        yield
    finally:
        for operator, implementation in zip(operators, before, strict=True):
            operator.implementation = implementation


def plot_functions(
    model: nn.Module,
    inputs: Tensor | None = None,
    *,
    layers: Sequence[str] | None = None,
    num_layers: int = 6,
    num_panels: int = 4,
) -> Figure:
    """Draw the functions that vary most of each layer of a network.

    Args:
        model: Network.
        inputs: Batch of its inputs, whose histograms are drawn and decide which functions vary; None: equal
            weight on the domain of the basis, or on (-3, 3).
        layers: Paths of layers; None: `num_layers` of them, spread evenly.
        num_layers: Number of layers if `layers` is None.
        num_panels: Number of functions of each layer.

    Returns:
        Figure of matplotlib, which a notebook shows.

    Raises:
        ValueError: The network has no learned functions, or none at one of the paths.
    """
    found = find_learned_layers(model)
    if not found:
        raise ValueError(f"{type(model).__name__} has no layer with learned functions of one variable")
    if unknown := [name for name in layers or () if name not in found]:
        raise ValueError(f"no learned functions at {', '.join(unknown)}; legal: {', '.join(found)}")
    names = list(layers) if layers is not None else spread_evenly(list(found), num_layers)
    chosen = {name: found[name] for name in names}
    was_training = model.training
    model.eval()
    try:
        measured = measure_layers(model, lambda: [] if inputs is None else [inputs], chosen)
    finally:
        model.train(was_training)
    rows = [(layer.name, layer.panels(layer.most_used(num_panels))) for layer in measured]
    return draw_functions(rows, num_panels, in_notebook=True)


def spread_evenly(items: Sequence[Item], number: int) -> list[Item]:
    """Return at most `number` items, the first and the last among them."""
    if len(items) <= number:
        return list(items)
    places = np.linspace(0, len(items) - 1, number).round().astype(int)
    return [items[place] for place in places]


def overview_chart(layers: Sequence[MeasuredLayer]) -> Figure:
    """Draw how variation and curvature are spread over the functions of each layer."""
    figure, [[used, curved]] = new_chart(10.5, 3.6, 1, 2)
    for index, layer in enumerate(layers):
        std, share, _ = (None if each is None else each.numpy() for each in layer.statistics)
        assert std is not None
        assert share is not None
        look = {"color": f"C{index % 10}", "ls": ("-", "--", ":", "-.")[index // 10 % 4], "lw": 1.3}
        ranks = (np.arange(len(std)) + 1) / len(std)
        variance = np.sort(std**2)[::-1].cumsum()
        used.plot(ranks, variance / (variance[-1] or 1), label=layer.name, **look)
        curved.plot(ranks, np.sort(share)[::-1], **look)
    used.set_title("share of the variance in the most used functions", fontsize=9)
    curved.set_title("share of a function's variance that no straight line explains", fontsize=9)
    for ax in (used, curved):
        ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="share of the functions of a layer, largest first")
    if len(layers) <= 20:
        figure.legend(fontsize=7, frameon=False, loc="outside right upper")
    return figure
