"""Training that starts from other weights: what is loaded, what is refused, what a checkpoint then says."""

from pathlib import Path
from typing import Any

import pytest
import torch

from kanvision import create_model
from kanvision.checkpoints import CheckpointError, begin_finetuning, load_initial_weights, load_state_dict
from kanvision.checkpoints.finetune import Start
from kanvision.layers import change_structure, structure_changes
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
        "kanvision": {"structure": structure_changes(model)},
    }


def test_all_but_a_classifier_of_another_size_is_loaded(images: torch.Tensor) -> None:
    source, model = make(0), make(1, num_classes=3)
    fresh_head = model.head.fc.weight.clone()
    assert load_initial_weights(model, source.state_dict()).fresh == ["head.fc.weight", "head.fc.bias"]
    assert torch.equal(model.forward_features(images), source.forward_features(images))
    assert torch.equal(model.head.fc.weight, fresh_head)
    same = make(1)
    assert load_initial_weights(same, checkpoint_of(source)) == Start([])
    assert torch.equal(same(images), source(images))
    bare = make(0, num_classes=0)
    assert load_initial_weights(same := make(1), bare.state_dict()).fresh == [
        "head.fc.weight",
        "head.fc.bias",
    ]
    assert torch.equal(same.forward_features(images), bare.forward_features(images))
    assert load_initial_weights(make(1, num_classes=0), source.state_dict()).fresh == []
    again = make(1)
    fresh_head = again.head.fc.weight.clone()
    start = load_initial_weights(again, source.state_dict(), new_head=True)
    assert str(start) == "anew: head.fc.weight, head.fc.bias"
    assert torch.equal(again.head.fc.weight, fresh_head)
    assert torch.equal(again.forward_features(images), source.forward_features(images))


@pytest.mark.parametrize(
    ("trained", "names", "fresh", "note"),
    [
        (["ant", "bee"], ["ant", "bee"], False, ""),
        (["ant", "bee"], ["bee", "ant"], True, "its classes are others, or in another order"),
        (["ant", "bee"], ["ant", "cow"], True, "its classes are others, or in another order"),
        (None, ["ant", "cow"], False, "its classes could not be compared, for it holds no names of them"),
        (["ant", "bee"], [], False, ""),
    ],
)
def test_a_classifier_is_kept_for_the_same_classes_only(
    trained: list[str] | None, names: list[str], fresh: bool, note: str
) -> None:
    kept = {} if trained is None else {"class_names": trained}
    start = load_initial_weights(make(1), {**checkpoint_of(make()), "kanvision": kept}, class_names=names)
    assert (bool(start.fresh), start.classes) == (fresh, note)


def test_another_network_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"of another shape: stages\.0\.0\.basis_weight"):
        load_initial_weights(make(width_scale=0.25), make().state_dict())
    damaged = make().state_dict()
    damaged.pop("stages.0.0.basis_weight")
    with pytest.raises(CheckpointError, match=r"1 missing: stages\.0\.0\.basis_weight"):
        load_initial_weights(make(), damaged)
    with pytest.raises(CheckpointError, match=r"1 unexpected: stages\.9"):
        load_initial_weights(make(), {**make().state_dict(), "stages.9": torch.zeros(1)})


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
    load_initial_weights(following, checkpoint)
    torch.testing.assert_close(following(images), model(images))
    assert all(parameter.requires_grad for parameter in following.parameters())
    change_structure(following, "add_adapters", "", extra_degrees=1)
    torch.testing.assert_close(following(images), model(images))
    assert [change["kind"] for change in structure_changes(following)] == [
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
    left = load_initial_weights(model, source.state_dict()).fresh
    assert left == ["segmentation_head.0.weight", "segmentation_head.0.bias"]
    assert torch.equal(model.encoder.conv1.weight, source.encoder.conv1.weight)


def transformer(
    name: str, img_size: int, patch_size: int = 4, seed: int = 0, **options: Any
) -> torch.nn.Module:
    torch.manual_seed(seed)
    sizes = {"embed_dim": 12, "depth": 2, "num_heads": 3, "in_chans": 1}
    return create_model(
        name, img_size=img_size, patch_size=patch_size, **{"num_classes": 4, **sizes, **options}
    ).eval()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_micro_patch16_224", {}),
        ("kat_micro_patch16_224", {"num_groups": 4}),
        ("karat_micro_patch16_224", {}),
        ("karat_micro_patch16_224", {"share": "universal", "w_bias": "layer"}),
    ],
)
def test_a_transformer_starts_from_images_of_another_size(name: str, options: dict[str, Any]) -> None:
    source = transformer(name, 16, **options)
    model = transformer(name, 24, seed=1, **{**options, "num_classes": 7})
    start = load_initial_weights(model, checkpoint_of(source))
    assert start == Start(["head.weight", "head.bias"], ((4, 4), (6, 6)))
    assert str(start).endswith("; what belongs to patches interpolated from 4 x 4 to 6 x 6")
    images = torch.randn(2, 1, 24, 24)
    source.set_input_size((24, 24))
    torch.testing.assert_close(model.forward_features(images), source.forward_features(images))
    assert model(images).shape == (2, 7)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_other_patches_and_tokens_of_no_square_are_refused() -> None:
    source = transformer("vit_micro_patch16_224", 16)
    with pytest.raises(
        CheckpointError, match=r"patch_embed\.proj\.weight \(12, 1, 4, 4\), not \(12, 1, 8, 8\)"
    ):
        load_initial_weights(transformer("vit_micro_patch16_224", 16, patch_size=8), source.state_dict())
    state = source.state_dict()
    state["pos_embed"] = state["pos_embed"][:, :-2]
    with pytest.raises(CheckpointError, match=r"pos_embed \(1, 15, 12\), not \(1, 17, 12\)"):
        load_initial_weights(transformer("vit_micro_patch16_224", 16), state)
