"""Parameters and floating-point operations of a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["Cost", "cost"]


@dataclass(frozen=True)
class Cost:
    """Parameters and operations of one forward pass over one image.

    Attributes:
        parameters: Number of parameters, shared ones counted once.
        trainable_parameters: Number of parameters that require a gradient.
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
    count elementwise work, neither that of torch nor that inside custom operators. Activations and
    normalizations are therefore not included; the linear map over the expanded basis is.

    Evaluations of learned functions are counted separately. For a module with the attribute `flops_per_input`
    (bases, rationals), they are the number of inputs times the operations of one input by its formula. A
    module whose functions have other arguments than its inputs (KArAt: logits) has a method `basis_flops`
    with the arguments of `forward`. B-splines count by the implementation in use: on the usual grid of five
    cells the recursion takes 202 operations for a value, folded powers take 106.

    Args:
        model: The network. Its mode, its parameters and the random number generators do not change.
        input_shape: Shape of one image (C, H, W).
    """
    modes = {module: module.training for module in model.modules()}
    parameter = next(model.parameters(), torch.empty(0))
    images = torch.zeros(1, *input_shape, device=parameter.device, dtype=parameter.dtype)
    counter = FlopCounterMode(display=False)
    try:
        model.eval()
        # The counter has no formula for the fused attention of CPUs; plain attention has the same number of
        # operations. A compiled network would count as a single operator.
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
    """Collect the operations of each evaluation of learned functions inside the context."""
    found: list[int] = []

    def note(module: Any, args: tuple[Tensor, ...]) -> None:
        if hasattr(module, "basis_flops"):
            found.append(module.basis_flops(*args))
        else:
            found.append(module.flops_per_input * args[0].numel())

    # a module that contains others counts for all of them
    words = ("basis_flops", "flops_per_input")
    makers = [(name, m) for name, m in model.named_modules() if any(hasattr(m, word) for word in words)]
    names = tuple(f"{name}." for name, _ in makers if name)
    outer = [m for name, m in makers if not any(name.startswith(other) for other in names)]
    with ExitStack() as hooks:
        for module in outer:
            hooks.enter_context(module.register_forward_pre_hook(note))
        yield found
