"""Functions of networks with their inputs."""

import pytest
import torch
from torch import nn

import kanvision as kv
from kanvision.analysis.functions import find_learned_layers, measure_layers
from kanvision.layers import KANLinear


def test_inputs_are_counted_for_each_channel() -> None:
    """Catches inputs of the basis in place of those of the layer, and channels that are mixed up."""
    model = nn.Sequential(KANLinear(2, 3, basis="bspline"), nn.ReLU(), KANLinear(3, 1)).eval()
    x = torch.cat([torch.zeros(50, 1), torch.linspace(-4, 4, 50).unsqueeze(1)], 1)
    first, second = measure_layers(model, lambda: [x[:20], x[20:]], find_learned_layers(model), num_bins=16)
    assert first.counts.sum(1).tolist() == [50, 50]
    assert int((first.counts[0] > 0).sum()) == 1
    assert int((first.counts[1] > 0).sum()) == 16
    outside = float((x.abs() > 1).float().mean())
    assert first.functions.domain == (-1.0, 1.0)
    assert first.share_outside == pytest.approx(outside)
    assert int(second.counts.sum()) == 150
    # the constant channel is not used
    assert all(edge.channel == 1 for edge in first.most_used(3))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("convkan_4", {"width_scale": 0.25, "in_chans": 1}),
        (
            "kat_micro_patch16_224",
            {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2},
        ),
        ("karat_micro_patch4_32", {"embed_dim": 16, "depth": 1, "num_heads": 2}),
    ],
)
def test_layers_of_each_family_are_found_and_drawn(name: str, options: dict) -> None:
    """Catches layers whose inputs are not seen, as those of fused attention."""
    model = kv.create_model(name, num_classes=3, **options)
    x = torch.randn(2, options.get("in_chans", 3), 32, 32)
    measured = measure_layers(model.eval(), lambda: [x], find_learned_layers(model))
    assert all(int(layer.counts.sum()) for layer in measured)
    for layer in measured:
        points = torch.linspace(*layer.limits, 5, dtype=torch.float64)
        assert layer.functions.largest_error(points, layer.most_used(2)) < 1e-9
    figure = kv.plot_functions(model.train(), x, num_layers=2, num_panels=2)
    assert len(figure.subfigs) == min(2, len(measured))
    assert model.training
    with pytest.raises(ValueError, match="no learned functions at nowhere"):
        kv.plot_functions(model, layers=["nowhere"])


def test_networks_without_functions_are_refused() -> None:
    with pytest.raises(ValueError, match="Linear has no layer with learned functions"):
        kv.plot_functions(nn.Linear(2, 2))
