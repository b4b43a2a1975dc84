"""The Hessian of a network's loss: products with vectors, trace and spectrum.

P parameters that are trained, V random vectors, m steps of Lanczos' method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from .lanczos import Estimate, Ritz, lanczos, mean_and_error, rademacher

__all__ = ["Batches", "Hessian", "Loss", "Spectrum", "spectrum"]

Batch = Mapping[str, Tensor]
Loss = Callable[[Batch], Tensor]
"""Mean loss of a batch of images, a scalar."""
Batches = Sequence[Batch]
"""Each with `image` (B, C, H, W) and what the loss needs besides."""


class Hessian:
    """Second derivatives of the mean loss over some batches, known by exact products with vectors.

    H v is the gradient of (gradient . v), which costs about four passes and no more memory than one batch
    takes (Pearlmutter 1994); batches go to the device one after the other. Attention is computed by torch's
    plain formula meanwhile, for its fused kernels have no second derivative.

    Args:
        loss: Of one batch. It must be the same function at each call: evaluation mode, no random numbers.
        parameters: By which the derivatives are taken.
        batches: Weighted by their numbers of images.
    """

    def __init__(self, loss: Loss, parameters: Iterable[Tensor], batches: Batches) -> None:
        self.loss = loss
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.batches = batches
        self.size = sum(parameter.numel() for parameter in self.parameters)

    def product(self, vector: Tensor) -> Tensor:
        """H v, (P,) to (P,)."""
        parts = self._apart(vector)
        total = torch.zeros_like(vector)
        number = sum(len(batch["image"]) for batch in self.batches)
        for batch in self.batches:
            with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
                loss = self.loss(_on(vector.device, batch))
                first = torch.autograd.grad(
                    loss, self.parameters, create_graph=True, allow_unused=True, materialize_grads=True
                )
                along = torch.stack([(g * v).sum() for g, v in zip(first, parts, strict=True)]).sum()
                second = torch.autograd.grad(
                    along, self.parameters, allow_unused=True, materialize_grads=True
                )
            total += torch.cat([part.flatten() for part in second]) * (len(batch["image"]) / number)
        return total

    def _apart(self, vector: Tensor) -> list[Tensor]:
        """(P,) as tensors of the parameters' shapes."""
        pieces = torch.split(vector, [parameter.numel() for parameter in self.parameters])
        return [piece.view_as(parameter) for piece, parameter in zip(pieces, self.parameters, strict=True)]


class Spectrum(NamedTuple):
    """What is known of a matrix from random vectors."""

    runs: list[Ritz]
    """Of Lanczos' method, one for each of the first vectors."""
    trace: Estimate
    """By Hutchinson's estimator, over all vectors."""
    size: int
    """P."""


def spectrum(
    hessian: Hessian,
    *,
    runs: int,
    steps: int,
    trace_vectors: int,
    seed: int,
    tick: Callable[[], Any] = lambda: None,
) -> Spectrum:
    """Ask a Hessian for its spectrum with vectors of random signs.

    Memory beside the products': m x P numbers of the parameters' format.

    Args:
        hessian: The matrix.
        runs: Vectors that Lanczos' method starts from.
        steps: Products of each run.
        trace_vectors: Vectors of the trace, those of the runs included (the first product of a run gives
            v^T H v, whose mean is the trace); each further one costs one product.
        seed: Of the vectors.
        tick: Called after each product.
    """
    like = hessian.parameters[0]
    generator = torch.Generator().manual_seed(seed)

    def product(vector: Tensor) -> Tensor:
        result = hessian.product(vector)
        tick()
        return result

    found: list[Ritz] = []
    traces: list[float] = []
    for index in range(max(runs, trace_vectors)):
        vector = rademacher(hessian.size, generator, like)
        if index < runs:
            found.append(lanczos(product, vector, steps))
            # the first entry of Lanczos' matrix is v^T H v / P, and the mean of the Ritz values by weight
            traces.append(float(found[-1].weights @ found[-1].values) * hessian.size)
        else:
            traces.append(float(vector.double() @ product(vector).double()))
    return Spectrum(found, mean_and_error(traces), hessian.size)


def _on(device: torch.device, batch: Batch) -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in batch.items()}
