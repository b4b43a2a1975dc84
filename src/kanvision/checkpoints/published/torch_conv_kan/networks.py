"""Published networks of torch-conv-kan, read from the names and shapes of their tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from kanvision.checkpoints.io import CheckpointError
from kanvision.checkpoints.published.strict import Shape, Tensors
from kanvision.layers.attention import KANSelfAttentionNd
from kanvision.layers.bottleneck import BottleneckKANConvNd
from kanvision.layers.conv import KANConvNd
from kanvision.models import convkan, dense_kan, res_kan, vgg_kan
from kanvision.spec.models import ResKANStem

from .attention import Part, PublishedAttention
from .network_reader import PublishedNetwork

__all__ = ["NETWORKS", "ConvNet", "DenseNet", "ResNet", "VGGNet", "find_reader"]


def find_reader(found: Tensors) -> type[PublishedNetwork] | None:
    """Return the reader of the published network with these tensors; None for a layer or a stack."""
    heads = {name.split(".")[0] for name in found}
    if any(name.startswith("features.conv0.") or ".denselayer" in name for name in found):
        return DenseNet
    if "features" in heads:
        return VGGNet
    if "layer1" in heads or "layer2" in heads:
        return ResNet
    return ConvNet if "output" in heads and "layers" in heads else None


def _numbers(found: Tensors, pattern: str) -> list[int]:
    """Return the numbers in names, sorted."""
    return sorted({int(match[1]) for name in found if (match := re.match(pattern, name))})


def _gapless(what: str, numbers: list[int], first: int) -> None:
    if numbers != list(range(first, first + len(numbers))) or not numbers:
        raise CheckpointError(f"the published weights have {what} {numbers}: there are tensors missing")


def _layers(model: nn.Module) -> list[str]:
    """Return the names of the outermost KAN layers over maps, in order."""
    found: list[str] = []
    for name, module in model.named_modules():
        outermost = not any(name.startswith(f"{outer}.") for outer in found)
        if outermost and isinstance(module, KANConvNd | BottleneckKANConvNd | KANSelfAttentionNd):
            found.append(name)
    return found


class ConvNet(PublishedNetwork):
    """The simple networks of 4, 8 and 16 layers: `layers.0` ... and `output`."""

    title = "simple network"
    head_prefix = "output."

    def __init__(self, found: Tensors, given: Mapping[str, Any]) -> None:
        super().__init__(found, given)
        numbers = _numbers(found, r"layers\.(\d+)\.")
        _gapless("the layers", numbers, 0)
        count = len(numbers)
        widths_by_stage = next((stages for size, stages in convkan.STAGES.items() if size == count), None)
        if widths_by_stage is None:
            raise CheckpointError(f"a simple network of {count} layers; the published ones have 4, 8 and 16")
        self.name = f"convkan_{count}"
        self.stages: list[list[int]] = []
        channels = 0
        for index, widths in enumerate(widths_by_stage):
            self.stages.append([])
            for depth in range(len(widths)):
                prefix = f"layers.{len(self.parts)}."
                part = self.read(prefix, 2 if index and not depth else 1)
                self.follow(prefix, channels or part.in_channels, part.in_channels)
                channels = part.out_channels
                self.stages[-1].append(channels)
        self.channels = channels
        self.head = self.read_head()

    def lead(self) -> Part:
        """The second layer: the first has no groups."""
        return self.parts["layers.1."]

    def arguments(self) -> dict[str, Any]:
        """Widths of the layers."""
        return {"stages": self.stages, "in_chans": self.parts["layers.0."].in_channels}

    def map_modules(self, model: nn.Module) -> dict[str, str]:
        """Layer by layer."""
        return dict(zip(self.parts, _layers(model), strict=True))


class VGGNet(PublishedNetwork):
    """VGG: `features.0` ..., where a number without tensors is a pooling, and `classifier`."""

    title = "VGG"
    options: ClassVar[dict[str, Any]] = {"pool_size": None, "global_pool": "avg"}
    base_act: ClassVar[dict[str, str]] = {"fastkan": "gelu"}
    head_acts: ClassVar[dict[str, str]] = dict.fromkeys(("fastkan", "kaln", "kagn", "kan"), "gelu")

    def __init__(self, found: Tensors, given: Mapping[str, Any]) -> None:
        super().__init__(found, given)
        self.stages: list[list[Part]] = []
        before, channels = -2, 0
        for number in _numbers(found, r"features\.(\d+)\."):
            prefix = f"features.{number}."
            part = self.read(prefix)
            if number > before + 1:
                self.stages.append([])
            if channels:
                self.follow(prefix, channels, part.in_channels)
            self.stages[-1].append(part)
            before, channels = number, part.out_channels
        self.channels = channels
        self.head = self.read_head()
        self.architecture = self._architecture()
        self.name = f"vgg_kan_{self._size()}"

    def lead(self) -> Part:
        """The second convolution: the first has no groups."""
        parts = [part for part in self.parts.values() if not isinstance(part, PublishedAttention)]
        return parts[min(1, len(parts) - 1)]

    def _architecture(self) -> dict[str, Any]:
        """Arguments of `VGGKAN`.

        Raises:
            CheckpointError: If the layers are not those of a published VGG.
        """
        convs = [[p for p in stage if not isinstance(p, PublishedAttention)] for stage in self.stages]
        widths = [[part.out_channels for part in stage] for stage in convs]
        attentions = [part for part in self.parts.values() if isinstance(part, PublishedAttention)]
        last = isinstance(self.stages[-1][-1], PublishedAttention)
        if last:
            widths[-1].append(widths[-1][-1])
        scale = widths[0][0] / vgg_kan.WIDTHS[0] if widths[0] else 0.0
        for version, more in vgg_kan.VERSIONS.items():
            for depths in vgg_kan.DEPTHS.values():
                table = [[w] * depth for w, depth in zip(vgg_kan.WIDTHS, depths, strict=True)]
                table += [list(more)] if more else []
                if last and table[-1][-1] != table[-1][0]:
                    continue
                if [[round(w * scale) for w in stage] for stage in table] == widths:
                    arguments = {"depths": depths, "version": version, "width_scale": scale}
                    return arguments | self._attention(attentions, last)
        raise CheckpointError(
            f"the widths {widths} between poolings are those of no published VGG "
            f"({', '.join(vgg_kan.VERSIONS)} of {', '.join(map(str, vgg_kan.DEPTHS))} layers)"
        )

    def _attention(self, parts: list[PublishedAttention], last: bool) -> dict[str, Any]:
        if not parts:
            return {}
        before_pools = [isinstance(stage[-1], PublishedAttention) for stage in self.stages[:-1]]
        expected = [False] * (len(before_pools) - 2) + [True] * 2
        if (any(before_pools) and before_pools != expected) or len(parts) != sum(before_pools) + last:
            raise CheckpointError("self-attention stands elsewhere than in the published VGG")
        reductions = {part.in_channels / part.width if part.projected else None for part in parts}
        if len(reductions) > 1:
            raise CheckpointError(f"self-attention of several reductions: {sorted(map(str, reductions))}")
        attention = {"pool_attention": any(before_pools), "last_attention": last}
        return {**attention, "attention_reduction": reductions.pop()}

    def _size(self) -> int:
        return next(size for size, depths in vgg_kan.DEPTHS.items() if depths == self.architecture["depths"])

    def arguments(self) -> dict[str, Any]:
        """Architecture and pooling."""
        first = next(iter(self.parts.values()))
        return {**self.architecture, "in_chans": first.in_channels, "global_pool": self.chosen["global_pool"]}

    def map_modules(self, model: nn.Module) -> dict[str, str]:
        """Layer by layer."""
        return dict(zip(self.parts, _layers(model), strict=True))


class ResNet(PublishedNetwork):
    """ResKANet: `conv1`, blocks `layer1.0` ... and `fc`."""

    title = "ResKANet"
    options: ClassVar[dict[str, Any]] = {"stem": None}
    base_act: ClassVar[dict[str, str]] = {"fastkan": "gelu"}
    head_prefix = "fc."
    stem_prefix = "conv1."

    def __init__(self, found: Tensors, given: Mapping[str, Any]) -> None:
        super().__init__(found, given)
        stem = self.read("conv1.")
        if isinstance(stem, PublishedAttention):
            raise CheckpointError("conv1.*: a published ResKANet begins with a convolution")
        self.stem = self._stem(stem.kernel)
        stem.options["stride"] = res_kan.STEMS[self.stem].stride
        self.block = "bottleneck" if any(".conv3." in name for name in found) else "basic"
        channels, self.depths = stem.out_channels, []
        for stage in range(1, 5):
            numbers = _numbers(found, rf"layer{stage}\.(\d+)\.")
            _gapless(f"layer{stage} with the blocks", numbers, 0)
            self.depths.append(len(numbers))
            for number in numbers:
                channels = self._block(f"layer{stage}.{number}.", channels, 1 if stage == 1 or number else 2)
        self.channels = channels
        self.head = self.read_head()
        self.name = f"res_kan_{self._size()}"

    def _stem(self, kernel: Shape) -> ResKANStem:
        requested = self.chosen["stem"]
        fitting = [name for name, stem in res_kan.STEMS.items() if (stem.kernel_size,) * 2 == kernel]
        if requested is None and len(fitting) == 1:
            return fitting[0]
        stem: ResKANStem | None = next((name for name in fitting if name == requested), None)
        if stem is None:
            raise ValueError(
                f"stem={requested!r}: no tensor tells stride and pooling behind a stem of {kernel}; "
                f"say one of {', '.join(map(repr, fitting)) or 'none that was published'}"
            )
        return stem

    def _block(self, prefix: str, channels: int, stride: int) -> int:
        """Read a block; the output has so many channels."""
        inputs = channels
        spatial = "conv2." if self.block == "bottleneck" else "conv1."
        for name in ("conv1.", "conv2.", "conv3.")[: 3 if self.block == "bottleneck" else 2]:
            part = self.read(prefix + name, stride if name == spatial else 1)
            self.follow(prefix + name, channels, part.in_channels)
            channels = part.out_channels
        if stride != 1 or channels != inputs:
            part = self.read(f"{prefix}downsample.", stride)
            self.follow(f"{prefix}downsample.", inputs, part.in_channels)
            self.follow(f"{prefix}downsample.", channels, part.out_channels)
        return channels

    def lead(self) -> Part:
        """The 3x3 convolution of the first block."""
        return self.parts["layer1.0.conv2." if self.block == "bottleneck" else "layer1.0.conv1."]

    def _size(self) -> int:
        wanted = {"block": self.block, "depths": tuple(self.depths)}
        return next((size for size, table in res_kan.SIZES.items() if table == wanted), 18)

    def arguments(self) -> dict[str, Any]:
        """Blocks, stem and widths."""
        expansion = res_kan.BLOCKS[self.block].expansion
        scale = self.channels / expansion / res_kan.WIDTHS[-1]
        stem, lead = self.parts["conv1."], self.lead()
        arguments: dict[str, Any] = {"block": self.block, "depths": tuple(self.depths), "stem": self.stem}
        arguments |= {"width_scale": scale, "in_chans": stem.in_channels}
        arguments["stem_width"] = round(stem.out_channels / scale)
        if stem.norm.name != lead.norm.name:
            arguments["stem_norm"] = stem.norm.name
        pointwise = self.parts["layer1.0.conv1." if self.block == "bottleneck" else "layer1.0.conv2."]
        if getattr(pointwise, "kind", None) == "kaln" and getattr(lead, "kind", None) != "kaln":
            arguments["pointwise_preset"] = "kaln"
        return arguments

    def map_modules(self, model: nn.Module) -> dict[str, str]:
        """Block by block; the names inside are the same."""
        blocks = [n for n, m in model.named_modules() if isinstance(m, tuple(res_kan.BLOCKS.values()))]
        there = [f"layer{stage}.{i}." for stage, depth in enumerate(self.depths, 1) for i in range(depth)]
        modules = {"conv1.": _layers(model)[0]}
        for prefix, block in zip(there, blocks, strict=True):
            inside = [name for name in self.parts if name.startswith(prefix)]
            modules |= {name: f"{block}.{name.removeprefix(prefix)}"[:-1] for name in inside}
        return modules


class DenseNet(PublishedNetwork):
    """DenseKANet: `features.conv0`, `features.denseblock1.denselayer1` ..., transitions and `classifier`."""

    title = "DenseKANet"
    options: ClassVar[dict[str, Any]] = {"stem_pool": None}
    base_act: ClassVar[dict[str, str]] = {"fastkan": "gelu"}
    head_acts: ClassVar[dict[str, str]] = {"fastkan": "gelu", "kan": "gelu"}
    _STATISTICS = ("weight", "bias", "running_mean", "running_var")

    def __init__(self, found: Tensors, given: Mapping[str, Any]) -> None:
        super().__init__(found, given)
        stem = self.read("features.conv0.", 2)
        channels, self.depths = stem.out_channels, []
        blocks = _numbers(found, r"features\.denseblock(\d+)\.")
        _gapless("the dense blocks", blocks, 1)
        self.transitions = _numbers(found, r"features\.transition(\d+)\.")
        _gapless("the transitions", self.transitions, 1)
        for block in blocks:
            prefix = f"features.denseblock{block}.denselayer"
            numbers = _numbers(found, rf"{re.escape(prefix)}(\d+)\.")
            _gapless(f"in dense block {block} the layers", numbers, 1)
            self.depths.append(len(numbers))
            for number in numbers:
                narrow = self.read(f"{prefix}{number}.conv1.")
                wide = self.read(f"{prefix}{number}.conv2.")
                self.follow(f"{prefix}{number}.conv1.", channels, narrow.in_channels)
                self.follow(f"{prefix}{number}.conv2.", narrow.out_channels, wide.in_channels)
                channels += wide.out_channels
            if block in self.transitions:
                norm = f"features.transition{block}.norm."
                self.plain |= {norm + name: (channels,) for name in self._STATISTICS}
                self.plain[f"{norm}num_batches_tracked"] = ()
                self.plain[f"features.transition{block}.conv.weight"] = (channels // 2, channels, 1, 1)
                channels //= 2
        self.channels = channels
        self.head = self.read_head()
        self.name = self._name()

    def lead(self) -> Part:
        """The 3x3 convolution of the first layer."""
        return self.parts["features.denseblock1.denselayer1.conv2."]

    def _name(self) -> str:
        tables = {size: tuple(table["depths"]) for size, table in dense_kan.SIZES.items()}
        return f"dense_kan_{next((s for s, depths in tables.items() if depths == tuple(self.depths)), 121)}"

    def arguments(self) -> dict[str, Any]:
        """Blocks, stem and widths."""
        stem, lead = self.parts["features.conv0."], self.lead()
        size = stem.kernel[0]
        pool = self.chosen["stem_pool"]
        return {
            "depths": tuple(self.depths),
            "growth": lead.out_channels,
            "stem_width": stem.out_channels,
            "stem_size": size,
            "stem_pool": size > 5 if pool is None else pool,
            "expansion": lead.in_channels // lead.out_channels,
            "last_transition": len(self.transitions) == len(self.depths),
            "in_chans": stem.in_channels,
        }

    def map_modules(self, model: nn.Module) -> dict[str, str]:
        """Layer by layer; the names inside are the same."""
        layers = [n for n, m in model.named_modules() if isinstance(m, dense_kan.DenseLayer)]
        there = [
            f"features.denseblock{block}.denselayer{number}."
            for block, depth in enumerate(self.depths, 1)
            for number in range(1, depth + 1)
        ]
        modules = {"features.conv0.": _layers(model)[0]}
        for prefix, layer in zip(there, layers, strict=True):
            modules |= {f"{prefix}{name}.": f"{layer}.{name}" for name in ("conv1", "conv2")}
        return modules

    def renamed(self, model: nn.Module) -> dict[str, str]:
        """Transitions, whose parts have the same names."""
        parts = {"norm", "act", "conv", "pool"}
        here = [n for n, m in model.named_modules() if {k for k, _ in m.named_children()} == parts]
        modules = {f"features.transition{i}.": f"{n}." for i, n in zip(self.transitions, here, strict=True)}
        return {
            name: here + name.removeprefix(there)
            for there, here in modules.items()
            for name in self.plain
            if name.startswith(there)
        }


NETWORKS: tuple[type[PublishedNetwork], ...] = (ConvNet, VGGNet, ResNet, DenseNet)
