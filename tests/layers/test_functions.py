"""Learned functions of every kind of layer, against outputs of the layers and brute force."""

import pytest
import torch

from kanvision.layers import (
    EdgeWaveletConv2d,
    GroupRational,
    KANConv1d,
    KANConv2d,
    KANConv3d,
    KANLinear,
    learned_functions,
)
from kanvision.layers.attention_units import AttentionUnits
from kanvision.layers.functions import Edge, moments

POINTS = torch.linspace(-2, 2, 21, dtype=torch.float64)
LAYERS = {
    "groups, stride": lambda: KANConv2d(4, 6, 3, padding=1, stride=2, basis="gram", norm="batch", groups=2),
    "linear": lambda: KANLinear(5, 3, basis="bspline", bias=True),
    "other inputs in a norm": lambda: KANConv1d(3, 4, 3, padding=2, dilation=2, input_norm="instance"),
    "batch norm": lambda: KANConv2d(3, 4, (3, 2), padding="same", input_norm="batch", edge_scale=True),
    "circular": lambda: KANConv3d(2, 2, 2, basis="selectable", padding=1, padding_mode="circular"),
    "wavelets": lambda: EdgeWaveletConv2d(4, 6, 3, padding=1, groups=2),
    "rational": lambda: GroupRational(16, 4, init="gelu", channel_dim=1),
    "attention": lambda: AttentionUnits(2, 5, 3, base_act="silu", include_dc=True, unit_scales=True),
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_curves_are_what_the_layer_applies(make) -> None:
    """Catches a wrong tap, group or channel, a lost branch, and statistics that are not of the curves."""
    torch.manual_seed(0)
    layer = make().train()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    functions = learned_functions(layer)
    edges = [functions.edge(index) for index in range(functions.num_edges)]
    assert functions.largest_error(POINTS, edges[:: max(1, len(edges) // 12)]) < 1e-12
    shifted = [edge._replace(channel=(edge.channel + 1) % functions.num_channels) for edge in edges[:1]]
    if functions.groups == 1:
        assert functions.largest_error(POINTS, shifted) < 1e-12
    values = functions.values(POINTS, edges)
    std, curved, changed = moments(functions, POINTS, start=functions)
    torch.testing.assert_close(std, values.std(0, correction=0))
    line = torch.stack([POINTS, torch.ones_like(POINTS)], 1)
    rest = values - line @ torch.linalg.lstsq(line, values).solution
    torch.testing.assert_close(curved, rest.square().mean(0) / values.var(0, correction=0))
    assert float(changed.max()) < 1e-6  # rounding of the square root
    assert layer.training


def test_density_and_names() -> None:
    """Catches statistics that ignore where the inputs of a channel are, and positions in a wrong order."""
    layer = KANConv2d(2, 2, (2, 3))
    functions = learned_functions(layer)
    density = torch.zeros(2, len(POINTS), dtype=torch.float64)
    density[:, 3] = 1
    assert float(moments(functions, POINTS, density)[0].max()) < 1e-6
    assert functions.edge(17) == Edge(1, 0, 5)
    assert functions.name(Edge(1, 0, 5)) == "0 -> 1 (1, 2)"
    with pytest.raises(TypeError, match="ReLU has no learned functions"):
        learned_functions(torch.nn.ReLU())


def test_plot_draws_the_chosen_edges() -> None:
    """Catches panels of other edges than those of the argument."""
    figure = KANLinear(3, 2).plot([(1, 2), (0, 0)], limits=(-1.0, 1.0))
    axes = [ax for part in figure.subfigs for ax in part.axes if ax.get_visible()]
    assert [ax.get_title() for ax in axes] == ["2 -> 1", "0 -> 0"]
    assert axes[0].get_xlim() == (-1.0, 1.0)
