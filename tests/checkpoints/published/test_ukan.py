"""Published U-KANs, loaded, against an independent forward pass on their own tensors."""

import pytest
import torch

from kanvision.checkpoints import CheckpointError, load_official
from kanvision.layers import KANLinear
from kanvision.models import Segmenter
from kanvision.models.ukan import PlainLinear

from .reference_ukan import published_ukan, random_ukan

CROP = {"dims": (16, 8, 24), "stem": (4, 8)}
CASES = [
    ("u-kan", {}),
    ("u-kan", {"kan": (False, False, False), "in_chans": 3, "num_classes": 4}),
    ("u-kan", {"kan": (True, False, True)}),
    ("u-kan", {"kan": (True,), "in_chans": 1}),
    ("u-kan", {"kan": (True,) * 5, "cells": 8, "order": 2}),
    ("u-kan", {"scaler": False, "low": -2.0, "high": 3.0}),
    ("crop-u-kan", {**CROP, "in_chans": 12, "num_classes": 2}),
]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(("source", "kwargs"), CASES)
def test_outputs_are_the_published_ones(source, kwargs):
    state = random_ukan(**kwargs)
    model = load_official(state, source=source)
    assert isinstance(model, Segmenter)
    assert not model.training
    x = torch.randn(2, kwargs.get("in_chans", 3), 64, 96)
    expected = published_ukan(state, x)
    assert expected.std() > 1e-2
    with torch.no_grad():
        torch.testing.assert_close(
            model(x).double(), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max())
        )
        assert model(x[..., :33, :47]).shape == (2, kwargs.get("num_classes", 1), 33, 47)
    kan = kwargs.get("kan", (True,) * 3)
    for block in (*model.network.down_blocks, *model.network.up_blocks):
        kinds = tuple(isinstance(mixer.layer, KANLinear) for mixer in block.mixers)
        assert kinds == kan
        assert all(isinstance(mixer.layer, KANLinear | PlainLinear) for mixer in block.mixers)


@pytest.mark.parametrize("size", ["small", "medium"])
def test_published_sizes(size):
    dims = {"small": (64, 96, 128), "medium": (128, 160, 256)}[size]
    state = random_ukan(dims, (dims[0] // 8, dims[0] // 4))
    assert len(state) == 270
    model = load_official(state, source="u-kan")
    published = {"small": 1_848_633, "medium": 6_356_689}[size]
    assert sum(p.numel() for p in model.parameters()) == published


def test_every_tensor_is_taken_over_and_the_given_ones_stay():
    state = random_ukan()
    before = {name: value.clone() for name, value in state.items()}
    model = load_official(state, source="u-kan")
    given = sorted(value.double().sum().item() for name, value in state.items() if not name.endswith(".grid"))
    own = model.network.state_dict()
    taken = sorted(value.double().sum().item() for name, value in own.items() if not name.endswith(".knots"))
    assert taken == pytest.approx(given)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(torch.equal(before[name], value) for name, value in state.items())


def test_lightning_wraps_the_crop_variant():
    state = random_ukan(**CROP)
    wrapped = {"state_dict": {f"model.{name}": value for name, value in state.items()}, "epoch": 3}
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        expected = load_official(state, source="crop-u-kan")(x)
        assert torch.equal(load_official(wrapped, source="crop-u-kan")(x), expected)


def test_a_file(tmp_path):
    state = random_ukan()
    torch.save(state, tmp_path / "model.pth")
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            load_official(tmp_path / "model.pth", source="u-kan")(x), load_official(state, source="u-kan")(x)
        )


def test_double_precision_stays():
    state = {name: v.double() if v.is_floating_point() else v for name, v in random_ukan().items()}
    model = load_official(state, source="u-kan")
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(x), published_ukan(state, x), rtol=1e-6, atol=1e-6)


def broken(change, **kwargs):
    state = random_ukan(**kwargs)
    change(state)
    return state


def test_everything_that_is_wrong_comes_at_once():
    def change(state):
        del state["dnorm3.bias"], state["block2.0.layer.fc2.spline_scaler"]
        state["surplus"] = torch.zeros(1)
        state["decoder2.conv.0.weight"] = torch.zeros(8, 8, 1, 1)
        state["block1.0.layer.fc1.spline_weight"] = torch.zeros(8, 8, 9)

    with pytest.raises(CheckpointError) as refusal:
        load_official(broken(change), source="u-kan")
    message = str(refusal.value)
    assert "2 missing: block2.0.layer.fc2.spline_scaler, dnorm3.bias" in message
    assert "1 unexpected: surplus" in message
    assert "decoder2.conv.0.weight (8, 8, 1, 1), not (8, 8, 3, 3)" in message
    assert "block1.0.layer.fc1.spline_weight (8, 8, 9), not (8, 8, 8)" in message


def test_a_layer_of_another_kind_is_named():
    def change(state):
        for name in ("base_weight", "spline_weight", "spline_scaler", "grid"):
            del state[f"dblock2.0.layer.fc1.{name}"]
        state["dblock2.0.layer.fc1.weight"] = torch.zeros(16, 16)

    with pytest.raises(CheckpointError, match=r"1 unexpected: dblock2\.0\.layer\.fc1\.weight"):
        load_official(broken(change), source="u-kan")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s["block1.0.layer.fc2.grid"][3].add_(0.1),
            r"block1\.0\.layer\.fc2\.grid: 1 of 8 features have other knots .* update_grid was called",
        ),
        (
            lambda s: s["block1.0.layer.fc2.grid"].pow_(3),
            r"block1\.0\.layer\.fc2\.grid: the knots are not equidistant",
        ),
        (
            lambda s: s["block2.0.layer.fc2.grid"].mul_(2),
            r"block2\.0\.layer\.fc2\.grid: the grid is on \(-2\.0, .*one basis for all layers",
        ),
        (
            lambda s: s["block2.0.layer.fc1.grid"].neg_(),
            r"block2\.0\.layer\.fc1\.grid: the knots do not increase",
        ),
    ],
)
def test_grids_that_cannot_be_held(change, message):
    with pytest.raises(CheckpointError, match=message.replace(" .* update", r".*\(update")):
        load_official(broken(change), source="u-kan")


def test_the_wrong_source_is_refused():
    with pytest.raises(CheckpointError, match="do not fit a u-kan with embed_dims"):
        load_official(random_ukan(**CROP), source="u-kan")
    with pytest.raises(CheckpointError, match="do not fit a crop-u-kan with embed_dims"):
        load_official(random_ukan(), source="crop-u-kan")
    with pytest.raises(ValueError, match="stride=2: source='u-kan' has the options none"):
        load_official(random_ukan(), source="u-kan", stride=2)
    with pytest.raises(CheckpointError, match="do not tell embed_dims"):
        load_official({"something.weight": torch.zeros(3)}, source="u-kan")
