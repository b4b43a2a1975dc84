"""Layers and whole networks that are measured, each beside its contenders.

Contenders of a KAN layer or network, where they apply:

* `kanvision`: the default mode.
* `plain formula`: the same module with KANVISION_KERNELS=off.
* `contraction`: its linear maps on ready maps, with the same norms and activations: the limit.
* `plain twin`: plain convolutions, linear layers, GELU or softmax of the same width; of networks that have a
  width also at equal parameters and at equal FLOPs.
* `grad checkpointing`: the default mode, with activations computed again in the backward pass.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import nn

from kanvision.analysis.cost import cost
from kanvision.bases import BASES
from kanvision.expansion.build import SWITCH
from kanvision.layers import PRESETS, GroupRational, KANConv2d, KANLinear, get_preset
from kanvision.models import create_model, set_grad_checkpointing

from .contenders import (
    PlainRational,
    RecursiveKANLinear,
    bspline_evaluations,
    free_expansions,
    plain_layer,
    replace,
)
from .measure import Contender

__all__ = ["Case", "Contenders", "convolution_case", "list_cases", "network_case", "rational_case"]

Contenders: TypeAlias = dict[str, Contender]


class Case(NamedTuple):
    """Layer or network on inputs of one shape."""

    name: str
    shape: tuple[int, ...]
    build: Callable[[], Contenders]
    is_quick: bool = False
    dtype: str = "float32"
    """Of the input and the module."""

    @property
    def label(self) -> str:
        """Return name and shape."""
        return f"{self.name} {'x'.join(map(str, self.shape))}"


def list_cases() -> list[Case]:
    """Return all cases."""
    return [*_list_layers(), *_list_networks()]


_CONVOLUTIONS = {
    (8, 64, 32, 32): tuple(name for name in BASES if name != "selectable"),
    (4, 32, 16, 16): tuple(name for name in PRESETS if name != "wavkan"),
    (1, 16, 8, 8): ("wavkan",),  # a wavelet for each edge takes 66 times as long
    (16, 128, 4, 4): ("bspline", "gram"),
    (1, 4, 8, 8): ("bspline", "gram"),
}
_LINEAR = {(4096, 256): ("bspline", "rbf", "gram"), (128, 64): ("bspline", "gram")}
_GRIDS = ((5, 3), (16, 3), (5, 5), (40, 3))


def _list_layers() -> Iterator[Case]:
    for shape, names in _CONVOLUTIONS.items():
        for name in names:
            yield convolution_case(name, shape, is_quick=shape == (1, 4, 8, 8))
    for shape, names in _LINEAR.items():
        for name in names:
            build = partial(_kan_contenders, partial(KANLinear, shape[1], shape[1], name))
            yield Case(f"KANLinear {name}", shape, build, is_quick=shape == (128, 64))
    for cells, degree in _GRIDS:
        build = partial(_evaluation_contenders, cells, degree)
        yield Case(f"B-splines grid {cells} degree {degree}", (4096, 64), build)
    yield rational_case((4, 197, 768))
    yield rational_case((2, 17, 64), is_quick=True)


def _build_conv(name: str, channels: int) -> KANConv2d:
    options: dict[str, Any] = get_preset(name) if name in PRESETS else {"norm": "batch", "act": "silu"}
    return KANConv2d(channels, channels, 3, padding=1, **{"basis": name, **options})


def convolution_case(name: str, shape: tuple[int, ...], is_quick: bool = False) -> Case:
    """Return the case of a 3x3 layer by the name of a preset, or of a basis with batch norm and SiLU."""
    build = partial(_kan_contenders, partial(_build_conv, name, shape[1]))
    return Case(f"KANConv2d {name}", shape, build, is_quick)


def _kan_contenders(build: Callable[[], KANConv2d | KANLinear]) -> Contenders:
    layer = build()
    found = _with_limits(layer) | {"plain twin": Contender(plain_layer(layer))}
    if not isinstance(layer.act, nn.Identity):
        found |= _checkpointed(layer)
    return found


def _with_limits(module: nn.Module) -> Contenders:
    return {
        "kanvision": Contender(module),
        "plain formula": Contender(module, {SWITCH: "off"}),
        "contraction": Contender(free_expansions(module)),
    }


def _checkpointed(module: nn.Module) -> Contenders:
    again: Any = copy.deepcopy(module)
    if isinstance(again, KANConv2d | KANLinear):
        again.checkpoint = True
    else:
        set_grad_checkpointing(again, True)
    return {"grad checkpointing": Contender(again)}


def _evaluation_contenders(cells: int, degree: int) -> Contenders:
    return {name: Contender(basis) for name, basis in bspline_evaluations(cells, degree).items()}


def rational_case(shape: tuple[int, ...], is_quick: bool = False, dtype: str = "float32") -> Case:
    """Return the case of KAT's activation beside GELU and beside its formula under autograd."""

    def build() -> Contenders:
        layer = GroupRational(shape[-1], init="swish")
        return {
            "kanvision": Contender(layer),
            "plain formula": Contender(layer, {SWITCH: "off"}),
            "formula under autograd": Contender(PlainRational(layer)),
            "plain twin": Contender(nn.GELU()),
        }

    name = "GroupRational" if dtype == "float32" else f"GroupRational {dtype}"
    return Case(name, shape, build, is_quick, dtype)


_NETWORKS: tuple[tuple[str, tuple[int, ...], dict[str, Any]], ...] = (
    ("convkan_4", (2, 3, 16, 16), {"width_scale": 0.25}),
    ("convkan_8", (80, 1, 8, 8), {"width_scale": 0.5, "num_classes": 10}),
    ("vgg_kan_11", (16, 3, 32, 32), {}),
    ("vgg_kan_11", (16, 3, 32, 32), {"basis": "bspline"}),
    ("res_kan_18", (2, 3, 64, 64), {}),
    ("res_kan_18", (16, 3, 64, 64), {}),
    ("dense_kan_tiny", (8, 3, 32, 32), {"head": "linear"}),
    ("rd_kan_tiny", (2, 3, 64, 64), {}),
    ("kkan_medium", (32, 1, 28, 28), {}),
    ("kat_tiny_patch16_224", (2, 3, 224, 224), {"attn_init": "default"}),
    ("karat_tiny_patch16_224", (2, 3, 224, 224), {}),
    ("ukan_medium", (4, 3, 128, 128), {}),
    ("kan_unet_4", (2, 3, 64, 64), {}),
    ("res_kan_unet_18", (2, 3, 64, 64), {}),
    ("u2_kan_small", (1, 3, 64, 64), {}),
)


def _list_networks() -> Iterator[Case]:
    for name, shape, options in _NETWORKS:
        yield network_case(name, shape, is_quick=name == "convkan_4", **options)


def network_case(name: str, shape: tuple[int, ...], *, is_quick: bool = False, **options: Any) -> Case:
    """Return the case of a registered network."""
    words = [name, *(str(options[key]) for key in ("basis", "share") if key in options)]
    build = partial(_network_contenders, name, shape, options)
    return Case(" ".join(words), shape, build, is_quick)


def _network_contenders(name: str, shape: tuple[int, ...], options: Mapping[str, Any]) -> Contenders:
    build = partial(create_model, name, in_chans=shape[1], **options)
    network = build()
    found = _with_limits(network) if not name.startswith("karat") else _attention_contenders(network, build)
    if not name.startswith("kkan"):
        found |= _checkpointed(network)
    if name.startswith("ukan"):
        found["recursion"] = Contender(replace(network, KANLinear, RecursiveKANLinear))
    found["plain twin"] = Contender(build(plain=True))
    if not name.startswith(("kkan", "kat", "karat", "ukan")):
        for budget, count in (("parameters", _count_parameters), ("FLOPs", partial(_count_flops, shape))):
            found[f"plain twin, equal {budget}"] = Contender(_match_width(build, count))
    return found


def _attention_contenders(network: nn.Module, build: Callable[..., nn.Module]) -> Contenders:
    """Return KArAt by its implementations; its functions have logits as inputs and no maps."""
    found = {
        "kanvision": Contender(network),
        "plain formula": Contender(network, {SWITCH: "off"}),
    }
    for implementation in ("gemm", "naive"):
        found[implementation] = Contender(build(implementation=implementation))
    return found


def _match_width(build: Callable[..., nn.Module], count: Callable[[nn.Module], int]) -> nn.Module:
    """Return the plain twin whose width makes its cost that of the network, by bisection."""
    budget = count(build())
    low, high = 1 / 16, 8.0
    for _ in range(10):
        middle = (low * high) ** 0.5
        twin = build(plain=True, width_scale=middle)
        low, high = (middle, high) if count(twin) < budget else (low, middle)
    return build(plain=True, width_scale=high)


def _count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _count_flops(shape: tuple[int, ...], network: nn.Module) -> int:
    with torch.random.fork_rng(devices=[]):
        measured = cost(network, shape[1:])
    return measured.flops + measured.basis_flops
