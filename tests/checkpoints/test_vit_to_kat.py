"""A KAT that starts from a ViT: its function, all kinds of files, faults named together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import VisionTransformer
from torch import Tensor, nn

from kanvision.checkpoints import CheckpointError, start_from_vit
from kanvision.models import create_model

SIZE: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}


def kat(num_classes: int = 10, **kwargs: Any) -> Any:
    torch.manual_seed(1)
    return create_model("kat_tiny_patch16_224", num_classes=num_classes, **{**SIZE, **kwargs}).eval()


def vit(**kwargs: Any) -> VisionTransformer:
    """A ViT with weights of the scale of trained ones: activations and logits of deviations near 1."""
    torch.manual_seed(0)
    model = VisionTransformer(**{**SIZE, "num_classes": 10, **kwargs}).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("weight") and parameter.ndim == 2:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
        elif name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture
def images() -> Tensor:
    torch.manual_seed(5)
    return torch.randn(16, 3, 32, 32)


@torch.no_grad()
@pytest.mark.parametrize("act_layer", [nn.GELU, nn.SiLU, "quick_gelu"])
def test_the_function_is_kept(images: Tensor, act_layer: Any) -> None:
    source, model = vit(act_layer=act_layer), kat(act1_init="tanh")
    fresh = model(images)
    inputs: list[Tensor] = []
    for block in source.blocks:
        block.mlp.act.register_forward_hook(lambda _, args, __: inputs.append(args[0]))
    logits = source(images)
    # the scale that the tolerance is for: logits of norm 3 to 4, activations that reach well beyond 3
    assert 2.5 < logits.norm(dim=1).mean() < 4.5
    assert max(x.abs().max() for x in inputs) > 3.5
    assert 0.8 < torch.cat([x.flatten() for x in inputs]).std() < 1.3
    assert start_from_vit(model, source) == []
    difference = (model(images) - logits).abs().max()
    assert 0 < difference < 1e-2
    assert (fresh - logits).abs().max() > 0.5
    assert model.blocks[0].mlp.act1.numerator.tolist() == [[0, 1, 0, 0, 0, 0]]


@torch.no_grad()
def test_the_papers_way_is_swish_with_the_vits_weights(images: Tensor) -> None:
    source, model = vit(), kat()
    start_from_vit(model, source, mode="paper")
    assert [block.mlp.act2.init for block in model.blocks] == ["swish"] * 2
    assert (model(images) - source(images)).abs().max() > 5e-2
    swish = vit(act_layer=nn.SiLU)
    swish.load_state_dict(source.state_dict())
    torch.testing.assert_close(model(images), swish(images), atol=1e-3, rtol=0)
    state = model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in source.state_dict().items())


@torch.no_grad()
@pytest.mark.parametrize("ending", [".pth", ".safetensors", "dict", "ema"])
def test_files(tmp_path: Path, images: Tensor, ending: str) -> None:
    source, model = vit(), kat()
    state: Any = source.state_dict()
    path = tmp_path / f"weights{ending if ending.startswith('.') else '.pth'}"
    if ending == ".safetensors":
        save_file(state, path)
    elif ending == "ema":
        torch.save({"state_dict": {k: v + 1 for k, v in state.items()}, "state_dict_ema": state}, path)
    else:
        torch.save(state, path)
    start_from_vit(model, state if ending == "dict" else path)
    assert (model(images) - source(images)).abs().max() < 1e-2


def npz_of(model: VisionTransformer) -> dict[str, np.ndarray]:
    """The weights under the names and in the layouts of the ViT's authors (flax)."""
    width, heads = model.embed_dim, model.blocks[0].attn.num_heads
    state = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    found = {
        "embedding/kernel": state["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "cls": state["cls_token"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
        "head/kernel": state["head.weight"].T,
        "head/bias": state["head.bias"],
    }
    for i in range(len(model.blocks)):
        to, of = f"Transformer/encoderblock_{i}/", f"blocks.{i}."
        attention = f"{to}MultiHeadDotProductAttention_1/"
        for j, part in enumerate(("query", "key", "value")):
            rows = slice(j * width, (j + 1) * width)
            weight, bias = state[f"{of}attn.qkv.weight"][rows], state[f"{of}attn.qkv.bias"][rows]
            found[f"{attention}{part}/kernel"] = weight.T.reshape(width, heads, -1)
            found[f"{attention}{part}/bias"] = bias.reshape(heads, -1)
        found[f"{attention}out/kernel"] = state[f"{of}attn.proj.weight"].T.reshape(heads, -1, width)
        found[f"{attention}out/bias"] = state[f"{of}attn.proj.bias"]
        for j in (0, 1):
            found[f"{to}MlpBlock_3/Dense_{j}/kernel"] = state[f"{of}mlp.fc{j + 1}.weight"].T
            found[f"{to}MlpBlock_3/Dense_{j}/bias"] = state[f"{of}mlp.fc{j + 1}.bias"]
        for published, here in (("LayerNorm_0", "norm1"), ("LayerNorm_2", "norm2")):
            found[f"{to}{published}/scale"] = state[f"{of}{here}.weight"]
            found[f"{to}{published}/bias"] = state[f"{of}{here}.bias"]
    return found


@torch.no_grad()
def test_a_file_of_the_vits_authors(tmp_path: Path, images: Tensor) -> None:
    source, model = vit(), kat()
    np.savez(tmp_path / "Ti.npz", **npz_of(source))
    assert start_from_vit(model, tmp_path / "Ti.npz") == []
    assert (model(images) - source(images)).abs().max() < 1e-2
    other = kat(num_classes=3)
    assert start_from_vit(other, str(tmp_path / "Ti.npz")) == ["head.weight", "head.bias"]
    assert torch.equal(other.norm.weight, source.norm.weight)


def test_faults_of_such_a_file_are_named_together(tmp_path: Path) -> None:
    model, content = kat(), npz_of(vit())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    content.pop("cls")
    content.pop("Transformer/encoderblock_1/MlpBlock_3/Dense_0/bias")
    content["Transformer/encoder_norm/scale"] = np.zeros(7)
    np.savez(tmp_path / "broken.npz", **content)
    with pytest.raises(CheckpointError) as caught:
        start_from_vit(model, tmp_path / "broken.npz")
    message = str(caught.value)
    assert "2 missing: cls, Transformer/encoderblock_1/MlpBlock_3/Dense_0/bias" in message
    assert "Transformer/encoder_norm/scale (7,), not (48,)" in message
    assert "a KAT of width 48 with 2 blocks" in message
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    np.savez(tmp_path / "deep.npz", **npz_of(vit(depth=3)))
    with pytest.raises(CheckpointError, match="3 blocks, not 2"):
        start_from_vit(model, tmp_path / "deep.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "deep.npz").read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"cut\.npz: the file is cut off or no \.npz archive"):
        start_from_vit(model, tmp_path / "cut.npz")


@torch.no_grad()
def test_other_images_and_classes(images: Tensor) -> None:
    source = vit()
    model = kat(num_classes=3, img_size=48, in_chans=1, patch_size=4)
    assert start_from_vit(model, source) == ["head.weight", "head.bias"]
    assert model.pos_embed.shape == (1, 145, 48)
    assert model(torch.randn(2, 1, 48, 48)).shape == (2, 3)
    bare = kat(num_classes=0)
    assert start_from_vit(bare, source) == []
    features = source.forward_head(source.forward_features(images), pre_logits=True)
    torch.testing.assert_close(bare(images), features, atol=2e-2, rtol=0)
    assert start_from_vit(kat(), vit(num_classes=0)) == ["head.weight", "head.bias"]


def test_another_network_is_refused() -> None:
    model = kat()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(
        CheckpointError, match=r"of another shape: .*cls_token \(1, 1, 24\), not \(1, 1, 48\)"
    ):
        start_from_vit(model, vit(embed_dim=24))
    with pytest.raises(CheckpointError, match=r"unexpected: blocks\.2\.norm1\.weight"):
        start_from_vit(model, vit(depth=3))
    damaged = vit().state_dict()
    del damaged["blocks.0.mlp.fc1.weight"], damaged["norm.bias"]
    with pytest.raises(CheckpointError, match=r"2 missing: blocks\.0\.mlp\.fc1\.weight, norm\.bias"):
        start_from_vit(model, damaged)
    with pytest.raises(CheckpointError, match="weights of a KAT already"):
        start_from_vit(model, kat().state_dict())
    with pytest.raises(
        CheckpointError, match="vit_tiny_patch16_225: no file and no model of timm; nearest: vit_"
    ):
        start_from_vit(model, "vit_tiny_patch16_225")
    with pytest.raises(CheckpointError, match=r"nothing\.pth: no such file"):
        start_from_vit(model, "nothing.pth")
    with pytest.raises(CheckpointError, match=r"nothing\.npz: no such file"):
        start_from_vit(model, "nothing.npz")
    with pytest.raises(ValueError, match="mode='swish' is not known; legal values: function, paper"):
        start_from_vit(model, vit(), mode="swish")
    with pytest.raises(ValueError, match=r"only a KAT .* VisionTransformer; take model=kat"):
        start_from_vit(vit(), vit())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@torch.no_grad()
def test_a_name_in_timm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, images: Tensor) -> None:
    source = vit()
    torch.save(source.state_dict(), tmp_path / "published.pth")
    create = timm.create_model

    def at_hand(name: str, **kwargs: Any) -> nn.Module:
        """timm's own function, told that the published file is one on this disk."""
        overlay = {"file": str(tmp_path / "published.pth"), "num_classes": 10}
        return create(name, pretrained_cfg_overlay=overlay, **{**SIZE, **kwargs})

    monkeypatch.setattr(timm, "create_model", at_hand)
    model = kat()
    assert start_from_vit(model, "vit_tiny_patch16_224.augreg_in21k_ft_in1k") == []
    assert (model(images) - source(images)).abs().max() < 1e-2
    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(CheckpointError, match=r"vit_micro_patch16_224: timm could not load"):
        start_from_vit(model, "vit_micro_patch16_224")
