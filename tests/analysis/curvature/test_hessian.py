"""Hessians against dense ones and against differences of gradients."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kanvision as kv
from kanvision.analysis.curvature.hessian import Hessian, spectrum
from kanvision.bases import BASES

TRANSFORMER = {"depth": 1, "embed_dim": 12, "num_heads": 3, "num_classes": 3, "in_chans": 1}


def iter_batches(model: nn.Module, sizes: tuple[int, ...], side: int) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(7)
    return [
        {
            "image": torch.randn(size, 1, side, side, generator=generator, dtype=torch.float64),
            "target": torch.randint(0, 3, (size,), generator=generator),
        }
        for size in sizes
    ]


def hessian_of(model: nn.Module, sizes: tuple[int, ...] = (3, 2), side: int = 8) -> Hessian:
    model.double().eval()

    def loss(batch: Mapping[str, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch["image"]), batch["target"])

    return Hessian(loss, model.parameters(), iter_batches(model, sizes, side))


def small(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), kv.layers.KANLinear(3, 3, basis="chebyshev")
    )


def dense(model: nn.Module, hessian: Hessian) -> Tensor:
    """The same matrix from torch's own functional interface, over all images at once."""
    images, targets = (torch.cat([batch[name] for batch in hessian.batches]) for name in ("image", "target"))
    named = dict(model.named_parameters())
    shapes = {name: parameter.shape for name, parameter in named.items()}

    def loss(flat: Tensor) -> Tensor:
        pieces = flat.split([shape.numel() for shape in shapes.values()])
        weights = {n: piece.view(shape) for (n, shape), piece in zip(shapes.items(), pieces, strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, weights, (images,)), targets)

    flat = torch.cat([parameter.detach().flatten() for parameter in named.values()])
    return torch.autograd.functional.hessian(loss, flat)


def test_products_and_spectrum_are_those_of_the_dense_matrix() -> None:
    model = small()
    hessian = hessian_of(model, side=2)
    matrix = dense(model, hessian)
    vector = torch.randn(hessian.size, dtype=torch.float64)
    assert torch.allclose(hessian.product(vector), matrix @ vector, atol=1e-12)
    ticks: list[int] = []
    found = spectrum(
        hessian, runs=2, steps=hessian.size, trace_vectors=80, seed=0, tick=lambda: ticks.append(1)
    )
    true = torch.linalg.eigvalsh(matrix).numpy()
    for run in found.runs:
        assert np.allclose(run.values[-3:], true[-3:], atol=1e-9)
        assert run.values[0] == pytest.approx(true[0], abs=1e-9)
    assert abs(found.trace.mean - true.sum()) < 4 * found.trace.error
    assert found.trace.error < 0.4 * abs(true).sum()
    assert len(ticks) <= 2 * hessian.size + 78


def test_the_trace_of_a_run_counts_its_first_product() -> None:
    hessian = hessian_of(small(), side=2)
    few = {"seed": 3, "trace_vectors": 4}
    with_runs, without = (spectrum(hessian, runs=runs, steps=6, **few) for runs in (4, 1))
    assert with_runs.trace == pytest.approx(without.trace, rel=1e-9)
    alone = spectrum(hessian, runs=1, steps=2, seed=3, trace_vectors=1)
    assert math.isnan(alone.trace.error)


def test_frozen_parameters_are_left_out() -> None:
    model = small()
    model[1].requires_grad_(False)
    assert hessian_of(model).size == sum(p.numel() for p in model[3].parameters())


KINDS: dict[str, Any] = {
    "karat": lambda: kv.create_model("karat_micro_patch4_32", img_size=8, **TRANSFORMER),
    "karat universal": lambda: kv.create_model(
        "karat_micro_patch4_32", img_size=8, share="universal", **{**TRANSFORMER, "depth": 2}
    ),
    "karat wavelet": lambda: kv.create_model(
        "karat_micro_patch4_32", img_size=8, basis="wavelet", **TRANSFORMER
    ),
    "kat": lambda: kv.create_model(
        "kat_micro_patch16_224", img_size=8, patch_size=4, num_groups=4, **TRANSFORMER
    ),
    "vit": lambda: kv.create_model("vit_micro_patch16_224", img_size=8, patch_size=4, **TRANSFORMER),
    "conv": lambda: kv.create_model("convkan_4", num_classes=3, in_chans=1, width_scale=0.03),
    **{
        basis: lambda basis=basis: nn.Sequential(
            nn.Flatten(), nn.Linear(64, 4), kv.layers.KANLinear(4, 3, basis=basis)
        )
        for basis in BASES
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_has_second_derivatives(kind: str) -> None:
    torch.manual_seed(1)
    model = KINDS[kind]()
    with torch.no_grad():  # off the kink that rationals have where their denominators are exactly zero
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    hessian = hessian_of(model, sizes=(2,))
    vector = torch.randn(hessian.size, dtype=torch.float64)
    vector /= vector.norm()
    step = 1e-5

    def gradient(shift: float) -> Tensor:
        pieces = hessian._split(vector)
        with torch.no_grad():
            for parameter, piece in zip(hessian.parameters, pieces, strict=True):
                parameter.add_(piece, alpha=shift)
        loss = hessian.loss(hessian.batches[0])
        found = torch.autograd.grad(loss, hessian.parameters, allow_unused=True, materialize_grads=True)
        with torch.no_grad():
            for parameter, piece in zip(hessian.parameters, pieces, strict=True):
                parameter.sub_(piece, alpha=shift)
        return torch.cat([part.flatten() for part in found])

    difference = (gradient(step) - gradient(-step)) / (2 * step)
    exact = hessian.product(vector)
    assert exact.norm() > 0
    assert torch.allclose(exact, difference, rtol=1e-5, atol=1e-7 * float(exact.norm()) + 1e-9)
