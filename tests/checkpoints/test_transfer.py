"""Training that starts from other weights: what is loaded, what is refused, what a checkpoint then says."""

from pathlib import Path
from typing import Any

import pytest
import torch

from kanvision import create_model
from kanvision.checkpoints import CheckpointError, begin_finetuning, load_state_dict, start_from
from kanvision.layers import change_structure, structure_of
from kanvision.layers.adapters import AdaptedKANConv2d

NOTHING: dict[str, Any] = {"init_from": None, "freeze": False}
MATCH = r"stages\.[12]"
ADDITIONS: dict[str, Any] = {"extra_degrees": 1, "degrees": [2, 3], "adapter_rank": 1, "match": MATCH}


def make(seed: int = 0, num_classes: int = 10, width_scale: float = 0.125) -> torch.nn.Module:
    torch.manual_seed(seed)
    return create_model("convkan_4", num_classes=num_classes, in_chans=1, width_scale=width_scale).eval()


@pytest.fixture
def images() -> torch.Tensor:
    torch.manual_seed(5)
    return torch.randn(2, 1, 8, 8)


def checkpoint_of(model: torch.nn.Module) -> dict[str, Any]:
    return {
        "state_dict": {f"model.{name}": value for name, value in model.state_dict().items()},
        "kanvision": {"structure": structure_of(model)},
    }


def test_all_but_a_classifier_of_another_size_is_loaded(images: torch.Tensor) -> None:
    source, model = make(0), make(1, num_classes=3)
    fresh_head = model.head.fc.weight.clone()
    assert start_from(model, source.state_dict()) == ["head.fc.weight", "head.fc.bias"]
    assert torch.equal(model.forward_features(images), source.forward_features(images))
    assert torch.equal(model.head.fc.weight, fresh_head)
    same = make(1)
    assert start_from(same, checkpoint_of(source)) == []
    assert torch.equal(same(images), source(images))
    bare = make(0, num_classes=0)
    assert start_from(same := make(1), bare.state_dict()) == ["head.fc.weight", "head.fc.bias"]
    assert torch.equal(same.forward_features(images), bare.forward_features(images))
    assert start_from(make(1, num_classes=0), source.state_dict()) == []


def test_another_network_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"of another shape: stages\.0\.0\.basis_weight"):
        start_from(make(width_scale=0.25), make().state_dict())
    damaged = make().state_dict()
    damaged.pop("stages.0.0.basis_weight")
    with pytest.raises(CheckpointError, match=r"1 missing: stages\.0\.0\.basis_weight"):
        start_from(make(), damaged)
    with pytest.raises(CheckpointError, match=r"1 unexpected: stages\.9"):
        start_from(make(), {**make().state_dict(), "stages.9": torch.zeros(1)})


def test_a_checkpoint_with_adapters_loads_into_a_new_network(images: torch.Tensor) -> None:
    model = make()
    begin_finetuning(model, **{**NOTHING, "freeze": True}, **ADDITIONS)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    checkpoint, again = checkpoint_of(model), make(3)
    load_state_dict(again, checkpoint)
    assert isinstance(again.stages[1][0], AdaptedKANConv2d)
    assert torch.equal(again(images), model(images))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for name, parameter in again.named_parameters() if parameter.requires_grad} == trained
    assert "stages.1.0.basis_weight" not in trained
    assert "stages.0.0.basis_weight" in trained  # not matched

    # the start of the next training: adapters are merged, and new ones may come
    following = make(4)
    start_from(following, checkpoint)
    torch.testing.assert_close(following(images), model(images))
    assert all(parameter.requires_grad for parameter in following.parameters())
    change_structure(following, "add_adapters", "", extra_degrees=1)
    torch.testing.assert_close(following(images), model(images))
    assert [change["kind"] for change in structure_of(following)] == [
        "add_adapters",
        "merge_adapters",
        "add_adapters",
    ]
    load_state_dict(last := make(5), checkpoint_of(following))
    torch.testing.assert_close(last(images), model(images))


def test_the_start_is_a_file_or_a_run(tmp_path: Path, images: torch.Tensor) -> None:
    source = make(0)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    torch.save(checkpoint_of(source), tmp_path / "run" / "checkpoints" / "best.ckpt")
    torch.save(source.state_dict(), tmp_path / "bare.pt")
    for init_from in (tmp_path / "run", tmp_path / "bare.pt", "latest"):
        model = make(1)
        begin_finetuning(model, **{**NOTHING, "init_from": init_from}, runs_root=tmp_path)
        assert torch.equal(model(images), source(images))
    model = make(1)
    before = model(images)
    begin_finetuning(model, **NOTHING)
    assert torch.equal(model(images), before)
    with pytest.raises(CheckpointError, match=r"finetune\.init_from=.*nothing: .*no such file"):
        begin_finetuning(model, **{**NOTHING, "init_from": tmp_path / "nothing"})


def test_a_segmenter_gets_a_new_head() -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    source, model = (smp.Unet("resnet18", encoder_weights=None, classes=count) for count in (2, 3))
    left = start_from(model, source.state_dict())
    assert left == ["segmentation_head.0.weight", "segmentation_head.0.bias"]
    assert torch.equal(model.encoder.conv1.weight, source.encoder.conv1.weight)
