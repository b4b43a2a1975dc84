"""Base class of the readers of published networks of torch-conv-kan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from kanvision.checkpoints.published.strict import Problems, Shape, Tensors, below, most_voted, only
from kanvision.layers import PRESETS, get_preset
from kanvision.layers.attention import KANSelfAttentionNd
from kanvision.layers.bottleneck import BottleneckKANConvNd
from kanvision.layers.conv import KANConvNd
from kanvision.models import create_model

from .attention import Part, PublishedAttention, read_part
from .bottleneck import BOTTLENECK_OPTIONS, PublishedBottleneck
from .conv import CONV_OPTIONS
from .head import HEAD_OPTIONS, PublishedHead
from .norm import INFERRED, PublishedNorm

__all__ = ["PublishedNetwork"]

_OF_PARTS = {key for options in (*CONV_OPTIONS.values(), *BOTTLENECK_OPTIONS.values()) for key in options}
_OPTIONS = dict.fromkeys(sorted(_OF_PARTS - {"groups"})) | {
    "layer": "kaln",
    "norm": INFERRED,
    "head_act": None,
}


class PublishedNetwork:
    """A published network: its layers by the prefix of their tensors, and the same network here.

    A subclass reads `parts` (with `read`), `plain` (shapes of tensors that belong to no KAN layer) and `head`
    in its constructor, and says where they go.

    Args:
        found: Tensors of the network.
        given: Options that were given; `layer`, `norm`, `head_act`, those of the layers and of the network.

    Raises:
        CheckpointError: If the network is not a published one, or a size cannot be told.
        ValueError: If an option is not legal.
    """

    title: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}
    """Options of the network with their defaults."""
    base_act: ClassVar[dict[str, str]] = {}
    """Published activation of the base branch, by kind, where it is not that of the single layer."""
    head_acts: ClassVar[dict[str, str]] = {"kan": "gelu"}
    """Published activation of KAN layers in the head, by their kind, where it is not "silu"."""
    head_prefix: ClassVar[str] = "classifier."
    stem_prefix: ClassVar[str | None] = None
    """Of a first layer whose norm may be another than that of the rest."""

    def __init__(self, found: Tensors, given: Mapping[str, Any]) -> None:
        self.found = found
        self.chosen = only(given, {**_OPTIONS, **self.options}, f"a published {self.title}")
        self.given = dict(given)
        self.parts: dict[str, Part] = {}
        self.plain: dict[str, Shape] = {}
        self.others: list[str] = []

    def read(self, prefix: str, stride: int = 1) -> Part:
        """Read the layer below a prefix and keep it."""
        tensors = below(self.found, prefix)
        options = {"stride": stride, **self.given}
        kind = "fastkan" if "rbf.grid" in tensors else "kan"
        if kind in self.base_act:
            options.setdefault("base_act", self.base_act[kind])
        part = read_part(tensors, options, layer=self._layer(tensors), tolerant=True)
        if not isinstance(part, PublishedAttention):
            part.options["padding"] = tuple(side // 2 for side in part.kernel)
        self.parts[prefix] = part
        return part

    def _layer(self, tensors: Tensors) -> str | None:
        """Kind of a layer with `poly_weights`: that of most of them, so that a lost `beta_weights` is missed.

        Published networks of the three layers whose tensors look alike are all of one kind, KALN.
        """
        if "poly_weights" not in tensors:
            return None
        stacks = [name.removesuffix("poly_weights") for name in self.found if name.endswith(".poly_weights")]
        plain = [prefix for prefix in stacks if f"{prefix}out_proj.0.weight" not in self.found]
        gram = [
            prefix for prefix in plain if f"{prefix}beta_weights" in self.found and ".experts." not in prefix
        ]
        return "kagn" if 2 * len(gram) > len(plain) else self.chosen["layer"]

    def read_head(self) -> PublishedHead:
        """Read the head of the network."""
        options = {key: value for key, value in self.given.items() if key in HEAD_OPTIONS}
        tensors = below(self.found, self.head_prefix)
        return PublishedHead(tensors, self.chosen["head_act"], self.head_acts, options)

    def follow(self, prefix: str, channels: int, inputs: int) -> None:
        """Note it where a layer does not take the channels of what comes before it."""
        if channels != inputs:
            self.others.append(
                f"{prefix}* takes {inputs} channels, and what comes before it gives {channels}"
            )

    # set by subclasses

    channels: int
    """Channels of the map in front of the head."""
    head: PublishedHead
    name: str
    """Registered name of our network."""

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of our network, without those of its convolutions and its head."""
        raise NotImplementedError

    def lead(self) -> Part:
        """Return the layer that determines kind, norm and groups of the network."""
        raise NotImplementedError

    def map_modules(self, model: nn.Module) -> dict[str, str]:
        """Return the path of the module in our network for each prefix of `parts`."""
        raise NotImplementedError

    def renamed(self, model: nn.Module) -> dict[str, str]:
        """Return published and our names of the tensors in `plain`."""
        return {}

    # shared by all networks

    @property
    def remarks(self) -> list[str]:
        """Differences from the published network."""
        return [remark for part in self.parts.values() for remark in part.remarks] + self.head.remarks

    def compare(self, problems: Problems) -> None:
        """Add the problems of the tensors."""
        self._agree()
        for prefix, part in self.parts.items():
            problems.compare(part.found, part.wanted(), prefix)
        self.head.compare(problems, self.head_prefix)
        inside = (*self.parts, self.head_prefix)
        problems.compare({k: v for k, v in self.found.items() if not k.startswith(inside)}, self.plain)
        problems.others += self.others

    def _agree(self) -> None:
        """Let like layers have like norms; published stems may differ from the rest."""
        norms: dict[str, list[PublishedNorm]] = {}
        for prefix, part in self.parts.items():
            kind = "attention" if isinstance(part, PublishedAttention) else part.kind
            norms.setdefault(prefix if prefix == self.stem_prefix else kind, []).append(part.norm)
            if isinstance(part, PublishedAttention):
                norms[kind] += [inner.norm for inner in part.parts.values()]
        affine = most_voted("the norms", [norm.affine for alike in norms.values() for norm in alike])
        for alike in norms.values():
            statistics = most_voted("the norms", [norm.statistics for norm in alike])
            for norm in alike:
                norm.agree(affine, statistics)

    def factory_arguments(self) -> dict[str, Any]:
        """Arguments of the convolutions, from the layer that leads."""
        part = self.lead()
        if isinstance(part, PublishedAttention):
            part = part.parts["q"]
        layer = "kagn" if part.kind == "moe_kagn" else part.kind
        if layer not in PRESETS:
            raise ValueError(f"a published {self.title} has no {layer} layers")
        options = part.layer_options()
        arguments: dict[str, Any] = {
            "basis": PRESETS[layer]["basis"],
            "basis_kwargs": options["basis_kwargs"],
            "preset": layer,
            "norm": part.norm.name,
            "norm_affine": part.norm.affine,
            "groups": part.groups,
        }
        if options["base_act"] != get_preset(layer)["base_act"]:
            arguments["layer_kwargs"] = {"base_act": options["base_act"]}
        if isinstance(part, PublishedBottleneck):
            arguments["form"] = "bottleneck"
            if part.kind == "moe_kagn":
                mixture = {"num_experts": part.num_experts, "top_k": part.options["k"]}
                arguments |= {"form": "moe_bottleneck", **mixture}
        if any(isinstance(other, PublishedAttention) for other in self.parts.values()):
            arguments["attention_kwargs"] = {"parity": True}
        return arguments

    def build(self) -> nn.Module:
        """The network with its weights; the tensors were checked before."""
        head = self.head.arguments(self.channels, self.chosen.get("pool_size"))
        # without values, so that nothing can be left at its start
        with torch.device("meta"):
            model = create_model(self.name, **{**self.factory_arguments(), **self.arguments(), **head})
        for prefix, path in self.map_modules(model).items():
            built = self.parts[prefix].build()
            old, new = _geometry(model.get_submodule(path)), _geometry(built)
            if old != new:
                raise ValueError(f"{prefix}*: the published layer is {new}, that of {self.name} {old}")
            model.set_submodule(path, built)
        self.head.fill(model.get_submodule("head"))
        renamed = self.renamed(model)
        renamed |= {self.head_prefix + k: f"head.{v}" for k, v in self.head.renamed().items()}
        state = {**model.state_dict(), **{here: self.found[there].clone() for there, here in renamed.items()}}
        model.load_state_dict(state, assign=True)
        tensors = [*model.named_parameters(), *model.named_buffers()]
        left = [name for name, value in tensors if value.is_meta]
        assert not left, f"nothing published for {left}"
        return model


def _geometry(module: nn.Module) -> tuple[Any, ...]:
    """Return the properties that a layer and its replacement must share."""
    if isinstance(module, KANSelfAttentionNd):
        return module.channels, module.width
    assert isinstance(module, KANConvNd | BottleneckKANConvNd)
    core = module if isinstance(module, KANConvNd) else module._cores()[0]
    assert isinstance(core, KANConvNd)
    sizes = (module.in_channels, module.out_channels, module.groups)
    return *sizes, core.kernel_size, core.stride, core.padding, core.dilation
