"""Published fully connected layers of torch-conv-kan and stacks of them, from the names of their tensors.

Shapes: B batch, C inputs, O outputs, K basis functions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kanvision.checkpoints.io import CheckpointError
from kanvision.checkpoints.published.strict import Problems, Shape, Tensors, below, most_voted, only
from kanvision.layers import BottleneckKANLinear, EdgeWaveletConv1d, KANLinear, get_preset
from kanvision.layers.bottleneck import inner_channels

from .conv import BATCH_MATES, CONSTANT, infer_constants
from .wavelet import edge_scales

__all__ = [
    "LINEAR_KINDS",
    "LINEAR_OPTIONS",
    "PublishedLinear",
    "PublishedStack",
    "inner_width",
    "linear_kind",
]

_BOTH = "OC"  # letters of a shape: O outputs, C inputs, M inner features, K functions
_NORM = {"weight": "O", "bias": "O"}


class _Form(NamedTuple):
    """Tensors of a kind of layer by name, with the letters of their axes, and what they do not tell."""

    weights: str
    shapes: Mapping[str, str]
    norm: tuple[str, str] | None = None  # names there and here
    options: Mapping[str, Any] = {}  # read only


_SPLINE = {"spline_order": 3, "grid_range": (-1.0, 1.0), "base_act": "gelu"}
_FORMS: dict[str, _Form] = {
    "kan": _Form(
        "spline_weight",
        {"base_weight": _BOTH, "spline_weight": "OCK", "prelu.weight": "1"},
        ("layer_norm", "norm"),
        _SPLINE,
    ),
    "kaln": _Form(
        "poly_weight", {"base_weight": _BOTH, "poly_weight": "O*"}, ("layer_norm", "norm"), {"act": "silu"}
    ),
    "fastkan": _Form(
        "spline_linear.weight",
        {"spline_linear.weight": "O*", "rbf.grid": "K", "layernorm.weight": "C", "layernorm.bias": "C"},
        options={"base_act": "silu"},
    ),
    "kacn": _Form("cheby_coeffs", {"cheby_coeffs": "COK", "arange": "K"}),
    "kagn": _Form(
        "grams_basis_weights",
        {"grams_basis_weights": "COK", "base_weights": _BOTH, "beta_weights": "K"},
        ("norm", "norm"),
        {"act": "silu"},
    ),
    "bottleneck_kagn": _Form(
        "grams_basis_weights",
        {
            "grams_basis_weights": "MMK",
            "base_weights": _BOTH,
            "beta_weights": "K",
            "inner_proj.weight": "MC",
            "inner_proj.bias": "M",
            "outer_proj.weight": "OM",
            "outer_proj.bias": "O",
        },
        ("norm", "norm"),
        {"act": "silu"},
    ),
    "kajn": _Form(
        "jacobi_coeffs",
        {"jacobi_coeffs": "COK", "base_weights": _BOTH},
        ("norm", "norm"),
        {"act": "silu", "alpha": 1.0, "beta": 1.0},
    ),
    "kabn": _Form(
        "bernstein_coeffs",
        {"bernstein_coeffs": "COK", "base_weights": _BOTH},
        ("norm", "norm"),
        {"act": "silu"},
    ),
    "wavkan": _Form(
        "wavelet_weights",
        {
            **dict.fromkeys(("wavelet_weights", "weight1", "scale", "translation"), _BOTH),
            **dict.fromkeys(("bn.running_mean", "bn.running_var"), "O"),
            "bn.num_batches_tracked": "",
        },
        ("bn", "norm"),
        {"wavelet": "mexican_hat"},
    ),
    "relukan": _Form(
        "equal_size_conv.weight",
        {
            "equal_size_conv.weight": "O1KC",
            "equal_size_conv.bias": "O",
            "phase_low": "CK",
            "phase_high": "CK",
        },
        options={"grid_size": None},
    ),
}
LINEAR_KINDS = tuple(_FORMS)
LINEAR_OPTIONS = {kind: dict(form.options) for kind, form in _FORMS.items()}
"""Options by kind."""


def linear_kind(found: Tensors) -> str | None:
    """Name of the published fully connected layer with these tensors; None if there is none."""
    kind = next((kind for kind, form in _FORMS.items() if form.weights in found), None)
    if kind == "kagn" and any(re.match(r"(inner|outer)_proj\.", name) for name in found):
        return "bottleneck_kagn"
    return kind


class PublishedLinear:
    """One published fully connected layer: what its tensors tell, and the same layer here.

    Args:
        found: Tensors of the layer.
        kind: One of `LINEAR_KINDS`.
        **options: What the tensors do not tell: those of the kind.

    Raises:
        CheckpointError: If a size cannot be told.
        ValueError: If an option is not one of this layer.
    """

    def __init__(self, found: Tensors, kind: str, **options: Any) -> None:
        form = _FORMS[kind]
        self.found = found
        self.kind = kind
        self.options = only(options, form.options, f"a published fully connected {kind} layer")
        self.letters = dict(form.shapes)
        if form.norm:
            self.letters |= {f"{form.norm[0]}.{name}": letter for name, letter in _NORM.items()}
        if kind == "fastkan" and any(name.startswith("base_linear.") for name in found):
            self.letters |= {"base_linear.weight": _BOTH, "base_linear.bias": "O"}
        self.sizes = self._infer(form)
        self.remarks = [{"kaln": BATCH_MATES, "kabn": CONSTANT}[kind]] if kind in ("kaln", "kabn") else []

    @property
    def in_features(self) -> int:
        """Number of input features, C."""
        return self.sizes["C"]

    @property
    def out_features(self) -> int:
        """Number of output features, O."""
        return self.sizes["O"]

    def _infer(self, form: _Form) -> dict[str, int]:
        """Return the size of each letter, by a vote of all tensors that have it."""
        weights = self.found.get(form.weights)
        width = 0 if weights is None else weights.shape[-1:].numel()  # of "*", both C and K
        flat, counts = form.shapes[form.weights] == "O*", self._votes("K")
        inputs = self._votes("C")
        if flat and counts:
            inputs += [width // counts[0]]
        sizes = {"1": 1, "O": most_voted("the number of outputs", self._votes("O"))}
        sizes["C"] = most_voted("the number of inputs", inputs)
        if flat and not counts:
            counts = [width // sizes["C"]]
        if "MMK" in form.shapes.values():
            sizes["M"] = most_voted("the number of inner features", self._votes("M"))
        sizes["K"] = 1 if self.kind == "wavkan" else most_voted("the number of basis functions", counts)
        return {**sizes, "*": sizes["C"] * sizes["K"]}

    def _votes(self, letter: str) -> list[int]:
        return [
            self.found[name].shape[letters.index(letter)]
            for name, letters in self.letters.items()
            if letter in letters and name in self.found and self.found[name].ndim == len(letters)
            if self.found[name].numel()
        ]

    def wanted(self) -> dict[str, Shape]:
        """Names and shapes of the layer's tensors."""
        return {name: tuple(self.sizes[axis] for axis in axes) for name, axes in self.letters.items()}

    def build(self) -> nn.Module:
        """The layer with its weights; the tensors were checked before."""
        if self.kind == "wavkan":
            return self._wavelets()
        dtype = self.found[_FORMS[self.kind].weights].dtype
        options = self._layer_options()
        layer: KANLinear | BottleneckKANLinear
        if self.kind == "bottleneck_kagn":
            options |= inner_width(self.in_features, self.out_features, self.sizes["M"])
            layer = BottleneckKANLinear(self.in_features, self.out_features, dtype=dtype, **options)
        else:
            layer = KANLinear(self.in_features, self.out_features, dtype=dtype, **options)
        layer.to(self.found[_FORMS[self.kind].weights].device)
        layer.load_state_dict({**infer_constants(layer, dtype), **self._state()})
        return layer

    def _layer_options(self) -> dict[str, Any]:
        options, count = self.options, self.sizes["K"]
        if self.kind == "kan":
            order = options["spline_order"]
            basis = {"grid_size": count - order, "degree": order, "grid_range": tuple(options["grid_range"])}
        elif self.kind == "fastkan":
            grid = self.found["rbf.grid"].tolist()
            basis = {"num_centers": count, "grid_range": (grid[0], grid[-1])}
        elif self.kind == "relukan":
            cells = options["grid_size"] or self._cells(count)
            basis = {"grid_size": cells, "order": count - cells}
        else:
            basis = {"degree": count - 1}
        if self.kind == "kajn":
            basis |= {"alpha": options["alpha"], "beta": options["beta"]}
        gram = self.kind in ("kagn", "bottleneck_kagn")
        changes: dict[str, Any] = {"basis_kwargs": basis}
        if "base_act" in options:
            changes["base_act"] = options["base_act"]
        if self.kind == "fastkan" and "base_linear.weight" not in self.letters:
            changes |= {"base_act": None, "bias": False}
        if "act" in options:
            slots = ["base_act", "act", *(["basis_act"] if gram else [])]
            changes |= dict.fromkeys(slots, options["act"])
        inside = self.kind == "bottleneck_kagn"
        return get_preset("kagn" if gram else self.kind, linear=True, bottleneck=inside, **changes)

    @staticmethod
    def _cells(count: int) -> int:
        if count != 2:
            raise ValueError(
                f"grid_size=None: the tensors tell grid_size + order = {count} alone; say grid_size "
                "(published stacks have 1, with order 1)"
            )
        return 1

    def _state(self) -> dict[str, Tensor]:
        found, form = self.found, _FORMS[self.kind]
        weight = found[form.weights]
        if form.shapes[form.weights] in ("COK", "MMK"):
            weight = weight.transpose(0, 1)  # (O, C, K)
        if self.kind == "kabn":
            # equal coefficients of functions that sum to 1 are a constant
            weight = weight.sum(-1, keepdim=True).expand_as(weight)
        # ReLU-KAN reads (B, C, K) as if it were (B, K, C): its weights are in this order too
        inner = "inner." if self.kind == "bottleneck_kagn" else ""
        state = {f"{inner}basis_weight": weight.flatten(1)}
        renamed = {
            "base_weight": "base_weight",
            "base_weights": "base_weight",
            "base_linear.weight": "base_weight",
            "base_linear.bias": "bias",
            "equal_size_conv.bias": "bias",
            "prelu.weight": "act.weight",
            "layernorm.weight": "input_norm.weight",
            "layernorm.bias": "input_norm.bias",
            "rbf.grid": "basis.centers",
            "phase_low": "basis.start",
            "phase_high": "basis.end",
        }
        for there, here in (("inner_proj", "squeeze"), ("outer_proj", "expand")):
            renamed |= {f"{there}.{name}": f"{here}.{name}" for name in ("weight", "bias")}
        if self.sizes["K"] > 2:
            renamed["beta_weights"] = f"{inner}basis.beta"
        state |= {renamed[name]: value for name, value in found.items() if name in renamed}
        return state | self._norm()

    def _norm(self) -> dict[str, Tensor]:
        names = _FORMS[self.kind].norm
        return (
            {}
            if names is None
            else {f"{names[1]}.{k}": v for k, v in below(self.found, f"{names[0]}.").items()}
        )

    def _wavelets(self) -> nn.Module:
        """A convolution over one position: `KANLinear` has no wavelet for each edge. (B, C) -> (B, O)."""
        found, weight = self.found, self.found["wavelet_weights"]
        options = get_preset("wavkan", basis_kwargs={"kind": self.options["wavelet"]})
        layer = EdgeWaveletConv1d(self.in_features, self.out_features, 1, dtype=weight.dtype, **options)
        layer.to(weight.device)
        scale, sign = edge_scales(found["scale"], self.options["wavelet"])
        state = {
            "basis_weight": (weight * sign).unsqueeze(-1),
            "base_weight": found["weight1"].unsqueeze(-1),
            "shift": found["translation"],
            "scale": scale,
            "mix_weight": torch.eye(self.out_features, dtype=weight.dtype, device=weight.device).unsqueeze(
                -1
            ),
        }
        layer.load_state_dict({**infer_constants(layer, weight.dtype), **state, **self._norm()})
        layer.mix_weight.requires_grad_(False)  # this layer has none
        return nn.Sequential(nn.Unflatten(1, (self.in_features, 1)), layer, nn.Flatten())


class PublishedStack:
    """Fully connected layers one behind the other, `layers.0`, `layers.1` ...; dropout leaves gaps.

    Args:
        found: Tensors of the stack.
        **options: As of `PublishedLinear`, for all its layers.

    Raises:
        CheckpointError: If a layer is of no known kind.
        ValueError: If an option is not one of the layers.
    """

    def __init__(self, found: Tensors, **options: Any) -> None:
        self.found = found
        indices = {int(match[1]) for name in found if (match := re.match(r"layers\.(\d+)\.", name))}
        self.layers: dict[str, PublishedLinear] = {}
        for index in sorted(indices):
            prefix = f"layers.{index}."
            tensors = below(found, prefix)
            kind = linear_kind(tensors)
            if kind is None:
                raise CheckpointError(
                    f"the tensors {', '.join(prefix + name for name in tensors)} are of no published fully "
                    "connected layer"
                )
            self.layers[prefix] = PublishedLinear(tensors, kind, **options)
        self.remarks = [remark for layer in self.layers.values() for remark in layer.remarks]

    def compare(self, problems: Problems, prefix: str = "") -> None:
        """Note what is wrong with the tensors."""
        for index, layer in self.layers.items():
            problems.compare(layer.found, layer.wanted(), prefix + index)
        inside = tuple(self.layers)
        problems.compare({k: v for k, v in self.found.items() if not k.startswith(inside)}, {}, prefix)

    def build(self) -> nn.Sequential:
        """The layers with their weights; the tensors were checked before."""
        return nn.Sequential(*(layer.build() for layer in self.layers.values()))


def inner_width(inputs: int, outputs: int, width: int) -> dict[str, Any]:
    """Arguments that give a bottleneck its inner width, the published ones where they do."""
    for reduction in (8, 4):
        if inner_channels(inputs, outputs, reduction, 16) == width:
            return {"dim_reduction": reduction}
    return {"dim_reduction": max(inputs, outputs) / (width + 0.5), "min_internal": 1}
