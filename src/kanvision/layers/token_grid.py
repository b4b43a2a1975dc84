"""Parameters of tokens on a grid, interpolated to another grid. N tokens, of which P are prefix tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kanvision.bases import Basis

__all__ = ["resample_basis", "resample_tokens"]


def resample_tokens(
    parameter: nn.Parameter,
    axis: int,
    old_grid: tuple[int, int],
    new_grid: tuple[int, int],
    num_prefix_tokens: int,
    keep_sums: bool = True,
) -> nn.Parameter:
    """Interpolate a parameter along its token axis, bicubic over the grid; prefix tokens are kept.

    Args:
        parameter: Parameter with P + old_grid[0] old_grid[1] entries along `axis`.
        axis: Token axis.
        old_grid: Current number of patches along each axis.
        new_grid: New number of patches along each axis.
        num_prefix_tokens: Number of prefix tokens, P.
        keep_sums: Multiply by the old over the new number of patches, which keeps sums over patches.
    """
    moved = parameter.detach().movedim(axis, -1)
    prefix, patches = moved[..., :num_prefix_tokens], moved[..., num_prefix_tokens:]
    maps = patches.reshape(1, -1, *old_grid)  # (1, all other axes, H, W)
    wide = torch.promote_types(maps.dtype, torch.float32)
    resized = F.interpolate(maps.to(wide), size=new_grid, mode="bicubic", align_corners=False)
    if keep_sums:
        resized = resized * (old_grid[0] * old_grid[1] / (new_grid[0] * new_grid[1]))
    patches = resized.reshape(*moved.shape[:-1], -1).to(moved.dtype)
    values = torch.cat((prefix, patches), -1).movedim(-1, axis).contiguous()
    return nn.Parameter(values, requires_grad=parameter.requires_grad)


def resample_basis(
    basis: Basis, num_heads: int, old_grid: tuple[int, int], new_grid: tuple[int, int], num_prefix_tokens: int
) -> None:
    """Interpolate the parameters that a basis has for every head and token, if it has any."""
    if basis.num_channels is None:
        return
    count = basis.num_channels

    def resized(values: Tensor) -> nn.Parameter:
        by_head = nn.Parameter(values.detach().reshape(num_heads, count // num_heads, *values.shape[1:]))
        moved = resample_tokens(by_head, 1, old_grid, new_grid, num_prefix_tokens, keep_sums=False)
        return nn.Parameter(moved.detach().flatten(0, 1), requires_grad=values.requires_grad)

    for module in basis.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.shape[:1] == (count,):
                setattr(module, name, resized(parameter))
        if isinstance(module, Basis) and module.num_channels is not None:
            module.num_channels = num_heads * (num_prefix_tokens + new_grid[0] * new_grid[1])
