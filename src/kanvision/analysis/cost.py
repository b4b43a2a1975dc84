"""Parameters and floating-point operations of a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["Cost", "cost"]


@dataclass(frozen=True)
class Cost:
    """What one forward pass over one image takes.

    Attributes:
        parameters: Number of parameters, shared ones counted once.
        trainable_parameters: Those that require a gradient.
        flops: Floating-point operations of linear maps; a multiplication and an addition count as two (1 MAC
            = 2 FLOP), where many papers and timm count one.
        input_shape: Shape of the image (C, H, W).
        basis_flops: Operations that evaluate the functions of KAN layers, which `flops` leaves out.
    """

    parameters: int
    trainable_parameters: int
    flops: int
    input_shape: tuple[int, ...]
    basis_flops: int = 0


def cost(model: nn.Module, input_shape: Sequence[int]) -> Cost:
    """Count parameters and FLOPs of a forward pass in evaluation mode.

    FLOPs are those of `torch.utils.flop_counter`: matrix products, convolutions and attention. It does not
    see elementwise work, neither torch's nor that inside an operator of one's own; so activations and
    normalizations are not in the number, while the linear map over the expanded basis is.

    The evaluation of learned functions is counted by itself: for each module with the attribute
    `flops_per_input` (bases, rationals), values that go in times operations for each by the formula of its
    class; a module whose functions see other numbers than its inputs (KArAt: logits) has a method
    `basis_flops` instead, which gets what `forward` gets. The way of B-splines that is in use decides: a
    recursion takes 189 operations for a value where polynomials take 32.

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
        eager = torch.compiler.set_stance("force_eager")
        with (
            torch.no_grad(),
            eager,
            sdpa_kernel(SDPBackend.MATH),
            _evaluations(model) as basis_flops,
            counter,
        ):
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
        basis_flops=sum(basis_flops),
    )


@contextmanager
def _evaluations(model: nn.Module) -> Iterator[list[int]]:
    """Collects the operations of every evaluation of learned functions while the context is open."""
    found: list[int] = []

    def note(module: Any, args: tuple[Tensor, ...]) -> None:
        if hasattr(module, "basis_flops"):
            found.append(module.basis_flops(*args))
        else:
            found.append(module.flops_per_input * args[0].numel())

    # What is made of others says what all of them take.
    words = ("basis_flops", "flops_per_input")
    makers = [(name, m) for name, m in model.named_modules() if any(hasattr(m, word) for word in words)]
    names = tuple(f"{name}." for name, _ in makers if name)
    outer = [m for name, m in makers if not any(name.startswith(other) for other in names)]
    handles = [module.register_forward_pre_hook(note) for module in outer]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
