"""Published bottleneck convolutions of torch-conv-kan, plain and with a mixture of experts inside.

Shapes: G groups, C inputs, O outputs, M inner channels, c = C/G, o = O/G, m = M/G, K basis functions, E
experts, *k kernel.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from kanvision.checkpoints.published.strict import Shape, Tensors, below, most_voted, only
from kanvision.layers import (
    BottleneckKANConv1d,
    BottleneckKANConv2d,
    BottleneckKANConv3d,
    MoEBottleneckKANConv1d,
    MoEBottleneckKANConv2d,
    MoEBottleneckKANConv3d,
    get_preset,
)
from kanvision.layers.bottleneck import BottleneckKANConvNd

from .conv import GEOMETRY, channel_major, infer_constants
from .linear import PublishedLinear, inner_width
from .norm import INFERRED, PublishedNorm

__all__ = ["BOTTLENECK_OPTIONS", "PublishedBottleneck", "bottleneck_kind"]

_PLAIN = {1: BottleneckKANConv1d, 2: BottleneckKANConv2d, 3: BottleneckKANConv3d}
_MIXED = {1: MoEBottleneckKANConv1d, 2: MoEBottleneckKANConv2d, 3: MoEBottleneckKANConv3d}
BOTTLENECK_OPTIONS: dict[str, dict[str, Any]] = {
    "kagn": {},
    "relukan": {"grid_size": 5},
    "moe_kagn": {"k": 2},
}
"""Options beside those of every convolution, by kind."""
_PREGATE = "experts.pre_gate."


def bottleneck_kind(found: Tensors) -> str | None:
    """Key of `BOTTLENECK_OPTIONS` for the published bottleneck with these tensors; None if there is none."""
    heads = {name.split(".")[0] for name in found}
    if not heads & {"inner_proj", "out_proj"} or "gamma" in heads:
        return None
    if "experts" in heads:
        return "moe_kagn"
    return "relukan" if "relukan_conv" in heads else "kagn"


class PublishedBottleneck:
    """One published bottleneck convolution: what its tensors tell, and the same layer here.

    Args:
        found: Tensors of the layer.
        kind: A key of `BOTTLENECK_OPTIONS`.
        **options: What the tensors do not tell: `stride`, `padding`, `dilation`, `norm`, those of the kind.

    Raises:
        CheckpointError: If a size cannot be told.
        ValueError: If an option is not one of this layer, or contradicts the tensors.
    """

    def __init__(self, found: Tensors, kind: str, **options: Any) -> None:
        legal = {**GEOMETRY, "norm": INFERRED, **BOTTLENECK_OPTIONS[kind]}
        self.options = only(options, legal, f"a published {kind} bottleneck")
        self.found = found
        self.kind = kind
        self.remarks: list[str] = []
        lists = [re.match(r"(?:\w+_conv|\w+_proj|layer_norm)\.(\d+)\.", name) for name in found]
        self.groups = 1 + max((int(match[1]) for match in lists if match), default=0)
        experts = [re.match(r"experts\.experts\.(\d+)\.", name) for name in found]
        self.num_experts = 1 + max((int(match[1]) for match in experts if match), default=0)
        self._infer()
        self.norm = PublishedNorm(found, None, self.groups, self.o, self.options["norm"])
        self.pregate: PublishedLinear | None = None
        if kind == "moe_kagn" and any(name.startswith(_PREGATE) for name in found):
            self.pregate = PublishedLinear(below(found, _PREGATE), "kagn")
            self.pregate.sizes |= {"C": self.width, "O": self.width, "K": self.num_basis}

    @property
    def in_channels(self) -> int:
        """Number of input channels, C."""
        return self.c * self.groups

    @property
    def out_channels(self) -> int:
        """Number of output channels, O."""
        return self.o * self.groups

    @property
    def width(self) -> int:
        """Number of inner channels, M."""
        return self.m * self.groups

    def _shapes(self, pattern: str) -> list[torch.Size]:
        matching = [value for name, value in self.found.items() if re.fullmatch(pattern, name)]
        return [value.shape for value in matching if value.numel()]

    def _infer(self) -> None:
        base = [shape for shape in self._shapes(r"base_conv\.\d+\.weight") if len(shape) > 2]
        stacks = self._shapes(r"(experts\.experts\.\d+\.)?poly_weights")
        inner = [shape[1:] for shape in stacks] + self._shapes(r"relukan_conv\.\d+\.weight")
        inner = [shape for shape in inner if len(shape) > 2]
        squeeze = [shape for shape in self._shapes(r"inner_proj\.\d+\.weight") if len(shape) > 2]
        expand = [shape for shape in self._shapes(r"out_proj\.\d+\.weight") if len(shape) > 2]
        norms = [shape for shape in self._shapes(r"layer_norm\.\d+\.(weight|bias|running_.*)") if shape]
        self.kernel = tuple(most_voted("the kernel", [shape[2:] for shape in base + inner]))
        self.o = most_voted("the number of outputs", [shape[0] for shape in base + expand + norms])
        self.c = most_voted("the number of inputs", [shape[1] for shape in base + squeeze])
        widths = [shape[0] for shape in inner + squeeze] + [shape[1] for shape in expand]
        self.m = most_voted("the number of inner channels", widths)
        counters = self._shapes(r"(experts\.experts\.\d+\.)?beta_weights|phase_low|phase_high")
        counts = [shape[1] // self.m for shape in inner if shape[1] % self.m == 0]
        counts += [shape[2 if len(shape) > 2 else -1] for shape in counters if shape]
        self.num_basis = most_voted("the number of basis functions", counts)

    def wanted(self) -> dict[str, Shape]:
        """Names and shapes of the layer's tensors."""
        m, ones, shapes = self.m, (1,) * len(self.kernel), dict[str, Shape]()
        for group in range(self.groups):
            shapes[f"base_conv.{group}.weight"] = (self.o, self.c, *self.kernel)
            shapes[f"inner_proj.{group}.weight"] = (m, self.c, *ones)
            shapes[f"out_proj.{group}.weight"] = (self.o, m, *ones)
            if self.kind == "relukan":
                shapes[f"relukan_conv.{group}.weight"] = (m, m * self.num_basis, *self.kernel)
        if self.kind == "relukan":
            shapes |= dict.fromkeys(("phase_low", "phase_high"), (1, m, self.num_basis, *ones))
        else:
            for prefix in self._cores():
                shapes[f"{prefix}poly_weights"] = (self.groups, m, m * self.num_basis, *self.kernel)
                shapes[f"{prefix}beta_weights"] = (self.num_basis,)
        if self.kind == "moe_kagn":
            # the gate, and a second pair that nothing reads
            names = ("experts.w_gate", "experts.w_noise", "w_gate", "w_noise")
            shapes |= dict.fromkeys(names, (self.width, self.num_experts))
            shapes |= dict.fromkeys(("experts.mean", "experts.std"), (1,))
        if self.pregate is not None:
            shapes |= {_PREGATE + name: shape for name, shape in self.pregate.wanted().items()}
        return shapes | self.norm.wanted()

    def _cores(self) -> dict[str, str]:
        """Prefixes of the inner convolutions, there and here."""
        if self.kind != "moe_kagn":
            return {"": "inner."}
        return {f"experts.experts.{e}.": f"inner.experts.{e}." for e in range(self.num_experts)}

    def layer_options(self) -> dict[str, Any]:
        """Arguments of the layer here, without its sizes."""
        basis = {"degree": self.num_basis - 1}
        if self.kind == "relukan":
            cells = self.options["grid_size"]
            basis = {"grid_size": cells, "order": self.num_basis - cells}
        return get_preset(
            "relukan" if self.kind == "relukan" else "kagn",
            bottleneck=True,
            norm=self.norm.name,
            norm_affine=self.norm.affine,
            basis_kwargs=basis,
        )

    def build(self) -> BottleneckKANConvNd:
        """The layer with its weights; the tensors were checked before."""
        base = self.found["base_conv.0.weight"]
        options: dict[str, Any] = {**self.layer_options(), **inner_width(self.c, self.o, self.m)}
        options |= {key: self.options[key] for key in GEOMETRY}
        if self.kind == "moe_kagn":
            options |= {"num_experts": self.num_experts, "k": self.options["k"]}
            options["pregate"] = self.pregate is not None
        layer: BottleneckKANConvNd = (_MIXED if self.kind == "moe_kagn" else _PLAIN)[len(self.kernel)](
            self.in_channels,
            self.out_channels,
            self.kernel,
            groups=self.groups,
            dtype=base.dtype,
            device=base.device,
            **options,
        )
        state = self._state()
        if self.pregate is not None:
            gate = self.pregate.build()
            state |= {f"inner.pregate.{name}": value for name, value in gate.state_dict().items()}
        layer.load_state_dict({**infer_constants(layer, base.dtype), **state})
        return layer

    def _state(self) -> dict[str, Tensor]:
        found, groups = self.found, range(self.groups)

        def merged(name: str) -> Tensor:
            return torch.cat([found[f"{name}.{group}.weight"] for group in groups])

        state = {f"norm.{name}": value for name, value in self.norm.merged().items()}
        state |= {"base_weight": merged("base_conv")}
        state |= {"squeeze.weight": merged("inner_proj"), "expand.weight": merged("out_proj")}
        if self.kind == "relukan":
            state["inner.basis_weight"] = merged("relukan_conv")
            sides = {"inner.basis.start": found["phase_low"], "inner.basis.end": found["phase_high"]}
            # the groups share them; (1, m, K, 1 ...) -> (M, K)
            return state | {name: side.flatten(2)[0].repeat(self.groups, 1) for name, side in sides.items()}
        for there, here in self._cores().items():
            weight = found[f"{there}poly_weights"].flatten(0, 1)  # (M, K m, *k)
            state[f"{here}basis_weight"] = channel_major(weight, self.num_basis)
            if self.num_basis > 2:
                state[f"{here}basis.beta"] = found[f"{there}beta_weights"]
        if self.kind == "moe_kagn":
            state |= {f"inner.gate.{name}": found[f"experts.{name}"] for name in ("w_gate", "w_noise")}
        return state
