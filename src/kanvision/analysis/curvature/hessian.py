"""Hessian of the loss of a network: products with vectors, trace and spectrum.

P trainable parameters, V random vectors, m steps of the Lanczos method.
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
"""Function from a batch to its mean loss, a scalar."""
Batches = Sequence[Batch]
"""Batches with `image`, (B, C, H, W), and the other inputs of the loss."""


class Hessian:
    """Second derivatives of the mean loss over batches, as exact products with vectors.

    H v is the gradient of (gradient . v), which costs about four passes and the memory of one batch
    (Pearlmutter 1994). Batches are moved to the device one at a time. Attention uses the plain implementation
    of torch, because its fused kernels have no second derivative.

    Args:
        loss: Mean loss of one batch; deterministic, so the network is in evaluation mode.
        parameters: Parameters to differentiate by.
        batches: Batches, weighted by their numbers of images.
    """

    def __init__(self, loss: Loss, parameters: Iterable[Tensor], batches: Batches) -> None:
        self.loss = loss
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.batches = batches
        self.size = sum(parameter.numel() for parameter in self.parameters)

    def product(self, vector: Tensor) -> Tensor:
        """Return H v for a vector v, both (P,)."""
        parts = self._split(vector)
        total = torch.zeros_like(vector)
        number = sum(len(batch["image"]) for batch in self.batches)
        for batch in self.batches:
            with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
                loss = self.loss({name: value.to(vector.device) for name, value in batch.items()})
                first = torch.autograd.grad(
                    loss, self.parameters, create_graph=True, allow_unused=True, materialize_grads=True
                )
                along = torch.stack([(g * v).sum() for g, v in zip(first, parts, strict=True)]).sum()
                second = torch.autograd.grad(
                    along, self.parameters, allow_unused=True, materialize_grads=True
                )
            total += torch.cat([part.flatten() for part in second]) * (len(batch["image"]) / number)
        return total

    def _split(self, vector: Tensor) -> list[Tensor]:
        """Return a vector (P,) as tensors of the shapes of the parameters."""
        pieces = torch.split(vector, [parameter.numel() for parameter in self.parameters])
        return [piece.view_as(parameter) for piece, parameter in zip(pieces, self.parameters, strict=True)]


class Spectrum(NamedTuple):
    """Estimates of trace and eigenvalues of a matrix from random vectors."""

    runs: list[Ritz]
    """Results of the Lanczos method, one for each start vector."""
    trace: Estimate
    """Trace by the estimator of Hutchinson, over all vectors."""
    size: int
    """Number of parameters, P."""


def spectrum(
    hessian: Hessian,
    *,
    runs: int,
    steps: int,
    trace_vectors: int,
    seed: int,
    tick: Callable[[], Any] = lambda: None,
) -> Spectrum:
    """Estimate the spectrum of a Hessian with vectors of random signs.

    Beyond the memory of the products, m x P numbers in the format of the parameters are kept.

    Args:
        hessian: The matrix.
        runs: Number of start vectors of the Lanczos method.
        steps: Number of products of each run, m.
        trace_vectors: Number of vectors of the trace, start vectors included (the first product of a run
            gives v^T H v, whose mean is the trace); each further vector costs one product.
        seed: Seed of the vectors.
        tick: Function to call after each product.
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
            # the first entry of the Lanczos matrix is v^T H v / P, the weighted mean of the Ritz values
            traces.append(float(found[-1].weights @ found[-1].values) * hessian.size)
        else:
            traces.append(float(vector.double() @ product(vector).double()))
    return Spectrum(found, mean_and_error(traces), hessian.size)
