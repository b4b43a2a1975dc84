"""Bases by short name: `create_basis("bspline", grid_size=5)`."""

from __future__ import annotations

from typing import Any

from kanvision import plugins

from .base import Basis, Squash
from .bernstein import BernsteinBasis
from .cauchy import CauchyBasis
from .fourier import FourierBasis
from .grid import GridBasis
from .lucas import ChebyshevUBasis, FibonacciBasis, LucasBasis
from .orthogonal import (
    ChebyshevBasis,
    GegenbauerBasis,
    GramBasis,
    HermiteBasis,
    JacobiBasis,
    LegendreBasis,
)
from .radial import RBFBasis, RSWAFBasis
from .rational import RationalBasis
from .registry import SINGLE_BASES, build_basis
from .relu import ReLUBasis
from .selectable import SelectableBasis
from .sine import SineBasis
from .spline import BSplineBasis
from .wavelet import WaveletBasis

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
    "register_basis",
]

BASES: dict[str, type[Basis]] = {**SINGLE_BASES, SelectableBasis.name: SelectableBasis}


def register_basis(basis: type[Basis]) -> type[Basis]:
    """Add a basis of a plugin under its `name`; used as a decorator.

    Raises:
        PluginError: The name is taken.
    """
    plugins.add_name(basis.name, BASES)
    SINGLE_BASES[basis.name] = BASES[basis.name] = basis
    return basis


def create_basis(name: str | Basis, **kwargs: Any) -> Basis:
    """Build a basis from its short name; a `Basis` is returned unchanged.

    Args:
        name: Key of `BASES`, or a `Basis` (then without further arguments).
        **kwargs: Arguments of the class.

    Raises:
        ValueError: The name or an argument is not known; the message lists the legal ones.
    """
    if isinstance(name, Basis):
        if kwargs:
            raise ValueError(f"arguments {sorted(kwargs)} were given with a basis that is built already")
        return name
    return build_basis(BASES, name, kwargs)
