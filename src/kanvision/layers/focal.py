"""Focal modulation with KAN convolutions. Shapes: B batch, C channels, *S space, L focal levels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor, nn

from .composite import KAN_CONVS, PLAIN_CONVS, CompositeLayer
from .norm import create_norm

__all__ = [
    "KANFocalModulation1d",
    "KANFocalModulation2d",
    "KANFocalModulation3d",
    "KANFocalModulationNd",
]


class KANFocalModulationNd(CompositeLayer):
    """Focal modulation: contexts of growing range modulate each position.

    q, c_0, gates = split(f(x));  c_l = F_l(c_{l-1}),  a = sum_l gate_l c_l,  l = 1 ... L
    a <- (a + gate_{L+1} mean(a)) / (L + 1);  y = proj(post_norm(q h(a)))

    f: C -> 2C + L + 1, h and proj: C -> C are 1x1 KAN convolutions and the F_l depthwise ones with kernels of
    focal_window + focal_factor (l - 1) taps on each axis. Drokin 2024 (arXiv 2407.01092), after Yang et al.
    2022 (arXiv 2203.11926), where the global context is the mean of c_L and F_l ends in GELU.

    Args:
        channels: Number of channels, C.
        focal_window: Kernel of the first level.
        focal_level: Number of focal levels, L.
        focal_factor: Growth of the kernel from level to level.
        conv: Class of f, h and proj, such as `BottleneckKANConv2d` (or a partial); None is `KANConv{1,2,3}d`.
        level: Class of the depthwise levels; None is `KANConv{1,2,3}d` for any `conv`, because a bottleneck
            of one channel has no effect.
        full_kan: Use KAN convolutions for f and h; False uses plain convolutions with biases.
        normalize: Divide the modulator by L + 1.
        post_norm: Norm of the modulated map: None, "batch", "instance", "group", "layer".
        **options: Further arguments of all KAN convolutions; `norm_affine` applies to `post_norm` too.

    Raises:
        ValueError: A size, a name or a combination of them is not legal.
    """

    def __init__(
        self,
        channels: int,
        focal_window: int = 3,
        focal_level: int = 2,
        focal_factor: int = 2,
        *,
        conv: Callable[..., nn.Module] | None = None,
        level: Callable[..., nn.Module] | None = None,
        full_kan: bool = True,
        normalize: bool = True,
        post_norm: str | None = "batch",
        **options: Any,
    ) -> None:
        super().__init__()
        limits = {
            "channels": (channels, 1),
            "focal_window": (focal_window, 1),
            "focal_level": (focal_level, 1),
            "focal_factor": (focal_factor, 0),
        }
        for key, (value, least) in limits.items():
            if value < least:
                raise ValueError(f"{key}={value} must be at least {least}")
        where: dict[str, Any] = {key: options.get(key) for key in ("device", "dtype")}
        self.channels = channels
        self.focal_level = focal_level
        self.normalize = normalize
        kan = KAN_CONVS[self.ndim]
        make = kan if conv is None else conv
        make_level = kan if level is None else level
        split = 2 * channels + focal_level + 1
        if full_kan:
            self.f = make(channels, split, 1, **options)
            self.h = make(channels, channels, 1, **options)
        else:
            self.f = PLAIN_CONVS[self.ndim](channels, split, 1, **where)
            self.h = PLAIN_CONVS[self.ndim](channels, channels, 1, **where)
        self.proj = make(channels, channels, 1, **options)
        self.levels = nn.ModuleList(
            make_level(channels, channels, taps, padding="same", groups=channels, **options)
            for taps in (focal_window + focal_factor * index for index in range(focal_level))
        )
        self.post_norm = create_norm(
            post_norm, channels, self.ndim, affine=options.get("norm_affine", True), key="post_norm"
        ).to(**where)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, *S) to (B, C, *S).

        Raises:
            ValueError: if `x` does not have C channels and the right number of space axes.
        """
        self._check_map(x, self.channels)
        query, context, gates = self.f(x).split((self.channels, self.channels, self.focal_level + 1), dim=1)
        context = self.levels[0](context)
        modulator = context * gates[:, :1]
        for index, level in enumerate(self.levels[1:], start=1):
            context = level(context)
            modulator = modulator + context * gates[:, index : index + 1]
        axes = tuple(range(2, x.ndim))
        modulator = modulator + modulator.mean(axes, keepdim=True) * gates[:, -1:]
        if self.normalize:
            modulator = modulator / (self.focal_level + 1)
        return cast(Tensor, self.proj(self.post_norm(query * self.h(modulator))))

    def extra_repr(self) -> str:
        """Return the sizes for `repr`."""
        return f"{self.channels}, focal_level={self.focal_level}, normalize={self.normalize}"


class KANFocalModulation1d(KANFocalModulationNd):
    """Focal modulation (B, C, L) -> (B, C, L) with the arguments of `KANFocalModulationNd`."""

    ndim = 1


class KANFocalModulation2d(KANFocalModulationNd):
    """Focal modulation (B, C, H, W) -> (B, C, H, W) with the arguments of `KANFocalModulationNd`."""

    ndim = 2


class KANFocalModulation3d(KANFocalModulationNd):
    """Focal modulation (B, C, D, H, W) -> (B, C, D, H, W); see `KANFocalModulationNd`."""

    ndim = 3
