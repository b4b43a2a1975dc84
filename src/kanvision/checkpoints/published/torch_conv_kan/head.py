"""Classifiers of published networks of torch-conv-kan. Shapes: F features, H hidden features, N classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from kanvision.checkpoints.io import CheckpointError
from kanvision.checkpoints.published.strict import Problems, Shape, Tensors, below, most_voted

from .linear import LINEAR_OPTIONS, PublishedStack, linear_kind

__all__ = ["HEAD_OPTIONS", "PublishedHead"]

HEAD_OPTIONS: dict[str, Any] = {"spline_order": 3, "grid_range": (-1.0, 1.0), "wavelet": "mexican_hat"}
"""Options of KAN layers in a head that the convolutions have too."""
# plain linear layers: prefix there, prefix here
_LINEARS = {
    "linear": {"1.": "fc."},
    "vgg": {"0.": "hidden.0.", "3.": "hidden.3.", "6.": "fc."},
    "kan": {},
    "hidden_kan": {"2.": "fc."},
    "matryoshka": {"0.": "hidden.0.", "3.nesting_classifier_0.": "fc."},
    "kantryoshka": {"2.nesting_classifier_0.": "fc."},
}
# KAN layers: prefix there, module here
_STACKS = {"kan": ("", "fc"), "hidden_kan": ("0.", "hidden.1"), "kantryoshka": ("0.", "hidden.1")}


class PublishedHead:
    """The classifier of a published network, told apart by the names of its tensors.

    Args:
        found: Tensors of the head.
        act: Activation of KAN layers in it, if it was given.
        published: Their published activation by kind, where it is not "silu"; no tensor tells it.
        options: Those of `HEAD_OPTIONS` that were given.

    Raises:
        CheckpointError: If a size cannot be told.
        ValueError: If `act` is given, and nothing in the head has an activation that can be chosen.
    """

    def __init__(
        self, found: Tensors, act: str | None, published: Mapping[str, str], options: Mapping[str, Any]
    ) -> None:
        self.found = found
        self.kind = self._kind()
        self.linears = dict(_LINEARS[self.kind])
        if self.kind == "linear" and not any(name.startswith("1.") for name in found):
            self.linears = {"": "fc."}
        self.stack: PublishedStack | None = None
        legal: Mapping[str, Any] = {}
        if self.kind in _STACKS and found:
            tensors = below(found, _STACKS[self.kind][0])
            first = linear_kind(below(tensors, f"layers.{_first_layer(tensors)}."))
            legal = LINEAR_OPTIONS[first] if first else {}
            chosen = act or published.get(first or "", "silu")
            given = {"base_act": chosen, "act": chosen, **options}
            self.stack = PublishedStack(
                tensors, **{key: value for key, value in given.items() if key in legal}
            )
        if act is not None and not {"act", "base_act"} & set(legal):
            raise ValueError(f"head_act={act!r}: this head has no activation that can be chosen")
        self.remarks = self.stack.remarks if self.stack else []
        self._infer()

    def _kind(self) -> str:
        names = set(self.found)
        nested = any(".nesting_classifier_0." in name for name in names)
        if any(name.startswith("layers.") for name in names):
            return "kan"
        if any(name.startswith("0.layers.") for name in names):
            return "kantryoshka" if nested else "hidden_kan"
        if nested:
            return "matryoshka"
        return "vgg" if any(name.startswith(("0.", "3.", "6.")) for name in names) else "linear"

    def _infer(self) -> None:
        """Sizes of all layers in their order: F, H ..., N."""
        self.sizes: list[int] = []
        if not self.found:
            return
        layers: list[tuple[int | None, int | None]] = []
        if self.stack is not None:
            ends = list(self.stack.layers.values())
            layers.append((ends[0].in_features, ends[-1].out_features))
        for prefix in self.linears:
            weight, bias = (self.found.get(prefix + name) for name in ("weight", "bias"))
            shape = weight.shape if weight is not None and weight.ndim == 2 else None
            wide = len(bias) if shape is None and bias is not None and bias.ndim else None
            layers.append((None if shape is None else shape[1], wide if shape is None else shape[0]))
        for index in range(len(layers) + 1):
            before = layers[index - 1][1] if index else None
            behind = layers[index][0] if index < len(layers) else None
            self.sizes.append(most_voted("a size of the head", [n for n in (before, behind) if n]))

    @property
    def in_features(self) -> int | None:
        """F; None without a head."""
        return self.sizes[0] if self.sizes else None

    def wanted(self) -> dict[str, Shape]:
        """Names and shapes of the plain layers' tensors."""
        shapes: dict[str, Shape] = {}
        first = 1 if self.stack else 0
        for index, prefix in enumerate(self.linears if self.found else ()):
            inputs, outputs = self.sizes[first + index : first + index + 2]
            shapes |= {f"{prefix}weight": (outputs, inputs), f"{prefix}bias": (outputs,)}
        return shapes

    def compare(self, problems: Problems, prefix: str) -> None:
        """Note what is wrong with the tensors."""
        stack_prefix = _STACKS.get(self.kind, ("", ""))[0]
        of_stack = set()
        if self.stack is not None:
            self.stack.compare(problems, prefix + stack_prefix)
            of_stack = {stack_prefix + name for name in self.stack.found}
        plain = {name: value for name, value in self.found.items() if name not in of_stack}
        problems.compare(plain, self.wanted(), prefix)

    def arguments(self, channels: int, pool_size: int | tuple[int, int] | None) -> dict[str, Any]:
        """Arguments of the network here.

        Args:
            channels: Of the map in front of the head.
            pool_size: Option; None infers a square.

        Raises:
            CheckpointError: If the features are not those of a pooled map.
            ValueError: If the option contradicts the tensors.
        """
        if self.in_features is None:
            return {"num_classes": 0}
        positions, rest = divmod(self.in_features, channels)
        side = round(positions**0.5)
        if pool_size is None and not rest and side * side == positions:
            pool_size = side
        height, width = (pool_size, pool_size) if isinstance(pool_size, int) else pool_size or (0, 0)
        if height * width * channels != self.in_features:
            told = "say pool_size=(height, width)" if pool_size is None else f"not pool_size={pool_size}"
            raise CheckpointError(
                f"the head takes {self.in_features} features, and the map in front of it has {channels} "
                f"channels; {told}"
            )
        arguments: dict[str, Any] = {"num_classes": self.sizes[-1], "head": self.kind, "pool_size": pool_size}
        if len(self.sizes) > 2:
            arguments["head_hidden_size"] = self.sizes[1]
        return arguments

    def renamed(self) -> dict[str, str]:
        """Names of the plain tensors there and in the head here."""
        pairs = self.linears.items() if self.found else ()
        return {there + name: here + name for there, here in pairs for name in ("weight", "bias")}

    def fill(self, head: nn.Module) -> None:
        """Put the KAN layers with their weights into the head here."""
        if self.stack is None:
            return
        layers = self.stack.build()
        head.set_submodule(_STACKS[self.kind][1], layers[0] if len(layers) == 1 else layers)


def _first_layer(found: Tensors) -> str:
    candidates = sorted(
        int(name.split(".")[1]) for name in found if name.startswith("layers.") and name.count(".") > 1
    )
    return str(candidates[0]) if candidates else ""
