"""MiniKAN: two KAN convolutions and a classifier."""

from functools import partial
from typing import Any, Literal

from kanvision.config import register_section
from kanvision.config.schema.models import KANBackboneConfig
from kanvision.models.backbone import KANBackbone, Stage, build_backbone, conv_cfg
from kanvision.models.conv_factory import ConvFactory
from kanvision.models.register_sizes import register_sizes

Size = Literal["small", "base"]
SIZES: dict[Size, dict[str, Any]] = {"small": {"widths": (8, 16)}, "base": {"widths": (16, 32)}}


class MiniKAN(KANBackbone):
    """Two KAN convolutions, the second one with stride 2."""

    def __init__(
        self, widths: tuple[int, int], width_scale: float = 1.0, in_chans: int = 3, **options: Any
    ) -> None:
        factory, options = ConvFactory.split(options)
        first, second = (factory.width(width, width_scale) for width in widths)
        stages = [
            Stage([factory.first(in_chans, first)], first, reduction=1),
            Stage([factory.conv(first, second, stride=2)], second, reduction=2),
        ]
        super().__init__(stages, factory=factory, in_chans=in_chans, **options)


register_sizes(__name__, "mini_kan_{size}", SIZES, partial(build_backbone, MiniKAN), conv_cfg(32))


@register_section
class MiniKANConfig(KANBackboneConfig):
    """Two KAN convolutions."""

    family: Literal["mini_kan"]
    """Name of the family: MiniKAN."""
    size: Size = "base"
    """Widths of the two convolutions: 8 and 16, or 16 and 32."""
