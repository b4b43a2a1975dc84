"""Bases by short name: `create_basis("bspline", grid_size=5)`."""

from __future__ import annotations

from typing import Any

from kanvision.bases.base import Basis, Squash
from kanvision.bases.bernstein import BernsteinBasis
from kanvision.bases.catalogue import SINGLE_BASES, build_basis
from kanvision.bases.cauchy import CauchyBasis
from kanvision.bases.fourier import FourierBasis
from kanvision.bases.grid import GridBasis
from kanvision.bases.lucas import ChebyshevUBasis, FibonacciBasis, LucasBasis
from kanvision.bases.orthogonal import (
    ChebyshevBasis,
    GegenbauerBasis,
    GramBasis,
    HermiteBasis,
    JacobiBasis,
    LegendreBasis,
)
from kanvision.bases.radial import RBFBasis, RSWAFBasis
from kanvision.bases.rational import RationalBasis
from kanvision.bases.relu import ReLUBasis
from kanvision.bases.selectable import SelectableBasis
from kanvision.bases.sine import SineBasis
from kanvision.bases.spline import BSplineBasis
from kanvision.bases.wavelet import WaveletBasis

__all__ = [
    "BASES",
    "BSplineBasis",
    "Basis",
    "BernsteinBasis",
    "CauchyBasis",
    "ChebyshevBasis",
    "ChebyshevUBasis",
    "FibonacciBasis",
    "FourierBasis",
    "GegenbauerBasis",
    "GramBasis",
    "GridBasis",
    "HermiteBasis",
    "JacobiBasis",
    "LegendreBasis",
    "LucasBasis",
    "RBFBasis",
    "RSWAFBasis",
    "RationalBasis",
    "ReLUBasis",
    "SelectableBasis",
    "SineBasis",
    "Squash",
    "WaveletBasis",
    "create_basis",
]

BASES: dict[str, type[Basis]] = {**SINGLE_BASES, SelectableBasis.name: SelectableBasis}


def create_basis(name: str | Basis, **kwargs: Any) -> Basis:
    """Build a basis from its short name; a `Basis` passes through.

    Args:
        name: a key of `BASES`, or a ready basis (then without further arguments).
        **kwargs: arguments of the class behind the name.

    Raises:
        ValueError: if the name or an argument is not known; the message lists the legal ones.
    """
    if isinstance(name, Basis):
        if kwargs:
            raise ValueError(f"arguments {sorted(kwargs)} were given with a basis that is built already")
        return name
    return build_basis(BASES, name, kwargs)
