"""Small networks of Convolutional Kolmogorov-Arnold Networks, with and without KAN layers.

Bodner et al. 2024, "Convolutional Kolmogorov-Arnold Networks" (arXiv 2406.13155): two 3x3 convolutions
without padding, each followed by 2x2 max pooling, and a classifier on the flattened map, for 28x28 images.
Either part is a KAN or plain:

| name | convolutions | classifier |
|---|---|---|
| kkan | KAN | KAN |
| kanc_mlp | KAN | linear |
| conv_kan | plain with ReLU | KAN |
| conv_mlp | plain with ReLU | linear |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from kanvision.layers import KANLinear
from kanvision.spec.models import KKANSize, KKANVariant

from .backbone import KANBackbone, Stage, build_backbone, conv_cfg
from .conv_factory import ConvFactory
from .register_sizes import register_sizes

__all__ = ["KKAN", "SIZES", "VARIANTS"]

SIZES: dict[KKANSize, dict[str, Any]] = {
    "small": {"widths": (5, 5)},
    "medium": {"widths": (5, 10)},
    "big": {"widths": (5, 10), "head_hidden_size": 100},  # with linear classifiers only
    "wide": {"widths": (10, 20)},  # plain networks only: "medium, but with more convs"
}
VARIANTS: dict[KKANVariant, tuple[bool, bool]] = {
    "kkan": (True, True),
    "kanc_mlp": (True, False),
    "conv_kan": (False, True),
    "conv_mlp": (False, False),
}
"""True for KAN convolutions, and True for a KAN classifier."""
_MIN_SIDE = 10  # of an image without padding
_FLAT_SIDE = 5  # of the map of a 28x28 image
_HEAD_NOISE = 0.01


class KKAN(KANBackbone):
    """Two convolutions with max pooling and a classifier, each a KAN or plain.

    With B-splines, layers are those of efficient-kan (with a scale for each edge), as published; the grid of
    a KAN classifier is on [0, 1]. Maps are pooled to 5x5, the size for a 28x28 image without padding, before
    they are flattened, so that other image sizes work too.

    Args:
        widths: Output channels of the convolutions.
        kan_convs: Make the convolutions KAN layers.
        kan_head: Make the classifier a KAN layer.
        plain: Build the plain twin: neither the convolutions nor the classifier are KAN layers.
        basis: Short name of the basis.
        basis_kwargs: Arguments of the basis, of the convolutions and of the classifier.
        width_scale: Multiplies the widths.
        padding: Pixels of padding; published 0. With 1 each stage halves the image exactly, as decoders of
            segmentation networks need it; that is the default for `features_only`.
        head_hidden_size: Width of a hidden linear layer with ReLU before the classifier; None for none.
        in_chans: Number of input channels.
        preset: As in `ConvFactory`; None is "efficient_kan" for B-splines.
        norm: As in `ConvFactory`; None as published.
        **options: Further arguments of `ConvFactory` and of `KANBackbone`.

    Raises:
        ValueError: A value is not legal; the message names it.
    """

    def __init__(
        self,
        widths: tuple[int, ...] = (5, 5),
        kan_convs: bool = True,
        kan_head: bool = True,
        plain: bool = False,
        basis: str = "bspline",
        basis_kwargs: Mapping[str, Any] | None = None,
        width_scale: float = 1.0,
        padding: int = 0,
        head_hidden_size: int | None = None,
        in_chans: int = 3,
        preset: str | None = None,
        norm: str | None = None,
        **options: Any,
    ) -> None:
        if preset is None and basis == "bspline":
            preset = "efficient_kan"
        kan_convs, kan_head = kan_convs and not plain, kan_head and not plain
        options |= {"basis": basis, "basis_kwargs": basis_kwargs, "preset": preset, "norm": norm}
        factory, options = ConvFactory.split(options)
        convs = factory if kan_convs else factory.as_plain()
        parts: list[Stage] = []
        channels = in_chans
        for index, width in enumerate(widths):
            make = convs.conv if parts else convs.first
            out_channels = factory.width(width, width_scale)
            layers = [make(channels, out_channels, 3, padding=padding), nn.MaxPool2d(2)]
            parts.append(Stage(layers, out_channels, 2 ** (index + 1)))
            channels = out_channels
        if kan_head and basis == "bspline":
            options.setdefault("head_basis_kwargs", {"grid_range": (0.0, 1.0)})
        kind = "kan" if kan_head else "mlp" if head_hidden_size else "linear"
        shape = {"head": kind, "head_hidden_size": head_hidden_size, "pool_size": _FLAT_SIDE}
        super().__init__(parts, factory=factory, in_chans=in_chans, **{**shape, **options})
        self.padded = padding > 0
        fc = self.head.fc
        if isinstance(fc, KANLinear) and fc.init == "efficient_kan":
            fc.init_noise = _HEAD_NOISE
            fc.reset_parameters()

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to the last feature map (B, num_features, H', W').

        Raises:
            ValueError: The image is too small.
        """
        height, width = x.shape[-2:]
        if not self.padded and min(height, width) < _MIN_SIDE:
            raise ValueError(
                f"images of {height}x{width} pixels are too small for convolutions without "
                f"padding, which need {_MIN_SIDE}; use padding=1"
            )
        return super().forward_features(x)


def _build(name: str, pretrained: bool, **kwargs: Any) -> Any:
    """Build a model; decoders need the exact halvings that padding gives, so it is on for `features_only`."""
    padding = {"padding": 1} if kwargs.get("features_only") else {}
    return build_backbone(KKAN, name, pretrained, **{**padding, **kwargs})


for _variant, (_kan_convs, _kan_head) in VARIANTS.items():
    _is_plain = not (_kan_convs or _kan_head)
    _sizes: list[KKANSize] = ["small", "medium"]
    if not _kan_head:
        _sizes.append("big")
    if _is_plain:
        _sizes.append("wide")
    register_sizes(
        __name__,
        f"{_variant}_{{size}}",
        {size: {**SIZES[size], "kan_convs": _kan_convs, "kan_head": _kan_head} for size in _sizes},
        _build,
        conv_cfg(28, paper="2406.13155"),
    )
