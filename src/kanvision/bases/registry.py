"""Registry of bases by short name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from .base import Basis
from .bernstein import BernsteinBasis
from .cauchy import CauchyBasis
from .fourier import FourierBasis
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
from .relu import ReLUBasis
from .sine import SineBasis
from .spline import BSplineBasis
from .wavelet import WaveletBasis

__all__ = ["SINGLE_BASES", "build_basis"]

SINGLE_BASES: dict[str, type[Basis]] = {
    cls.name: cls
    for cls in (
        BSplineBasis,
        RBFBasis,
        RSWAFBasis,
        ChebyshevBasis,
        ChebyshevUBasis,
        LegendreBasis,
        GramBasis,
        JacobiBasis,
        HermiteBasis,
        GegenbauerBasis,
        LucasBasis,
        FibonacciBasis,
        BernsteinBasis,
        FourierBasis,
        SineBasis,
        WaveletBasis,
        ReLUBasis,
        CauchyBasis,
        RationalBasis,
    )
}
"""All bases except those that are composed of others."""


def build_basis(bases: Mapping[str, type[Basis]], name: str, arguments: Mapping[str, Any]) -> Basis:
    """Build a basis from its short name.

    Args:
        bases: Classes by name.
        name: Key of `bases`.
        arguments: Arguments of the class.

    Raises:
        ValueError: The name or an argument is not known; the message lists the legal ones.
    """
    if name not in bases:
        raise ValueError(f"basis={name!r} is not known; legal names: {', '.join(sorted(bases))}")
    cls = bases[name]
    legal = list(inspect.signature(cls).parameters)
    unknown = sorted(set(arguments) - set(legal))
    if unknown:
        raise ValueError(
            f"basis {name!r} has no argument {', '.join(unknown)}; legal arguments: {', '.join(legal)}"
        )
    return cls(**arguments)
