"""Single published convolutions of torch-conv-kan, read from the names and shapes of their tensors.

Shapes: G groups, C inputs, O outputs, c = C/G, o = O/G, K basis functions, *k kernel.

Every group has its own convolutions, norm and PReLU there, in lists `name.0`, `name.1` ...; here they are one
grouped convolution, one norm and one activation, to which nothing but the storage differs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kanvision.bases import Basis
from kanvision.checkpoints.io import CheckpointError
from kanvision.checkpoints.published.strict import Shape, Tensors, most_voted, only
from kanvision.layers import (
    EdgeWaveletConv1d,
    EdgeWaveletConv2d,
    EdgeWaveletConv3d,
    KANConv1d,
    KANConv2d,
    KANConv3d,
    get_preset,
)
from kanvision.layers.conv import KANConvNd
from kanvision.layers.norm import MinMaxNorm

from .norm import INFERRED, PublishedNorm
from .wavelet import edge_wavelets, wavelet_shapes

__all__ = [
    "BATCH_MATES",
    "CONSTANT",
    "CONV_KINDS",
    "CONV_OPTIONS",
    "GEOMETRY",
    "PublishedConv",
    "channel_major",
    "conv_kind",
    "infer_constants",
]

GEOMETRY = {"stride": 1, "padding": 0, "dilation": 1}
"""What no tensor tells about a convolution, as published."""
_CONV = {1: KANConv1d, 2: KANConv2d, 3: KANConv3d}
_EDGE = {1: EdgeWaveletConv1d, 2: EdgeWaveletConv2d, 3: EdgeWaveletConv3d}
_AMBIGUOUS = ("kaln", "kajn", "kabn")


class _Form(NamedTuple):
    """Storage of the basis weights of a kind of layer, and the options that its tensors do not determine."""

    weights: str
    storage: str  # "list": one convolution a group; "stack": (G, o, cK, *k); "whole": one convolution
    degree_major: bool = False
    counter: str | None = None  # the tensor with one entry for each function
    options: Mapping[str, Any] = {}  # read only


_FORMS: dict[str, _Form] = {
    "kan": _Form(
        "spline_conv", "list", options={"spline_order": 3, "grid_range": (-1.0, 1.0), "base_act": "gelu"}
    ),
    "fastkan": _Form("spline_conv", "list", counter="rbf.grid", options={"base_act": "silu"}),
    "kaln": _Form("poly_weights", "stack", degree_major=True),
    "kacn": _Form("poly_conv", "list", counter="arange"),
    "kagn": _Form("poly_weights", "stack", degree_major=True, counter="beta_weights"),
    "kagn_v2": _Form("poly_conv", "whole", degree_major=True, counter="beta_weights", options={"groups": 1}),
    "kajn": _Form("poly_weights", "stack", degree_major=True, options={"alpha": 1.0, "beta": 1.0}),
    "kabn": _Form("poly_weights", "stack"),
    "wavkan": _Form("wavelet_conv", "list", options={"wavelet": "mexican_hat"}),
    "relukan": _Form("relukan_conv", "list", counter="phase_low", options={"grid_size": 5}),
}
CONV_KINDS = tuple(_FORMS)
CONV_OPTIONS = {kind: dict(form.options) for kind, form in _FORMS.items()}
"""Options beside `GEOMETRY` and `norm`, by kind."""

BATCH_MATES = (
    "the published KALN layers scale their input by the extremes of the whole batch, so that a prediction "
    "depends on the other images of its batch; here each sample has its own extremes, and outputs equal the "
    "published ones for batches of one"
)
CONSTANT = (
    "the published KABN layers return 1 for every Bernstein polynomial, so that these weights were trained "
    "as a bias; they are loaded as equal coefficients of the true polynomials, which sum to 1: the same "
    "function, but training goes on with a basis that depends on its input"
)
_SLICES = (
    "the published KAGN v2 layers cut their maps into groups behind the wrong axis, so that a group sees "
    "channels of others; this is loaded into a layer without groups, the same function with more weights"
)


def conv_kind(found: Tensors, layer: str | None = None) -> str:
    """Name of the published layer, from the names of its tensors.

    Args:
        found: Its tensors.
        layer: The name, where the user gives it.

    Raises:
        CheckpointError: If the names fit no layer, or several.
        ValueError: If `layer` is not known.
    """
    if layer is not None:
        if layer not in _FORMS:
            raise ValueError(f"layer={layer!r} is not known; legal values: {', '.join(CONV_KINDS)}")
        return layer
    heads = {name.split(".")[0] for name in found}
    if "wavelet_conv" in heads:
        return "wavkan"
    if "relukan_conv" in heads:
        return "relukan"
    if "spline_conv" in heads:
        return "fastkan" if "rbf" in heads else "kan"
    if {"base_conv.weight", "poly_conv.weight"} & set(found):
        return "kagn_v2"
    if "poly_conv" in heads:
        return "kacn"
    if "beta_weights" in heads:
        return "kagn"
    if "poly_weights" in heads:
        raise CheckpointError(
            f"the names of the tensors are those of {', '.join(_AMBIGUOUS)} layers alike; "
            f"say which one: layer={_AMBIGUOUS[0]!r}, ..."
        )
    raise CheckpointError(f"the tensors {', '.join(sorted(found))} are of no published convolution")


class PublishedConv:
    """One published convolution: what its tensors tell, what they should be, and the same layer here.

    Args:
        found: Tensors of the layer.
        kind: One of `CONV_KINDS`.
        **options: What the tensors do not tell: `stride`, `padding`, `dilation`, `norm`, those of the kind.

    Raises:
        CheckpointError: If a size cannot be told.
        ValueError: If an option is not one of this layer, or contradicts the tensors.
    """

    def __init__(self, found: Tensors, kind: str, **options: Any) -> None:
        form = self.form = _FORMS[kind]
        self.found = found
        self.kind = kind
        legal = {**GEOMETRY, "norm": INFERRED, **form.options}
        self.options = only(options, legal, f"a published {kind} convolution")
        self.groups = self._groups()
        self._infer()
        self.norm = PublishedNorm(
            found,
            "layer_norm" if form.storage == "whole" else None,
            self.groups,
            self.c if kind == "fastkan" else self.o,
            self.options["norm"],
        )
        self.remarks = self._remarks()

    @property
    def in_channels(self) -> int:
        """Number of input channels, C."""
        return self.c * self.groups

    @property
    def out_channels(self) -> int:
        """Number of output channels, O."""
        return self.o * self.groups

    def _groups(self) -> int:
        if self.form.storage == "whole":
            return int(self.options["groups"])
        stack = self.found.get("poly_weights") if self.form.storage == "stack" else None
        if stack is not None and stack.ndim > 3 and len(stack):
            return len(stack)
        indices = [re.match(r"(?:base_conv|\w+_conv|layer_norm)\.(\d+)\.", name) for name in self.found]
        return 1 + max((int(match[1]) for match in indices if match), default=0)

    def _shapes(self, pattern: str) -> list[torch.Size]:
        """Shapes of the tensors of these names; empty ones tell nothing."""
        matching = [value for name, value in self.found.items() if re.fullmatch(pattern, name)]
        return [value.shape for value in matching if value.numel()]

    def _infer(self) -> None:
        """Sizes, by the vote of all tensors that know them."""
        form = self.form
        base = self._shapes(r"base_conv\.(\d+\.)?weight")
        basis = self._shapes(rf"{form.weights}\.(\d+\.)?weight")
        basis += [shape[1:] for shape in self._shapes("poly_weights")]  # the groups are in front
        kernels = [shape for shape in base + basis if len(shape) > 2]
        edges = [shape[1:] for shape in self._shapes(r"wavelet_conv\.\d+\.(scale|translation)")]
        norms = (
            [] if self.kind == "fastkan" else self._shapes(r"layer_norm\.(\d+\.)?(weight|bias|running_.*)")
        )
        many = self.groups if form.storage == "whole" else 1  # there a tensor holds all groups
        self.kernel = tuple(most_voted("the kernel", [shape[2:] for shape in kernels]))
        outputs = [shape[0] // many for shape in kernels + edges + norms if shape]
        self.o = most_voted("the number of outputs", outputs)
        # the functions stand on the last axis, or before the axes of space
        counters = [
            shape[2 if len(shape) > 2 else -1] for shape in self._shapes(form.counter or "-") if shape
        ]
        counts = [1] if self.kind == "wavkan" else counters
        inputs = [shape[1] for shape in [*base, *edges] if len(shape) > 1]
        inputs += [shape[1] // counts[0] for shape in basis if counts and len(shape) > 1]
        self.c = most_voted("the number of inputs", inputs)
        counts = counts or [shape[1] // self.c for shape in basis if len(shape) > 1]
        self.num_basis = most_voted("the number of basis functions", counts)

    def _remarks(self) -> list[str]:
        remarks = {"kaln": BATCH_MATES, "kabn": CONSTANT}
        if self.kind == "kagn_v2" and self.groups > 1:
            return [_SLICES]
        return [remarks[self.kind]] if self.kind in remarks else []

    def wanted(self) -> dict[str, Shape]:
        """Names and shapes of the layer's tensors."""
        form, width = self.form, self.c * self.num_basis
        shapes: dict[str, Shape] = {}
        if form.storage == "whole":
            shapes["base_conv.weight"] = (self.out_channels, self.c, *self.kernel)
            shapes["poly_conv.weight"] = (self.out_channels, width, *self.kernel)
        for group in range(self.groups if form.storage != "whole" else 0):
            if self.kind != "kacn":
                shapes[f"base_conv.{group}.weight"] = (self.o, self.c, *self.kernel)
            if self.kind == "kan":
                shapes[f"prelus.{group}.weight"] = (1,)
            if self.kind == "wavkan":
                shapes |= wavelet_shapes(self.found, group, self.o, self.c, self.kernel)
            elif form.storage == "list":
                shapes[f"{form.weights}.{group}.weight"] = (self.o, width, *self.kernel)
        if form.storage == "stack":
            shapes["poly_weights"] = (self.groups, self.o, width, *self.kernel)
        ones = (1,) * len(self.kernel)
        if self.kind == "relukan":
            shapes |= dict.fromkeys(("phase_low", "phase_high"), (1, self.c, self.num_basis, *ones))
        elif self.kind == "kacn":
            shapes["arange"] = (1, 1, self.num_basis, *ones)
        elif form.counter:
            shapes[form.counter] = (self.num_basis,)
        return shapes | self.norm.wanted()

    def layer_options(self) -> dict[str, Any]:
        """Arguments of the layer here, without its sizes."""
        options, count = self.options, self.num_basis
        basis: dict[str, Any] = {}
        if self.kind == "kan":
            basis = {"grid_size": count - options["spline_order"], "degree": options["spline_order"]}
            basis["grid_range"] = tuple(options["grid_range"])
        elif self.kind == "fastkan":
            grid = self.found["rbf.grid"].tolist()
            basis = {"num_centers": count, "grid_range": (grid[0], grid[-1])}
        elif self.kind == "wavkan":
            basis = {"kind": options["wavelet"]}
        elif self.kind == "relukan":
            basis = {"grid_size": options["grid_size"], "order": count - options["grid_size"]}
        else:
            basis = {"degree": count - 1}
            if self.kind == "kajn":
                basis |= {"alpha": options["alpha"], "beta": options["beta"]}
        slot = "input_norm" if self.kind == "fastkan" else "norm"
        changes: dict[str, Any] = {
            slot: self.norm.name,
            "norm_affine": self.norm.affine,
            "basis_kwargs": basis,
        }
        if "base_act" in options:
            changes["base_act"] = options["base_act"]
        return get_preset("kagn" if self.kind == "kagn_v2" else self.kind, **changes)

    def build(self) -> KANConvNd:
        """The layer with its weights; the tensors were checked before."""
        base = next(t for name, t in self.found.items() if re.match(r"(base|poly)_conv\.", name))
        ndim, merged = len(self.kernel), self.kind == "kagn_v2"
        layer: KANConvNd = (_EDGE if self.kind == "wavkan" else _CONV)[ndim](
            self.in_channels,
            self.out_channels,
            self.kernel,
            groups=1 if merged else self.groups,
            dtype=base.dtype,
            device=base.device,
            **{key: self.options[key] for key in GEOMETRY},
            **self.layer_options(),
        )
        if self.kind == "kaln" and self.groups > 1:
            layer.input_norm = MinMaxNorm(num_groups=self.groups)
        slot = "input_norm" if self.kind == "fastkan" else "norm"
        state = {f"{slot}.{name}": value for name, value in self.norm.merged().items()}
        state |= self._weights() | self._extras(layer)
        layer.load_state_dict({**infer_constants(layer, base.dtype), **state})
        return layer

    def _weights(self) -> dict[str, Tensor]:
        found, form, groups = self.found, self.form, range(self.groups)
        if self.kind == "wavkan":
            weights = edge_wavelets(found, self.groups, self.kernel, self.options["wavelet"])
        elif form.storage == "whole":
            return self._sliced_weights()
        else:
            pieces = (
                list(found["poly_weights"])
                if form.storage == "stack"
                else [found[f"{form.weights}.{group}.weight"] for group in groups]
            )
            basis = torch.cat(pieces)  # (O, cK, *k)
            if form.degree_major:
                basis = channel_major(basis, self.num_basis)
            if self.kind == "kabn":
                # equal coefficients of functions that sum to 1 are a constant
                sums = basis.reshape(len(basis), self.c, self.num_basis, *self.kernel).sum(2)  # (O, c, *k)
                basis = sums.repeat_interleave(self.num_basis, 1)
            weights = {"basis_weight": basis}
        if self.kind != "kacn":
            weights["base_weight"] = torch.cat([found[f"base_conv.{group}.weight"] for group in groups])
        return weights

    def _sliced_weights(self) -> dict[str, Tensor]:
        """Weights over all channels; group g sees the maps from g cK on, of index degree C + channel."""
        base, basis = self.found["base_conv.weight"], self.found["poly_conv.weight"]
        full_base = base.new_zeros(self.out_channels, self.in_channels, *self.kernel)
        full = basis.new_zeros(self.out_channels, self.num_basis * self.in_channels, *self.kernel)
        width = self.c * self.num_basis
        for group in range(self.groups):
            rows = slice(group * self.o, (group + 1) * self.o)
            full_base[rows, group * self.c : (group + 1) * self.c] = base[rows]
            full[rows, group * width : (group + 1) * width] = basis[rows]
        return {"base_weight": full_base, "basis_weight": channel_major(full, self.num_basis)}

    def _extras(self, layer: KANConvNd) -> dict[str, Tensor]:
        """Parameters beside the weights, after the layer got the modules that can hold them."""
        found = self.found
        if self.kind == "kan":
            slopes = torch.cat([found[f"prelus.{group}.weight"] for group in range(self.groups)])  # (G,)
            if bool((slopes == slopes[0]).all()):
                return {"act.weight": slopes[:1]}
            # one slope a group is held by one a channel
            layer.act = nn.PReLU(self.out_channels, device=slopes.device, dtype=slopes.dtype)
            return {"act.weight": slopes.repeat_interleave(self.o)}
        if self.kind == "fastkan":
            return {"basis.centers": found["rbf.grid"]}
        if self.kind in ("kagn", "kagn_v2") and self.num_basis > 2:
            return {"basis.beta": found["beta_weights"]}
        if self.kind == "relukan":
            sides = {"basis.start": found["phase_low"], "basis.end": found["phase_high"]}
            # the groups share them; (1, c, K, 1 ...) -> (C, K)
            return {name: side.flatten(2)[0].repeat(self.groups, 1) for name, side in sides.items()}
        return {}


def channel_major(weight: Tensor, num_basis: int) -> Tensor:
    """(O, K C, *k) -> (O, C K, *k)."""
    out, width, *kernel = weight.shape
    return weight.reshape(out, num_basis, width // num_basis, *kernel).transpose(1, 2).flatten(1, 2)


def infer_constants(module: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """Constants of all bases in a module, in the precision of its weights."""
    constants: dict[str, Tensor] = {}
    for prefix, part in module.named_modules():
        if isinstance(part, Basis):
            if dtype == torch.float64:
                part.reset_parameters()
            constants |= {f"{prefix}.{name}": value for name, value in part.named_buffers()}
    return constants
