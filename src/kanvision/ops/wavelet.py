"""Mother wavelets and their derivatives. Shapes: x (...), values (..., K, ...) with K inserted at `dim`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .recompute import recompute

__all__ = ["WAVELETS", "wavelets"]

# Every wavelet is 0 this far out, also in float64; bounded arguments keep 0 * inf out.
_FAR = 1e3
_MEXICAN_HAT: float = 2 / (math.sqrt(3) * math.pi**0.25)
_MORLET = 5.0
_SHANNON_REACH = 4 * math.pi


def wavelets(x: Tensor, shift: Tensor, rate: Tensor, kind: str, dim: int) -> Tensor:
    """Return psi(rate (x - shift)), twice differentiable; saves only its arguments for the backward pass.

    Args:
        x: Points in float32 or float64.
        shift: Shift, which broadcasts against `x.unsqueeze(dim)`; differentiable.
        rate: Inverse scale, of the shape of `shift`; differentiable.
        kind: Key of `WAVELETS`.
        dim: Axis of the result with the K functions.
    """
    return recompute(_Wavelets(kind, dim), x, shift, rate)


class _Wavelets(NamedTuple):
    kind: str
    dim: int

    def arguments(self, x: Tensor, shift: Tensor, rate: Tensor) -> Tensor:
        return (rate * (x.unsqueeze(self.dim) - shift)).clamp(-_FAR, _FAR)

    def values(self, x: Tensor, shift: Tensor, rate: Tensor) -> Tensor:
        values: Tensor = WAVELETS[self.kind].value(self.arguments(x, shift, rate))
        return values

    def pullback(
        self, needs: tuple[bool, ...], grad: Tensor, x: Tensor, shift: Tensor, rate: Tensor
    ) -> tuple[Tensor | None, ...]:
        z = self.arguments(x, shift, rate)
        slope = grad * WAVELETS[self.kind].derivative(z)
        return (
            (slope * rate).sum(self.dim) if needs[0] else None,
            -(slope * rate).sum_to_size(shift.shape) if needs[1] else None,
            (slope * z / rate).sum_to_size(rate.shape) if needs[2] else None,
        )


class _Wavelet(NamedTuple):
    value: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]
    flops: int


def _bell(z: Tensor) -> Tensor:
    return torch.exp(-0.5 * z.square())


def _mexican_hat(z: Tensor) -> Tensor:
    return _MEXICAN_HAT * (z.square() - 1) * _bell(z)


def _mexican_hat_derivative(z: Tensor) -> Tensor:
    return _MEXICAN_HAT * z * (3 - z.square()) * _bell(z)


def _morlet(z: Tensor) -> Tensor:
    return _bell(z) * torch.cos(_MORLET * z)


def _morlet_derivative(z: Tensor) -> Tensor:
    return -_bell(z) * (z * torch.cos(_MORLET * z) + _MORLET * torch.sin(_MORLET * z))


def _dog(z: Tensor) -> Tensor:
    return -z * _bell(z)


def _dog_derivative(z: Tensor) -> Tensor:
    return (z.square() - 1) * _bell(z)


def _meyer_ramp(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return pi/2 nu(2|z| - 1), nu(t) = t^4 (35 - 84 t + 70 t^2 - 20 t^3), and its derivative in |z|."""
    t = (2 * z.abs() - 1).clamp(0, 1)
    ramp = t.pow(4) * (35 + t * (-84 + t * (70 - 20 * t)))
    return 0.5 * math.pi * ramp, 140 * math.pi * (t * (1 - t)).pow(3)


def _meyer(z: Tensor) -> Tensor:
    angle, _ = _meyer_ramp(z)
    return torch.where(z.abs() >= 1, 0, torch.sin(math.pi * z.abs()) * torch.cos(angle))


def _meyer_derivative(z: Tensor) -> Tensor:
    angle, rise = _meyer_ramp(z)
    turn = math.pi * z.abs()
    slope = math.pi * torch.cos(turn) * torch.cos(angle) - torch.sin(turn) * torch.sin(angle) * rise
    return torch.where(z.abs() >= 1, 0, z.sign() * slope)


def _sinc(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return sin(z) / z and its derivative, by their series around 0, where the quotients lose digits."""
    near = z.abs() < 0.1
    safe = torch.where(near, 1, z)  # keeps 0 / 0 out of derivatives as well
    q = torch.where(near, z, 0).square()
    value = 1 - q / 6 * (1 - q / 20 * (1 - q / 42 * (1 - q / 72)))
    odd = -1 / 3 + q / 30 * (1 - q / 28 * (1 - q / 54 * (1 - q / 88)))
    sine = torch.sin(safe) / safe
    return torch.where(near, value, sine), torch.where(near, z * odd, (torch.cos(safe) - sine) / safe)


def _shannon(z: Tensor) -> Tensor:
    window = 0.54 + 0.46 * torch.cos(z * (math.pi / _SHANNON_REACH))
    return torch.where(z.abs() > _SHANNON_REACH, 0, _sinc(z)[0] * window)


def _shannon_derivative(z: Tensor) -> Tensor:
    turn = z * (math.pi / _SHANNON_REACH)
    value, slope = _sinc(z)
    window = 0.54 + 0.46 * torch.cos(turn)
    fall = -0.46 * math.pi / _SHANNON_REACH * torch.sin(turn)
    return torch.where(z.abs() > _SHANNON_REACH, 0, slope * window + value * fall)


WAVELETS: dict[str, _Wavelet] = {
    "mexican_hat": _Wavelet(_mexican_hat, _mexican_hat_derivative, 7),
    "morlet": _Wavelet(_morlet, _morlet_derivative, 6),
    "dog": _Wavelet(_dog, _dog_derivative, 5),
    "meyer": _Wavelet(_meyer, _meyer_derivative, 26),
    "shannon": _Wavelet(_shannon, _shannon_derivative, 26),
}
"""Value and derivative by name, and how many operations the value takes.

mexican_hat: 2 / (sqrt(3) pi^(1/4)) (z^2 - 1) exp(-z^2 / 2), in the sign of the published Wav-KAN
morlet: exp(-z^2 / 2) cos(5 z)
dog: -z exp(-z^2 / 2)
meyer: sin(pi |z|) m(|z|) with m = 1 up to 1/2, cos(pi/2 nu(2 |z| - 1)) up to 1, 0 beyond
shannon: sin(z) / z (0.54 + 0.46 cos(z / 4)) for |z| <= 4 pi, 0 beyond: a Hamming window over the argument,
    which ends at a zero of the sine; the published code lays its window over the channels
"""
