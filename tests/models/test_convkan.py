"""The ConvKAN family: the stage table, the layer around each basis, memory, dropout."""

import pytest
import torch

import kanvision as kv
from kanvision.bases import BASES
from kanvision.models.convkan import STAGES, ConvKAN


@pytest.mark.parametrize("size", STAGES)
def test_resolution_halves_at_each_stage_after_the_first(size):
    model = kv.create_model(f"convkan_{size}", width_scale=0.125, features_only=True)
    maps = model(torch.randn(1, 3, 33, 32))
    assert [m.shape[1] for m in maps] == model.feature_info.channels()
    assert model.feature_info.reduction() == [1, 2, 4, 8, 16, 32]  # pooled where there are fewer stages
    assert len([stage for stage in model.model.stages if list(stage.parameters())]) == len(STAGES[size])
    assert [tuple(m.shape[2:]) for m in maps] == [
        (-(-33 // r), 32 // r) for r in model.feature_info.reduction()
    ]


@pytest.mark.parametrize(
    ("size", "strides"),
    [("4", {2, 3}), ("8", {2, 3, 6}), ("8_tuned", {2, 3, 6}), ("16", {2, 4, 8})],
)
def test_strides_are_the_published_ones(size, strides):
    with torch.device("meta"):
        model = kv.create_model(f"convkan_{size}")
    convs = [conv for stage in model.stages for conv in stage]
    assert len(convs) == int(size.partition("_")[0])
    assert {number for number, conv in enumerate(convs, 1) if conv.stride == (2, 2)} == strides


@pytest.mark.parametrize("basis", BASES)
def test_trains_with_every_basis(basis):
    torch.manual_seed(0)
    model = kv.create_model("convkan_4", basis=basis, num_classes=3, in_chans=2, width_scale=0.125)
    logits = model(torch.randn(4, 2, 12, 12))
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert not without
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_no_residual_branches_to_drop():
    with pytest.raises(ValueError, match=r"drop_path_rate=0\.1: ConvKAN"):
        ConvKAN(drop_path_rate=0.1)


def test_dropout_spares_the_first_convolution():
    model = kv.create_model("convkan_4", width_scale=0.125, layer_drop_rate=0.25, drop_rate=0.5)
    assert [conv.drop_rate for stage in model.stages for conv in stage] == [0.0, 0.25, 0.25, 0.25]
    assert model.head.drop.p == 0.5


def test_device_and_dtype():
    model = kv.create_model("convkan_4", width_scale=0.125, device="meta", dtype=torch.float64)
    assert all(p.is_meta and p.dtype == torch.float64 for p in model.parameters())
