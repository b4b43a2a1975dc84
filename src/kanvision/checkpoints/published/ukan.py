"""Weights of the authors of U-KAN (Seg_UKAN, arXiv 2406.02918) and of its crop-field variant (2408.07040).

Both have the same names for their tensors and differ in the width of the stem. Shapes: C inputs, O outputs,
K basis functions, n knots.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kanvision.checkpoints.io import CheckpointError
from kanvision.models import create_model

from .efficient_kan import infer_basis, infer_degree
from .strict import Problems, Shape, Tensors, below, most_voted, only

__all__ = ["load_crop_ukan", "load_ukan"]

_OF_PAIR = {"conv1": "0", "norm1": "1", "conv2": "3", "norm2": "4"}
_OF_MIXER = {"layer": "layer.fc{}.", "conv": "layer.dwconv_{}.dwconv.", "norm": "layer.dwconv_{}.bn."}
_OF_LAYER = {"basis_weight": "spline_weight", "edge_scale": "spline_scaler", "basis.knots": "grid"}
_BLOCKS = ("block1.0.", "block2.0.", "dblock1.0.", "dblock2.0.")
_KAN_TENSORS = ("base_weight", "spline_weight", "spline_scaler", "grid")


def load_ukan(found: Tensors, **options: Any) -> nn.Module:
    """U-KAN or its MLP twin, any size and number of layers, for images of any size.

    Args:
        found: Published tensors by name.
        **options: There are none.

    Raises:
        CheckpointError: If a name is missing, unexpected or of another shape, or a grid cannot be held.
        ValueError: If there is an option.
    """
    return _load(found, "u-kan", (8, 4), options)


def load_crop_ukan(found: Tensors, **options: Any) -> nn.Module:
    """Load the crop-field variant, which has a wider stem; a prefix `model.` of all names is removed."""
    if all(name.startswith("model.") for name in found):
        found = below(found, "model.")
    return _load(found, "crop-u-kan", (4, 2), options)


def _load(found: Tensors, source: str, stem: tuple[int, int], options: Mapping[str, Any]) -> nn.Module:
    only(options, {}, f"source={source!r}")
    arguments = _arguments(found, stem)
    with torch.device("meta"):
        empty: Any = create_model("ukan_medium", **arguments)
    tensors = empty.network.state_dict()
    prefixes = _prefixes(arguments["num_layers"])
    published = {name: _published_name(name, prefixes) for name in tensors}
    wanted = {published[name]: _published_shape(name, tensors) for name in tensors}
    problems = Problems()
    problems.compare(found, wanted)
    problems.raise_if_any(
        f"a {source} with embed_dims={arguments['embed_dims']} and stem_dims={arguments['stem_dims']}"
    )
    model: Any = create_model("ukan_medium", **arguments).to(found["final.weight"])
    model.network.load_state_dict(
        {name: _value(name, found[published[name]], tensors[name]) for name in tensors}
    )
    segmenter: nn.Module = model
    return segmenter


def _arguments(found: Tensors, stem: tuple[int, int]) -> dict[str, Any]:
    """Arguments of the network that the tensors belong to."""
    third, fourth, fifth = (
        most_voted(
            f"embed_dims[{index}]",
            [len(found[name + end]) for name in names for end in ("weight", "bias") if name + end in found],
        )
        for index, names in enumerate(
            (("dnorm4.",), ("norm3.", "dnorm3.", "patch_embed3.norm."), ("norm4.", "patch_embed4.norm."))
        )
    )
    inputs = [shape[1] for shape in _shapes(found, r"encoder1\.conv\.0\.weight") if len(shape) == 4]
    outputs = [shape[0] for shape in _shapes(found, r"final\.(weight|bias)") if shape]
    layers = {int(m[1]) for name in found if (m := re.search(r"\.layer\.(?:fc|dwconv_)(\d+)\.", name))}
    num_layers = most_voted("the number of layers of a block", [max(layers)] if layers else [])
    plain = tuple(not _is_kan(found, number + 1) for number in range(num_layers))
    return {
        "embed_dims": (third, fourth, fifth),
        "stem_dims": (third // stem[0], third // stem[1]),
        "num_layers": num_layers,
        "plain": plain,
        "in_chans": most_voted("the channels of the image", inputs),
        "num_classes": most_voted("the number of classes", outputs),
        **(_spline(found) if not all(plain) else {}),
    }


def _shapes(found: Tensors, pattern: str) -> list[Shape]:
    return [tuple(value.shape) for name, value in found.items() if re.fullmatch(pattern, name)]


def _is_kan(found: Tensors, number: int) -> bool:
    """Return True if the layers of this number are KAN layers in most blocks."""
    votes = []
    for block in _BLOCKS:
        tensors = below(found, f"{block}layer.fc{number}.")
        if tensors:
            votes.append(any(name in tensors for name in _KAN_TENSORS))
    return most_voted(f"whether the layers fc{number} are KAN layers", votes)


def _spline(found: Tensors) -> dict[str, Any]:
    """Arguments of the basis, which all layers have in common, and of the layers."""
    grids = {name: value for name, value in found.items() if name.endswith(".grid") and value.ndim == 2}
    counts = [shape[-1] for shape in _shapes(found, r".*\.spline_weight") if len(shape) == 3]
    num_basis = most_voted("the number of basis functions", counts)
    degree = infer_degree(
        most_voted("the number of knots", [value.shape[1] for value in grids.values()]), num_basis
    )
    right = {name: value for name, value in grids.items() if value.shape[1] == num_basis + degree + 1}
    bases = {name: infer_basis(value, degree, name) for name, value in right.items()}
    (first, basis), *others = bases.items()
    for name, other in bases.items():
        if "knots" in other:
            raise CheckpointError(f"{name}: the knots are not equidistant: {other['knots']}")
    for name, other in others:
        low, high = basis["grid_range"]
        if any(
            abs(mine - its) > 1e-5 * (high - low)
            for mine, its in zip(basis["grid_range"], other["grid_range"], strict=True)
        ):
            raise CheckpointError(
                f"{name}: the grid is on {other['grid_range']} and that of {first} on {basis['grid_range']}; "
                "a network here has one basis for all layers"
            )
    scaled = any(name.endswith(".spline_scaler") for name in found)
    return {"basis": "bspline", "basis_kwargs": basis, "layer_kwargs": {"edge_scale": scaled}}


def _prefixes(num_layers: int) -> dict[str, str]:
    """Published beginnings of names, by those here."""
    found = {"head.conv.": "final."}
    for side, count in (("encoder", 3), ("decoder", 5)):
        for i in range(count):
            found |= {
                f"{side}.{i}.{here}.": f"{side}{i + 1}.conv.{there}." for here, there in _OF_PAIR.items()
            }
    for i in range(2):
        found |= {f"embeds.{i}.conv.": f"patch_embed{i + 3}.proj."}
        found |= {f"embeds.{i}.norm.": f"patch_embed{i + 3}.norm."}
        for way, there in (("down", ""), ("up", "d")):
            found[f"{way}_norms.{i}."] = f"{there}norm{i + 3}."
            block, published = f"{way}_blocks.{i}.", f"{there}block{i + 1}.0."
            found[f"{block}norm."] = f"{published}norm2."
            for j in range(num_layers):
                for part, form in _OF_MIXER.items():
                    found[f"{block}mixers.{j}.{part}."] = published + form.format(j + 1)
    return found


def _published_name(name: str, prefixes: Mapping[str, str]) -> str:
    here = next(prefix for prefix in prefixes if name.startswith(prefix))
    rest = name.removeprefix(here)
    return prefixes[here] + _OF_LAYER.get(rest, rest)


def _published_shape(name: str, tensors: Mapping[str, Tensor]) -> Shape:
    shape = tuple(tensors[name].shape)
    layer = name.rpartition(".layer.")[0] + ".layer."
    if name.endswith(".layer.basis_weight"):
        width = tensors[f"{layer}base_weight"].shape[1]
        return shape[0], width, shape[1] // width
    if name.endswith(".layer.basis.knots"):
        return tensors[f"{layer}base_weight"].shape[1], *shape
    return shape


def _value(name: str, found: Tensor, wanted: Tensor) -> Tensor:
    """A published tensor in the form that it has here."""
    return found[0] if name.endswith(".layer.basis.knots") else found.reshape(wanted.shape)
