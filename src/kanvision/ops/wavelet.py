"""Mother wavelets as formulas over scalars."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from kanvision.expansion.define import Scalar, Vocabulary

__all__ = ["WAVELETS"]

# Bounded arguments keep 0 * inf out; exp(-z^2 / 2) is 1e-38 here, where exp would underflow.
_FAR = math.sqrt(2 * 87.0)
_MEXICAN_HAT: float = 2 / (math.sqrt(3) * math.pi**0.25)
_MORLET = 5.0
_SHANNON_REACH = 4 * math.pi


class _Wavelet(NamedTuple):
    value: Callable[[Vocabulary, Scalar], Scalar]
    bound: float = _FAR  # all arguments beyond it have the value at it


def _bell(m: Vocabulary, z: Scalar) -> Scalar:
    return m.exp(-0.5 * (z * z))


def _mexican_hat(m: Vocabulary, z: Scalar) -> Scalar:
    return _MEXICAN_HAT * (z * z - 1) * _bell(m, z)


def _morlet(m: Vocabulary, z: Scalar) -> Scalar:
    return _bell(m, z) * m.cos(_MORLET * z)


def _dog(m: Vocabulary, z: Scalar) -> Scalar:
    return -z * _bell(m, z)


def _meyer(m: Vocabulary, z: Scalar) -> Scalar:
    """Return sin(pi |z|) cos(pi/2 nu(2|z| - 1)), nu(t) = t^4 (35 - 84 t + 70 t^2 - 20 t^3) on [0, 1]."""
    size = m.abs(z)
    t = m.clamp(2 * size - 1, 0.0, 1.0)
    square = t * t
    ramp = square * square * (35 + t * (-84 + t * (70 - 20 * t)))
    value = m.sin(math.pi * size) * m.cos(0.5 * math.pi * ramp)
    return m.select(m.less(size, 1.0), value, 0.0 * size)  # NaN stays


def _sinc(m: Vocabulary, z: Scalar) -> Scalar:
    """Return sin(z) / z, by its series around 0, where the quotient loses digits."""
    near = m.less(m.abs(z), 0.1)
    safe = m.select(near, 1.0, z)  # keeps 0 / 0 out of derivatives as well
    small = m.select(near, z, 0.0)
    q = small * small
    series = 1 - q * (1 / 6) * (1 - q * (1 / 20) * (1 - q * (1 / 42) * (1 - q * (1 / 72))))
    return m.select(near, series, m.sin(safe) / safe)


def _shannon(m: Vocabulary, z: Scalar) -> Scalar:
    window = 0.54 + 0.46 * m.cos(z * (math.pi / _SHANNON_REACH))
    return m.select(m.less(_SHANNON_REACH, m.abs(z)), 0.0, _sinc(m, z) * window)


WAVELETS: dict[str, _Wavelet] = {
    "mexican_hat": _Wavelet(_mexican_hat),
    "morlet": _Wavelet(_morlet),
    "dog": _Wavelet(_dog),
    "meyer": _Wavelet(_meyer, bound=2.0),
    "shannon": _Wavelet(_shannon, bound=_SHANNON_REACH + 1),
}
"""Formulas by name.

mexican_hat: 2 / (sqrt(3) pi^(1/4)) (z^2 - 1) exp(-z^2 / 2), in the sign of the published Wav-KAN
morlet: exp(-z^2 / 2) cos(5 z)
dog: -z exp(-z^2 / 2)
meyer: sin(pi |z|) m(|z|) with m = 1 up to 1/2, cos(pi/2 nu(2 |z| - 1)) up to 1, 0 beyond
shannon: sin(z) / z (0.54 + 0.46 cos(z / 4)) for |z| <= 4 pi, 0 beyond: a Hamming window over the argument,
    which ends at a zero of the sine; the published code lays its window over the channels
"""
