"""Rotary position embedding on grids. Shapes: B batch, N positions, D channels of a head, F = D / 2 pairs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kanvision.expansion.autocast import without_autocast

__all__ = ["ROPE_KINDS", "RotaryPositions"]

_THETA = {"axial": 100.0, "mixed": 10.0}
ROPE_KINDS = tuple(_THETA)


class RotaryPositions(nn.Module):
    """Rotation of pairs of channels by angles that grow with the position on a grid of any size.

    The pair f of a token at cell r = (r_1, ..., r_n) is rotated by sum_a r_a frequency[a, head, f], so that
    the product of a query and a key depends only on the difference of their cells. There are F / n magnitudes
    theta^(-i n / F) for each of n directions: the axes ("axial"), or for each head an orthogonal basis that
    is random at the start and learned ("mixed").

    Heo et al. 2024, "Rotary Position Embedding for Vision Transformer" (arXiv 2403.13298).

    Args:
        head_width: Number of channels of a head, D.
        num_heads: Number of heads.
        ndim: Number of axes, n.
        kind: One of `ROPE_KINDS`.
        theta: Ratio of the largest and the smallest magnitude; None is 100 for axial and 10 for mixed.

    Raises:
        ValueError: The kind is not known, or D is not a multiple of 2 n.
    """

    frequency: Tensor

    def __init__(
        self, head_width: int, num_heads: int, ndim: int, kind: str = "mixed", theta: float | None = None
    ) -> None:
        super().__init__()
        if kind not in ROPE_KINDS:
            raise ValueError(f"rope={kind!r} is not known; legal values: None, {', '.join(ROPE_KINDS)}")
        if head_width % (2 * ndim):
            raise ValueError(
                f"rope={kind!r} turns pairs of channels along {ndim} axes: a head has {head_width} channels, "
                f"which must be a multiple of {2 * ndim}"
            )
        self.kind = kind
        self.theta = _THETA[kind] if theta is None else theta
        frequency = torch.empty(ndim, num_heads, head_width // 2)
        if kind == "mixed":
            self.frequency = nn.Parameter(frequency)
        else:
            self.register_buffer("frequency", frequency)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set the frequencies; those of "mixed" are random."""
        ndim, num_heads, pairs = self.frequency.shape
        count = pairs // ndim
        magnitude = self.theta ** (-torch.arange(count, dtype=torch.float64) / count)
        if self.kind == "mixed":
            axes = torch.linalg.qr(torch.randn(num_heads, ndim, ndim, dtype=torch.float64)).Q
        else:
            axes = torch.eye(ndim, dtype=torch.float64).expand(num_heads, ndim, ndim)
        directions = axes.unsqueeze(-1) * magnitude  # (heads, direction, axis, magnitude)
        self.frequency.copy_(directions.permute(2, 0, 1, 3).reshape(ndim, num_heads, pairs))

    def forward(self, x: Tensor, space: Sequence[int]) -> Tensor:
        """Rotate queries or keys (B, heads, N, D) of a grid with N cells."""
        exact = torch.promote_types(x.dtype, torch.float32)
        with without_autocast(x.device.type):
            cells = [torch.arange(size, device=x.device, dtype=exact) for size in space]
            grid = torch.stack(torch.meshgrid(*cells, indexing="ij")).flatten(1)  # (n, N)
            angle = torch.einsum("an,ahf->hnf", grid, self.frequency.to(exact))  # (heads, N, F)
            cos, sin = angle.cos(), angle.sin()
            first, second = (
                x.to(exact).reshape(*x.shape[:-1], x.shape[-1] // 2, 2).unbind(-1)
            )  # (B, heads, N, F) each
            turned = torch.stack((first * cos - second * sin, first * sin + second * cos), dim=-1)
        return turned.flatten(-2).to(x.dtype)

    def extra_repr(self) -> str:
        """Return the kind for `repr`."""
        return f"kind={self.kind!r}, theta={self.theta}"
