"""Parameters and floating-point operations of a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["Cost", "cost"]


@dataclass(frozen=True)
class Cost:
    """What one forward pass over one image takes.

    Attributes:
        parameters: Number of parameters, shared ones counted once.
        trainable_parameters: Those that require a gradient.
        flops: Floating-point operations; a multiplication and an addition count as two (1 MAC = 2 FLOP),
            where many papers and timm count one.
        input_shape: Shape of the image (C, H, W).
    """

    parameters: int
    trainable_parameters: int
    flops: int
    input_shape: tuple[int, ...]


def cost(model: nn.Module, input_shape: Sequence[int]) -> Cost:
    """Count parameters and FLOPs of a forward pass in evaluation mode.

    FLOPs are those of `torch.utils.flop_counter`: matrix products, convolutions and attention. It does not
    see elementwise work, neither torch's nor that inside an operator of one's own; so activations,
    normalisations and the evaluation of basis functions (a few operations per value and basis function) are
    not in the number, while the linear map over the expanded basis is.

    Args:
        model: The network; its mode, its parameters and the state of the random generators are left as they
            are.
        input_shape: Shape of one image (C, H, W).
    """
    modes = {module: module.training for module in model.modules()}
    parameter = next(model.parameters(), torch.empty(0))
    images = torch.zeros(1, *input_shape, device=parameter.device, dtype=parameter.dtype)
    counter = FlopCounterMode(display=False)
    try:
        model.eval()
        # The counter has no formula for the fused attention of CPUs, so the plain one runs, which gives the
        # number of the fused ones. A compiled network would be one operator to it.
        with torch.no_grad(), torch.compiler.set_stance("force_eager"), sdpa_kernel(SDPBackend.MATH), counter:
            model(images)
    finally:
        for module, training in modes.items():
            module.training = training
    counts = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return Cost(
        parameters=sum(count for count, _ in counts),
        trainable_parameters=sum(count for count, trainable in counts if trainable),
        flops=counter.get_total_flops(),
        input_shape=tuple(input_shape),
    )
