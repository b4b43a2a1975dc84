"""ConvKAN: plain stacks of KAN convolutions.

The 4-, 8- and 16-layer networks of Drokin 2024, "Kolmogorov-Arnold Convolutions" (arXiv 2407.01092), over any
basis: 3x3 KAN convolutions, of which the first one of each stage but the first halves the resolution, global
average pooling and a classifier. The basis of a published layer (gram: KAGN, chebyshev: KACN) selects that
layer; other bases use SiLU(norm(base + basis)).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from kanvision.spec.models import ConvKANSize

from .backbone import KANBackbone, Stage, build_backbone, conv_cfg
from .conv_factory import ConvFactory
from .register_sizes import register_sizes

__all__ = ["STAGES", "ConvKAN"]

STAGES: dict[ConvKANSize, tuple[tuple[int, ...], ...]] = {
    4: ((32,), (64,), (128, 256)),
    8: ((16,), (32,), (64, 128, 256), (256, 512, 512)),
    # For 12 layers the authors report only numbers of parameters, at three degrees and two widths; these
    # widths reproduce all of them exactly, as those of 12_tuned do. Strides are those of the 8 layers.
    12: ((16,), (32,), (64, 128, 256), (256, 256, 512, 512, 512, 512, 512)),
    # The tuned sizes are those of the hyperparameter search, published with width_scale=6.
    "8_tuned": ((8,), (16,), (32, 64, 128), (128, 256, 256)),
    "12_tuned": ((8,), (16,), (32, 64, 128), (128, 128, 128, 128, 256, 256, 256)),
    "16_tuned": ((8,), (8, 16), (16, 32, 32, 64), (64, 128, 128, 128), (128, 256, 256, 256, 256)),
    # an eighth of the resolution from the eighth convolution on
    16: ((8,), (8, 16), (16, 32, 32, 64), (64, 128, 128, 128, 128, 256, 256, 256, 256)),
}
"""Output channels of each convolution, by size; a stage after the first starts with stride 2."""


class ConvKAN(KANBackbone):
    """Stack of KAN convolutions with a classifier.

    Args:
        stages: Output channels of the convolutions of each stage.
        width_scale: Multiplies all widths; each is rounded to a multiple of `groups`, at least one per group.
        kernel_size: Side of the kernels.
        in_chans: Number of input channels.
        num_classes: Number of classes; 0 omits the classifier.
        global_pool: Pooling before the classifier, in timm's terms.
        head: "linear", or "kan" and other kinds of `kanvision.models.heads.HEADS`.
        drop_rate: Dropout before the classifier.
        drop_path_rate: Must be 0: the network has no residual branches to drop.
        **options: Arguments of `ConvFactory` (basis, layer, form, norm, groups, ...) and of `KANBackbone`.

    Raises:
        ValueError: A value is not legal; the message names it.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[int]] = STAGES[8],
        width_scale: float = 1.0,
        kernel_size: int = 3,
        in_chans: int = 3,
        **options: Any,
    ) -> None:
        factory, options = ConvFactory.split({"dim_reduction": 4, **options})
        parts: list[Stage] = []
        channels = in_chans
        for index, widths in enumerate(stages):
            layers: list[nn.Module] = []
            for depth, width in enumerate(widths):
                out_channels = factory.width(width, width_scale)
                if parts or layers:
                    stride = 2 if index and not depth else 1
                    layers.append(factory.conv(channels, out_channels, kernel_size, stride=stride))
                else:
                    layers.append(factory.first(channels, out_channels, kernel_size, mixture=True))
                channels = out_channels
            parts.append(Stage(layers, channels, 2**index))
        super().__init__(parts, factory=factory, in_chans=in_chans, **options)


register_sizes(
    __name__,
    "convkan_{size}",
    {size: {"stages": stages} for size, stages in STAGES.items()},
    partial(build_backbone, ConvKAN),
    conv_cfg(32),
)
