"""Heads: modules that map a feature map to logits. Shapes: B batch, C channels, H W space, F features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch.nn.functional as F
from timm.layers import SelectAdaptivePool2d
from torch import Tensor, nn

from kanvision.spec.models import HEADS

from .conv_factory import ConvFactory

__all__ = ["KANHead", "NestedLinear", "PixelHead"]

_NESTED = ("matryoshka", "kantryoshka")
_HALVINGS = 4
_HIDDEN = {"mlp": 100, "vgg": 1024, "hidden_kan": 512, "matryoshka": 1024, "kantryoshka": 512}


class NestedLinear(nn.Linear):
    """Linear classifier on the first F/16, F/8, F/4, F/2 and all F features at once.

    The efficient form of Kusupati et al. 2022, "Matryoshka Representation Learning" (arXiv 2205.13147): all
    widths share the weights. In training the output is a tuple of the logits of all widths, in ascending
    order, whose losses are to be summed; in evaluation it is the logits of all features.
    """

    @property
    def widths(self) -> list[int]:
        """Return the numbers of features, in ascending order."""
        return sorted({max(1, self.in_features >> step) for step in range(_HALVINGS + 1)})

    def nested(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map features (B, F) to the logits (B, O) of every width."""
        return tuple(F.linear(x[:, :width], self.weight[:, :width], self.bias) for width in self.widths)

    def forward(self, input: Tensor) -> Any:
        """Return the logits of all widths in training, and those of the largest in evaluation."""
        return self.nested(input) if self.training else super().forward(input)


class KANHead(nn.Module):
    """Pooling, an optional hidden layer, dropout and a classifier.

    Drokin 2024, "Kolmogorov-Arnold Convolutions" (arXiv 2407.01092). Kinds: "linear"; "mlp" and "vgg" (one
    and two hidden layers with ReLU); "kan" (the classifier is a KAN layer); "hidden_kan" (a KAN layer and a
    linear classifier); "matryoshka" (a linear layer with ReLU and a `NestedLinear`); "kantryoshka" (a KAN
    layer and a `NestedLinear`).

    Args:
        in_features: Number of input features, C.
        num_classes: Number of classes; 0 omits the classifier.
        factory: Factory of the KAN layers.
        kind: One of `HEADS`.
        pool_type: Pooling in timm's terms; "" for none, in which case the head is only a classifier.
        pool_size: Side of the pooled map, or its height and width.
        drop_rate: Dropout before each layer.
        hidden_size: Width of hidden layers; None is the published width (1024, or 512 for a KAN layer).
        basis_kwargs: Arguments of the basis that differ from those of the convolutions.
        norm: Add layer normalization after the pooling.

    Raises:
        ValueError: The kind is not known.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        factory: ConvFactory,
        *,
        kind: str = "linear",
        pool_type: str = "avg",
        pool_size: int | tuple[int, int] = 1,
        drop_rate: float = 0.0,
        hidden_size: int | None = None,
        basis_kwargs: Mapping[str, Any] | None = None,
        norm: bool = False,
    ) -> None:
        super().__init__()
        if kind not in HEADS:
            raise ValueError(f"head={kind!r} is not known; legal values: {', '.join(HEADS)}")
        if kind not in _HIDDEN and hidden_size is not None:
            raise ValueError(
                f"head_hidden_size={hidden_size}: head={kind!r} has no hidden layer; use head='hidden_kan'"
            )
        self.in_features = in_features
        self.factory = factory
        self.kind = kind
        self.pool_size = (
            (pool_size, pool_size) if isinstance(pool_size, int) else (pool_size[0], pool_size[1])
        )
        self.hidden_size = hidden_size or _HIDDEN.get(kind)
        self.basis_kwargs = basis_kwargs
        self.has_norm = norm
        self.drop = nn.Dropout(drop_rate)
        self._build(pool_type)
        self.fc = self._classifier(num_classes)

    def _build(self, pool_type: str) -> None:
        """Build everything in front of the classifier."""
        pooled = bool(pool_type)
        self.global_pool = SelectAdaptivePool2d(self.pool_size, pool_type, flatten=pooled)
        width = self.in_features
        if pooled:
            multiple: int = self.global_pool.feat_mult()  # type: ignore[no-untyped-call]
            width *= self.pool_size[0] * self.pool_size[1] * multiple
        self.norm = nn.LayerNorm(width, **self._where) if pooled and self.has_norm else nn.Identity()
        hidden: list[nn.Module] = []
        if pooled and self.hidden_size is not None:
            if self.kind in ("mlp", "vgg", "matryoshka"):
                for _ in range(2 if self.kind == "vgg" else 1):
                    if hidden:
                        hidden.append(nn.Dropout(self.drop.p))
                    hidden += [nn.Linear(width, self.hidden_size, **self._where), nn.ReLU()]
                    width = self.hidden_size
            elif self.kind != "linear":
                layer = self.factory.linear(width, self.hidden_size, self.basis_kwargs)
                hidden = [nn.Dropout(self.drop.p), layer]
                width = self.hidden_size
        self.hidden = nn.Sequential(*hidden)
        self.num_features = width

    def _classifier(self, num_classes: int) -> nn.Module:
        if num_classes <= 0:
            return nn.Identity()
        if self.kind == "kan":
            return self.factory.linear(self.num_features, num_classes, self.basis_kwargs)
        cls = NestedLinear if self.kind in _NESTED else nn.Linear
        return cls(self.num_features, num_classes, **self._where)

    @property
    def _where(self) -> dict[str, Any]:
        return {"device": self.factory.device, "dtype": self.factory.dtype}

    def reset(self, num_classes: int, pool_type: str | None = None) -> None:
        """Build a new classifier, none for 0 classes, and new hidden layers if the pooling changes."""
        if pool_type is not None and pool_type != self.global_pool.pool_type:
            self._build(pool_type)
        self.fc = self._classifier(num_classes)
        self.train(self.training)

    def forward(self, x: Tensor, pre_logits: bool = False) -> Any:
        """Map features (B, C, H, W) to logits (B, num_classes), or to the features (B, F) before them.

        A nested classifier returns a tuple of logits in training.
        """
        x = self.drop(self.hidden(self.norm(self.global_pool(x))))
        return x if pre_logits else cast(Any, self.fc(x))

    def extra_repr(self) -> str:
        """Return the kind of the head for `repr`."""
        return f"kind={self.kind!r}"


class PixelHead(nn.Module):
    """Classifier of every pixel: dropout of whole maps, then a 1x1 convolution.

    Args:
        in_channels: Number of input channels, C.
        num_classes: Number of classes.
        drop_rate: Dropout.
    """

    def __init__(self, in_channels: int, num_classes: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes={num_classes} must be at least 1")
        self.drop = nn.Dropout2d(drop_rate)
        self.conv = nn.Conv2d(in_channels, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, num_classes, H, W)."""
        y: Tensor = self.conv(self.drop(x))
        return y
