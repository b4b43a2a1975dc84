"""Weights of KAT and FlashKAT: the published function, both namings, shared rows, complete refusals."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from kanvision.checkpoints import CheckpointError, load_official
from kanvision.models.kat import KAT
from kanvision.spec.models import VIT_SIZES

from .reference_kat import NAMES, forward, random_kat

SMALL: dict[str, Any] = {"num_heads": 3}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@torch.no_grad()
@pytest.mark.parametrize("source", NAMES)
def test_a_whole_published_network(source: str) -> None:
    state = random_kat(source, width=192, depth=12, image=224, patch=16, classes=1000)
    assert len(state) == 200
    model: Any = load_official(state, source=source)
    assert isinstance(model, KAT)
    assert sum(p.numel() for p in model.parameters()) == 5_718_328
    assert (model.blocks[0].attn.num_heads, len(model.blocks), model.training) == (3, 12, False)
    image = torch.randn(1, 3, 224, 224, dtype=torch.float64)
    want = forward(state, image, 3, source)
    assert want.std() > 0.3
    torch.testing.assert_close(model(image), want, rtol=1e-9, atol=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("size", [size for size in VIT_SIZES if size != "micro"])
def test_sizes_are_told_from_the_tensors(size: str) -> None:
    width, depth, num_heads = VIT_SIZES[size].values()
    with torch.device("meta"):
        state = random_kat(width=width, depth=depth, image=384, patch=16, classes=1000)
    model: Any = load_official(
        {k: torch.empty_like(v, device="meta") for k, v in state.items()}, source="kat"
    )
    assert model.default_cfg["architecture"] == f"kat_{size}_patch16_224"
    assert (model.embed_dim, len(model.blocks), model.blocks[0].attn.num_heads) == (width, depth, num_heads)
    assert model.patch_embed.img_size == (384, 384)


@torch.no_grad()
@pytest.mark.parametrize("rows", [(1, 8), (8, 8), (8, 1), (1, 1), (1, 4)])
@pytest.mark.parametrize("source", NAMES)
def test_rows_of_the_rationals(source: str, rows: tuple[int, int]) -> None:
    state = random_kat(source, rows=rows)
    model: Any = load_official(state, source=source, **SMALL)
    groups = max(rows)
    for act in (model.blocks[0].mlp.act1, model.blocks[1].mlp.act2):
        assert act.numerator.shape == (1 if rows[0] == 1 else groups, 6)
        assert act.denominator.shape == (groups, 4)
    image = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(model(image), forward(state, image, 3, source), rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_numerators_can_be_taken_apart_and_together() -> None:
    state = random_kat()
    image = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    apart: Any = load_official(state, source="kat", share_numerator=False, **SMALL)
    assert apart.blocks[0].mlp.act1.numerator.shape == (8, 6)
    torch.testing.assert_close(apart(image), forward(state, image, 3), rtol=1e-9, atol=1e-9)
    equal = {k: v.expand(8, -1) if "numerator" in k else v for k, v in state.items()}
    together: Any = load_official(equal, source="kat", share_numerator=True, **SMALL)
    assert together.blocks[0].mlp.act1.numerator.shape == (1, 6)
    assert torch.equal(together(image), load_official(state, source="kat", **SMALL)(image))
    with pytest.raises(CheckpointError) as caught:
        load_official(random_kat(rows=(8, 8)), source="kat", share_numerator=True, **SMALL)
    assert str(caught.value).count("its 8 rows differ") == 4


@torch.no_grad()
def test_groups_of_one_channel() -> None:
    state = random_kat("flashkat", depth=1, rows=(1, 48))
    wide = random_kat("flashkat", depth=1, rows=(1, 192))
    state |= {k: v for k, v in wide.items() if "act2" in k}
    model: Any = load_official(state, source="flashkat", **SMALL)
    assert (model.blocks[0].mlp.act1.num_groups, model.blocks[0].mlp.act2.num_groups) == (48, 192)
    image = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(model(image), forward(state, image, 3, "flashkat"), rtol=1e-9, atol=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("nest", ["state_dict", "state_dict_ema", "model", None])
@pytest.mark.parametrize("prefix", ["module.", ""])
def test_files(tmp_path: Path, nest: str | None, prefix: str) -> None:
    state = random_kat()
    content: Any = {prefix + name: value for name, value in state.items()}
    if nest is not None:
        content = {nest: content, "epoch": 300, "args": argparse.Namespace(lr=1e-3), "arch": "kat_tiny"}
    if nest == "state_dict_ema":  # the averages are what was published, not what they are averages of
        content["state_dict"] = {prefix + name: value + 1 for name, value in state.items()}
    torch.save(content, tmp_path / "kat.pth")
    image = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    model = load_official(tmp_path / "kat.pth", source="kat", **SMALL)
    torch.testing.assert_close(model(image), forward(state, image, 3), rtol=1e-9, atol=1e-9)


def test_safetensors_and_no_classifier(tmp_path: Path) -> None:
    state = {name: value.float() for name, value in random_kat().items() if not name.startswith("head.")}
    save_file(state, tmp_path / "kat.safetensors")
    model: Any = load_official(tmp_path / "kat.safetensors", source="kat", **SMALL)
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, 48)
    assert all(p.requires_grad and p.dtype == torch.float32 for p in model.parameters())
    before = state["cls_token"].clone()
    with torch.no_grad():
        model.cls_token.add_(1)
    assert torch.equal(state["cls_token"], before)  # the network has tensors of its own


def test_another_objects_in_a_file_are_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": random_kat(), "path": Path()}, tmp_path / "kat.pth")
    with pytest.raises(CheckpointError, match=r"holds Python objects \(pathlib"):
        load_official(tmp_path / "kat.pth", source="kat")


def test_all_faults_are_named() -> None:
    state = random_kat()
    del state["blocks.0.mlp.act1.weight_numerator"], state["norm.bias"]
    state["blocks.1.mlp.act2.weight_denominator"] = torch.zeros(3, 4)
    state["blocks.1.mlp.act1.weight_numerator"] = torch.zeros(1, 5)
    state["blocks.0.ls1.gamma"] = torch.zeros(48)
    with pytest.raises(CheckpointError) as caught:
        load_official(state, source="kat", **SMALL)
    for part in (
        "2 missing: ",
        "norm.bias",
        "blocks.0.mlp.act1.weight_numerator",
        "1 unexpected: blocks.0.ls1.gamma",
        "blocks.1.mlp.act1.weight_numerator (1, 5), not (1, 6)",
        "blocks.1.mlp.act2.weight_denominator: 3 rows, not 1 or 8",
        "a kat of width 48 with 2 blocks and 8 groups",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(("source", "other"), [("kat", "flashkat"), ("flashkat", "kat")])
def test_the_other_source_is_named(source: str, other: str) -> None:
    with pytest.raises(CheckpointError, match=rf"is a name of {other}; take source='{other}'"):
        load_official(random_kat(other), source=source)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "num_heads=None does not fit a width of 48"),
        ({"num_heads": 5}, "num_heads=5 does not fit a width of 48"),
        ({"heads": 3}, "heads=3: source='kat' has the options num_heads, img_size, share_numerator"),
    ],
)
def test_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_official(random_kat(), source="kat", **options)


def test_images_that_are_no_square() -> None:
    state = random_kat()
    state["pos_embed"] = torch.randn(1, 25, 48, dtype=torch.float64)
    with pytest.raises(ValueError, match="img_size must be given: 24 patches are no square"):
        load_official(state, source="kat", **SMALL)
    model: Any = load_official(state, source="kat", img_size=(32, 48), **SMALL)
    assert model(torch.randn(1, 3, 32, 48, dtype=torch.float64)).shape == (1, 7)
