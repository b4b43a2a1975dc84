"""Conversion of a ViT to a KAT: weights are copied, the activation becomes the second rational.

D width, H heads, N tokens, P side of a patch, C channels of the image.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import timm
import torch
from timm.models import VisionTransformer, adapt_input_conv
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor, nn

from kanvision.layers import RATIONAL_PRESETS, GroupRational
from kanvision.models.kat import KAT
from kanvision.spec.models import VIT_ACTIVATION_STARTS

from .io import CheckpointError
from .published.strict import Problems, Shape, read_tensors

__all__ = ["start_from_vit"]

_FILES = {".npz", ".safetensors", ".pth", ".pt", ".bin", ".ckpt"}
_HEAD = ("head.weight", "head.bias")
_ATTENTION, _MLP = "MultiHeadDotProductAttention_1", "MlpBlock_3"  # names in the files of the ViT's authors


def start_from_vit(
    model: nn.Module, source: str | Path | Mapping[str, Tensor] | VisionTransformer, mode: str = "function"
) -> list[str]:
    """Give a KAT the weights of a plain vision transformer of its size.

    The first rational of each block is the identity. With mode="function" the second is the best fit of the
    ViT's activation (of a file's, which is taken for GELU), so that the KAT computes nearly what the ViT did.
    With mode="paper" it is the model's `act_init`, "swish" as published: another function, to be trained.
    Position embeddings are resampled to the model's grid, and the filters of the patches to its number of
    channels, as timm does it.

    Args:
        model: A KAT that was just built.
        source: Name in timm with published weights ("vit_tiny_patch16_224.augreg_in21k_ft_in1k"; fetched
            once), a file (.npz of the ViT's authors; safetensors or torch in timm's names), tensors by name,
            or a ViT of timm.
        mode: One of `VIT_ACTIVATION_STARTS`.

    Returns:
        Names of the classifier's weights that were not loaded, for the model has another number of classes.

    Raises:
        ValueError: If the model is no KAT or the mode is not known.
        CheckpointError: If there is no such name or file, or tensors are missing, unexpected or of another
            shape; the message names all of them, and nothing is loaded.
    """
    if not isinstance(model, KAT):
        raise ValueError(f"only a KAT can start from a ViT, not {type(model).__name__}; take model=kat")
    if mode not in VIT_ACTIVATION_STARTS:
        raise ValueError(f"mode={mode!r} is not known; legal values: {', '.join(VIT_ACTIVATION_STARTS)}")
    if isinstance(source, str | Path):
        path = Path(source)
        if path.suffix == ".npz":
            left = _load_npz(model, path)
            _set_rationals(model, mode, nn.GELU())
            return left
        if path.suffix not in _FILES and not path.exists():
            source = _published(str(source), int(model.patch_embed.proj.weight.shape[1]))
    act: nn.Module = nn.GELU()
    if isinstance(source, VisionTransformer):
        act, tensors = cast(Any, source.blocks[0]).mlp.act, source.state_dict()
    else:
        tensors = read_tensors(source)
    left = _load_tensors(model, tensors)
    _set_rationals(model, mode, act)
    return left


def _published(name: str, in_chans: int) -> VisionTransformer:
    """Return a model of timm with its published weights."""
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models("*vit*", pretrained=True), n=3)
        raise CheckpointError(
            f"{name}: no file and no model of timm" + (f"; nearest: {', '.join(near)}" if near else "")
        )
    try:
        model = timm.create_model(name, pretrained=True, in_chans=in_chans)
    except Exception as error:  # no weights of this name, no network, a damaged download in any format
        raise CheckpointError(f"{name}: timm could not load its published weights ({error})") from error
    if not isinstance(model, VisionTransformer):
        raise CheckpointError(f"{name}: is a {type(model).__name__}, not a VisionTransformer")
    return model


def _set_rationals(model: KAT, mode: str, act: nn.Module) -> None:
    """Set the rationals to identity and activation, or to the initial values of the model."""
    fitted = None
    for block in cast(Any, model.blocks):
        first, second = cast(GroupRational, block.mlp.act1), cast(GroupRational, block.mlp.act2)
        if mode == "function":
            first.init, first.start = "identity", RATIONAL_PRESETS["identity"]
        first.reset_parameters()
        if mode == "paper":
            second.reset_parameters()
        elif fitted is None:
            second.imitate(copy.deepcopy(act).to("cpu", torch.float64))
            fitted = second
        else:
            second.init, second.start = fitted.init, fitted.start
            second.reset_parameters()


def _load_tensors(model: KAT, tensors: Mapping[str, Tensor]) -> list[str]:
    """Load tensors with the names of timm, all or none."""
    if any(".mlp.act1." in name for name in tensors):
        raise CheckpointError(
            "these are the weights of a KAT already; start from those of a run with finetune.init_from, load "
            "published ones with kanvision.checkpoints.load_official"
        )
    given = dict(checkpoint_filter_fn(dict(tensors), cast(Any, model)))
    wanted = {k: tuple(v.shape) for k, v in model.state_dict().items() if ".mlp.act" not in k}
    filters = given.get("patch_embed.proj.weight")
    if filters is not None and filters.ndim == 4:
        given["patch_embed.proj.weight"] = adapt_input_conv(wanted["patch_embed.proj.weight"][1], filters)
    head = [name for name in _HEAD if name in wanted]
    left = head if any(_differs(given, name, wanted[name]) for name in head) else []
    for name in _HEAD:
        if left or not head:  # the classifier stays as it is
            given.pop(name, None)
            wanted.pop(name, None)
    problems = Problems()
    problems.compare(given, wanted)
    problems.raise_if_any(_in_words(model))
    model.load_state_dict(given, strict=False)
    return left


def _differs(given: Mapping[str, Tensor], name: str, shape: Shape) -> bool:
    return name not in given or tuple(given[name].shape) != shape


def _load_npz(model: KAT, path: Path) -> list[str]:
    """Let timm read a file of the ViT's authors, after all its names and shapes were compared."""
    if not path.is_file():
        raise CheckpointError(f"{path}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {
                name.removeprefix("opt/target/"): torch.empty(archive[name].shape, device="meta")
                for name in archive.files
            }
    except Exception as error:  # damage shows as errors of the archive, of its compression and of numpy
        raise CheckpointError(f"{path}: the file is cut off or no .npz archive ({error})") from error
    wanted = _npz_shapes(model)
    head = [name for name in _HEAD if name in model.state_dict()]
    problems = Problems()
    known = {name: tensor for name, tensor in found.items() if name in wanted}
    sizes = ("embedding/kernel", "Transformer/posembed_input/pos_embedding")  # of other sizes: timm resamples
    free = {name: tuple(known[name].shape) for name in sizes if name in known}
    problems.compare(known, {**wanted, **free})
    blocks = {name.split("/")[1] for name in found if name.startswith("Transformer/encoderblock_")}
    if len(blocks) > len(model.blocks):
        problems.others.append(f"{len(blocks)} blocks, not {len(model.blocks)}")
    problems.raise_if_any(_in_words(model))
    model.load_pretrained(str(path))
    return head if _differs(found, "head/bias", (model.num_classes,)) else []


def _npz_shapes(model: KAT) -> dict[str, Shape]:
    """Return the expected names and shapes of a file of the authors of ViT, without the classifier."""
    width, in_chans = model.embed_dim, int(model.patch_embed.proj.weight.shape[1])
    first: Any = model.blocks[0]
    heads, hidden = int(first.attn.num_heads), int(first.mlp.fc1.weight.shape[0])
    side, per_head = int(model.patch_embed.proj.weight.shape[2]), (heads, width // heads)
    shapes: dict[str, Shape] = {
        "embedding/kernel": (side, side, in_chans, width),
        "embedding/bias": (width,),
        "cls": (1, 1, width),
        "Transformer/posembed_input/pos_embedding": tuple(cast(Tensor, model.pos_embed).shape),
        "Transformer/encoder_norm/scale": (width,),
        "Transformer/encoder_norm/bias": (width,),
    }
    for index in range(len(model.blocks)):
        block = f"Transformer/encoderblock_{index}/"
        for part in ("query", "key", "value"):
            shapes[f"{block}{_ATTENTION}/{part}/kernel"] = (width, *per_head)
            shapes[f"{block}{_ATTENTION}/{part}/bias"] = per_head
        shapes[f"{block}{_ATTENTION}/out/kernel"] = (*per_head, width)
        shapes[f"{block}{_ATTENTION}/out/bias"] = (width,)
        for number, ends in enumerate(((width, hidden), (hidden, width))):
            shapes[f"{block}{_MLP}/Dense_{number}/kernel"] = ends
            shapes[f"{block}{_MLP}/Dense_{number}/bias"] = ends[1:]
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            shapes[f"{block}{norm}/scale"] = shapes[f"{block}{norm}/bias"] = (width,)
    return shapes


def _in_words(model: KAT) -> str:
    patch = tuple(model.patch_embed.proj.weight.shape[2:])
    return f"a KAT of width {model.embed_dim} with {len(model.blocks)} blocks and patches of {patch}"
