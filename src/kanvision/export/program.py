"""Graph of a network by torch.export, for any batch size and, where the network allows, for any image size.

B batch, C channels, H W height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from .errors import ExportError

__all__ = ["BATCH_SIZES", "FirstLogits", "check_sizes", "choose_sizes", "random_images", "trace"]

Size = tuple[int, int]
BATCH_SIZES = (1, 2, 5)
"""Batch sizes of the comparison with torch."""
TRACED_BATCH = 2
"""Batch size of the traced images; a batch of one would be built into the graph."""
LARGEST_BATCH = 2**16


class FirstLogits(nn.Module):
    """Network with one tensor of float32 logits; a network with deep supervision may have several."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Map normalized images (B, C, H, W) to logits (B, K) or (B, K, H, W)."""
        output = self.network(image)
        logits: Tensor = output if isinstance(output, Tensor) else output[0]
        return logits.float()


def random_images(batch: int, in_chans: int, size: Size, seed: int = 0) -> Tensor:
    """Return images (B, C, H, W) of standard normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, in_chans, *size, generator=generator)


def choose_sizes(side: int, stride: int, dynamic: bool) -> list[Size]:
    """Return the sizes at which a file is compared with torch, the first one that of the traced images.

    A file of dynamic size takes images of any size whose sides are multiples of the stride.
    """
    if not dynamic:
        return [(side, side)]
    low = max(1, -(-side // stride)) * stride
    return [(low, low + stride), (low, low), (low + 2 * stride, low + stride)]


def check_sizes(network: nn.Module, in_chans: int, sizes: Sequence[Size], stride: int) -> None:
    """Check that a network takes images of all sizes (height, width), multiples of the stride.

    Raises:
        ExportError: If it does not.
    """
    for height, width in sizes:
        if height % stride or width % stride:
            raise ExportError(
                f"export.sizes: {height} x {width}: a file for any size takes multiples of {stride}, since "
                "the network's own padding would be fixed in it; pad the images, or export one size by "
                "export.img_size"
            )
        try:
            with torch.inference_mode():
                network(random_images(1, in_chans, (height, width)))
        # networks refuse sizes by assertions and by errors of torch
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ExportError(
                f"the network takes no images of {height} x {width} pixels: {reason}"
            ) from error


def trace(
    network: nn.Module, in_chans: int, size: Size, *, stride: int = 1, dynamic: bool = False
) -> ExportedProgram:
    """Return the graph of a network in evaluation mode, without gradients.

    Args:
        network: The network.
        in_chans: Number of channels of an image.
        size: Height and width of the traced images; with `dynamic` not equal.
        stride: Number that both sides are multiples of, with `dynamic`.
        dynamic: The graph takes images of any size.

    Raises:
        ExportError: If the network cannot be traced, or fixes its batch or image size.
    """
    shape: dict[int, Any] = {0: Dim("batch", min=1, max=LARGEST_BATCH)}
    if dynamic:
        sides = ("height", "width")
        shape |= {
            axis: Dim.DYNAMIC if stride == 1 else stride * Dim(name, min=1, max=2**14 // stride)
            for axis, name in enumerate(sides, 2)
        }
    images = random_images(TRACED_BATCH, in_chans, size)
    try:
        with torch.no_grad():
            return torch.export.export(network, (images,), dynamic_shapes=(shape,))
    # torch.export raises errors of many kinds
    except Exception as error:
        kind = "images of any size" if dynamic else "any batch size"
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ExportError(f"torch.export finds no graph for {kind}: {' '.join(lines[:3])}") from error
