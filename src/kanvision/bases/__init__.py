"""Bases by short name: `create_basis("bspline", grid_size=5)`."""

from __future__ import annotations

import inspect
from typing import Any

from kanvision.bases.base import Basis, Squash
from kanvision.bases.bernstein import BernsteinBasis
from kanvision.bases.fourier import FourierBasis
from kanvision.bases.orthogonal import (
    ChebyshevBasis,
    GegenbauerBasis,
    GramBasis,
    HermiteBasis,
    JacobiBasis,
    LegendreBasis,
)
from kanvision.bases.radial import RBFBasis
from kanvision.bases.relu import ReLUBasis
from kanvision.bases.spline import BSplineBasis
from kanvision.bases.wavelet import WaveletBasis

__all__ = [
    "BASES",
    "BSplineBasis",
    "Basis",
    "BernsteinBasis",
    "ChebyshevBasis",
    "FourierBasis",
    "GegenbauerBasis",
    "GramBasis",
    "HermiteBasis",
    "JacobiBasis",
    "LegendreBasis",
    "RBFBasis",
    "ReLUBasis",
    "Squash",
    "WaveletBasis",
    "create_basis",
]

BASES: dict[str, type[Basis]] = {
    cls.name: cls
    for cls in (
        BSplineBasis,
        RBFBasis,
        ChebyshevBasis,
        LegendreBasis,
        GramBasis,
        JacobiBasis,
        HermiteBasis,
        GegenbauerBasis,
        BernsteinBasis,
        FourierBasis,
        WaveletBasis,
        ReLUBasis,
    )
}


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
    if name not in BASES:
        raise ValueError(f"basis={name!r} is not known; legal names: {', '.join(sorted(BASES))}")
    cls = BASES[name]
    legal = list(inspect.signature(cls).parameters)
    unknown = sorted(set(kwargs) - set(legal))
    if unknown:
        raise ValueError(
            f"basis {name!r} has no argument {', '.join(unknown)}; legal arguments: {', '.join(legal)}"
        )
    return cls(**kwargs)
