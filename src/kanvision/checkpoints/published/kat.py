"""Weights of the authors of KAT (arXiv 2409.10594) and of FlashKAT (arXiv 2505.13813).

Both are timm's ViT with two rationals a block, under different names. The published kernels compute the form
of `kanvision.ops.rational`, so nothing but names and rows changes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kanvision.checkpoints.io import CheckpointError
from kanvision.models import create_model
from kanvision.spec.models import VIT_SIZES

from .strict import Problems, Tensors, most_voted, only

__all__ = ["OPTIONS", "load_flashkat", "load_kat"]

OPTIONS: dict[str, Any] = {"num_heads": None, "img_size": None, "share_numerator": None}
"""What the tensors do not tell, or may be wanted in another way."""
_NAMES = {
    "kat": {"numerator": "weight_numerator", "denominator": "weight_denominator"},
    "flashkat": {"numerator": "numerator_v", "denominator": "denominator_v"},
}
_RATIONAL = re.compile(r"(.*\.mlp\.act[12]\.)(\w+)")
_PER_HEAD = 64  # in all published sizes


def load_kat(found: Tensors, **options: Any) -> nn.Module:
    """KAT of any size from rationals named `weight_numerator` and `weight_denominator`.

    Args:
        found: Published tensors by name.
        **options: `num_heads` (default: one for each 64 channels), `img_size` (default: the square that the
            position embeddings are for), `share_numerator` (default: as in the file; False copies the shared
            row for each group, True wants equal rows).

    Raises:
        CheckpointError: If a name is missing, unexpected or of another shape, or rows cannot be shared.
        ValueError: If an option is not known or does not fit.
    """
    return _load(found, "kat", options)


def load_flashkat(found: Tensors, **options: Any) -> nn.Module:
    """Load a KAT with rationals named `numerator_v` and `denominator_v`, with one row, or one a group."""
    return _load(found, "flashkat", options)


def _load(found: Tensors, source: str, options: Mapping[str, Any]) -> nn.Module:
    chosen = only(options, OPTIONS, f"source={source!r}")
    ours = _renamed(found, source)
    arguments = _arguments(ours, chosen)
    sizes = {tuple(size.values()): word for word, size in VIT_SIZES.items()}
    word = sizes.get(tuple(arguments[key] for key in ("embed_dim", "depth", "num_heads")), "tiny")
    with torch.device("meta"):
        model = create_model(f"kat_{word}_patch16_224", weight_init="skip", **arguments)
    rows = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    problems = Problems()
    values: dict[str, Tensor] = {}
    for name, value in ours.items():
        wanted = rows.get(name, ())
        if _RATIONAL.fullmatch(name) and wanted and value.shape[1:] == wanted[1:]:
            (published,) = _published({name: value}, source)
            value = _with_rows(value, wanted[0], published, problems)
        values[name] = value
    problems.compare(_published(values, source), _published(rows, source))
    width, depth, groups = (arguments[key] for key in ("embed_dim", "depth", "num_groups"))
    problems.raise_if_any(f"a {source} of width {width} with {depth} blocks and {groups} groups")
    model.load_state_dict({name: value.clone() for name, value in values.items()}, assign=True)
    return model


def _renamed(found: Tensors, source: str) -> dict[str, Tensor]:
    """The tensors under the names of our own network."""
    here = {published: own for own, published in _NAMES[source].items()}
    others = [other for other in _NAMES if other != source]
    renamed: dict[str, Tensor] = {}
    for name, value in found.items():
        match = _RATIONAL.fullmatch(name)
        if match is not None:
            for other in others:
                if match[2] in _NAMES[other].values():
                    raise CheckpointError(f"{name} is a name of {other}; take source={other!r}")
            if match[2] in here:
                name = match[1] + here[match[2]]
        renamed[name] = value
    return renamed


def _published(tensors: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Our names as published, for messages."""
    return {
        match[1] + _NAMES[source].get(match[2], match[2])
        if (match := _RATIONAL.fullmatch(name))
        else name: value
        for name, value in tensors.items()
    }


def _arguments(ours: Tensors, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the network that the tensors belong to."""
    width = most_voted("the width", [len(v) for k, v in ours.items() if re.search(r"norm[12]?\.weight$", k)])
    blocks = {int(match[1]) for name in ours if (match := re.match(r"blocks\.(\d+)\.", name))}
    hidden = most_voted("the width of the blocks", _lengths(ours, r"blocks\.\d+\.mlp\.fc1\.(weight|bias)"))
    filters = [tuple(v.shape) for k, v in ours.items() if k == "patch_embed.proj.weight" and v.ndim == 4]
    _, in_chans, patch, _ = most_voted("the patches", filters)
    heads = chosen["num_heads"] or width // _PER_HEAD
    if not heads or width % heads:
        raise ValueError(
            f"num_heads={chosen['num_heads']} does not fit a width of {width}; give a divisor of it"
        )
    groups = tuple(_num_groups(ours, act) for act in ("act1", "act2"))
    shared = {v.shape[0] == 1 for k, v in ours.items() if k.endswith(".numerator") and v.ndim == 2} == {True}
    return {
        "embed_dim": width,
        "depth": max(blocks, default=0) + 1,
        "num_heads": heads,
        "mlp_ratio": hidden / width,
        "patch_size": patch,
        "img_size": chosen["img_size"] or _image_side(ours, patch),
        "in_chans": in_chans,
        "num_classes": next(iter(_lengths(ours, r"head\.(weight|bias)")), 0),
        "num_groups": groups[0] if groups[0] == groups[1] else groups,
        "share_numerator": shared if chosen["share_numerator"] is None else chosen["share_numerator"],
    }


def _lengths(ours: Tensors, pattern: str) -> list[int]:
    return [len(value) for name, value in ours.items() if value.ndim and re.fullmatch(pattern, name)]


def _num_groups(ours: Tensors, act: str) -> int:
    """Groups of the first or second rationals: the rows of most that have more than one."""
    rows = _lengths(ours, rf".*\.mlp\.{act}\.(numerator|denominator)")
    return most_voted("the groups of the rationals", [count for count in rows if count > 1] or rows)


def _image_side(ours: Tensors, patch: int) -> int:
    """Side of the square image that the position embeddings are for."""
    count = most_voted("the size of the image", [v.shape[1] for k, v in ours.items() if k == "pos_embed"]) - 1
    side = math.isqrt(count)
    if side * side != count:
        raise ValueError(f"img_size must be given: {count} patches are no square")
    return side * patch


def _with_rows(value: Tensor, count: int, name: str, problems: Problems) -> Tensor:
    """One row for all groups stands for each of them; rows become one only where they are equal."""
    if value.shape[0] == count:
        return value
    if value.shape[0] == 1:
        return value.expand(count, -1)
    if count == 1:
        if bool((value == value[:1]).all()):
            return value[:1]
        problems.others.append(
            f"{name}: its {value.shape[0]} rows differ; share_numerator=True wants equal ones"
        )
        return value[:1]
    problems.others.append(f"{name}: {value.shape[0]} rows, not 1 or {count}")
    return value[:1].expand(count, -1)
