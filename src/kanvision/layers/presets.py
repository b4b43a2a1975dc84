"""Published KAN layers as arguments of `KANConv{1,2,3}d` and `KANLinear`."""

from __future__ import annotations

import copy
from typing import Any

from kanvision.spec.models import Preset

__all__ = ["PRESETS", "find_default_preset", "get_preset"]

# Equations: Drokin 2024 (arXiv 2407.01092) and its code; FastKAN: arXiv 2405.06721; Wav-KAN: arXiv
# 2405.12832; ReLU-KAN: arXiv 2406.02075. Differences from the published code are intended and listed at
# each entry. Three apply to all: norms have a learnable scale and shift (norm_affine=False removes them),
# grouped layers have one norm and one activation over all groups, and the expanded channels are
# channel-major.
PRESETS: dict[Preset, dict[str, Any]] = {
    # PReLU(N(Wb GELU(x) + Ws B(x)))
    "kan": {
        "basis": "bspline",
        "basis_kwargs": {"grid_size": 5, "degree": 3, "grid_range": (-1.0, 1.0)},
        "base_act": "gelu",
        "norm": "instance",
        "act": "prelu",
        "init": "kaiming",
        "drop_position": "output",
    },
    # Wb SiLU(x) + (scale Ws) B(x), without norm or activation: efficient-kan's layer, and that of
    # Convolutional KANs (Bodner et al. 2024, arXiv 2406.13155), where every kernel is such a layer on its
    # patch.
    "efficient_kan": {
        "basis": "bspline",
        "basis_kwargs": {"grid_size": 5, "degree": 3, "grid_range": (-1.0, 1.0)},
        "base_act": "silu",
        "edge_scale": True,
        "init": "efficient_kan",
    },
    # Wb SiLU(x) + Ws exp(-((N(x) - c) / h)^2): the norm precedes the basis
    "fastkan": {
        "basis": "rbf",
        "basis_kwargs": {"num_centers": 8, "grid_range": (-2.0, 2.0)},
        "base_act": "silu",
        "input_norm": "instance",
        "init": "kaiming",
        "drop_position": "branch",
    },
    # SiLU(N(Wb x + Wp P(minmax x))). Published min and max run over the whole batch; here over the sample, so
    # that outputs do not depend on batch mates.
    "kaln": {
        "basis": "legendre",
        "basis_kwargs": {"degree": 3, "squash": None},
        "base_act": "identity",
        "input_norm": "minmax",
        "norm": "instance",
        "act": "silu",
        "init": "kaiming_joint",
        "drop_position": "squashed",
    },
    # N(Wp T(tanh x)). The recurrence replaces cos(j arccos z), whose gradient is infinite where tanh
    # saturates.
    "kacn": {
        "basis": "chebyshev",
        "basis_kwargs": {"degree": 3},
        "base_act": None,
        "norm": "instance",
        "init": "normal",
        "drop_position": "output",
    },
    # SiLU(N(Wb SiLU(x) + Wp SiLU(P(tanh x)))), with the constants of the published recurrence and its
    # d + 1 learnable betas, of which d - 1 are read.
    "kagn": {
        "basis": "gram",
        "basis_kwargs": {"degree": 3, "parity": True},
        "base_act": "silu",
        "basis_act": "silu",
        "norm": "instance",
        "act": "silu",
        "init": "kaiming_joint",
        "drop_position": "squashed",
    },
    # SiLU(N(Wb x + Wp P(tanh x)))
    "kajn": {
        "basis": "jacobi",
        "basis_kwargs": {"degree": 3, "alpha": 1.0, "beta": 1.0, "normalize": False},
        "base_act": "identity",
        "norm": "instance",
        "act": "silu",
        "init": "normal",
        "drop_position": "basis",
    },
    # SiLU(N(Wb x + Wp b(sigmoid x))). The published code returns 1 for every Bernstein function; these are
    # the real ones.
    "kabn": {
        "basis": "bernstein",
        "basis_kwargs": {"degree": 3},
        "base_act": "identity",
        "norm": "instance",
        "act": "silu",
        "init": "kaiming_joint",
        "drop_position": "squashed",
    },
    # N(Wb SiLU(x) + W psi((x - shift) / scale)). Each input channel has a scale and a shift; the
    # published layer has them for each edge, which needs O times the memory. Its 1x1 convolution after the
    # wavelets is part of W.
    "wavkan": {
        "basis": "wavelet",
        "basis_kwargs": {"kind": "mexican_hat"},
        "base_act": "silu",
        "norm": "batch",
        "init": "kaiming",
        "drop_position": "branch",
    },
    # SiLU(N(Wb SiLU(x) + Wr [r ReLU(x - l) ReLU(h - x)]^2)). Each channel has its own l and h; published
    # groups share one.
    "relukan": {
        "basis": "relu",
        "basis_kwargs": {"grid_size": 5, "order": 3},
        "base_act": "silu",
        "norm": "instance",
        "act": "silu",
        "init": "kaiming",
        "drop_position": "input",
    },
}


# Differences between the published fully connected layers and the convolutions of the same name. Norms are
# over the features, since instance norm would have a single value. Initializations are the closest ones that
# `init` offers; the published ones of "kagn" and "fastkan" (Xavier, N(0, 0.1^2)) are not available.
_LINEAR: dict[str, dict[str, Any]] = {
    # PReLU(LN(Wb GELU(x) + Ws B(x)))
    "kan": {"norm": "layer"},
    "efficient_kan": {},
    # Wb SiLU(x) + Ws exp(-((LN(x) - c) / h)^2) + b
    "fastkan": {"input_norm": "layer", "bias": True},
    # SiLU(LN(Wb SiLU(x) + Wp P(minmax x)))
    "kaln": {"norm": "layer", "base_act": "silu", "init": "kaiming"},
    # W T(tanh x)
    "kacn": {"norm": None},
    # SiLU(LN(Wb SiLU(x) + Wp SiLU(P(tanh x))))
    "kagn": {"norm": "layer", "init": "kaiming"},
    # SiLU(LN(Wb SiLU(x) + Wp P(tanh x)))
    "kajn": {"norm": "layer", "base_act": "silu"},
    # SiLU(LN(Wb SiLU(x) + Wp b(sigmoid x)))
    "kabn": {"norm": "layer", "base_act": "silu", "init": "normal"},
    # BN(Wb SiLU(x) + W psi((x - shift) / scale)), with scale and shift tied as in the convolution
    "wavkan": {},
    # Wr [r ReLU(x - l) ReLU(h - x)]^2 + b
    "relukan": {"base_act": None, "norm": None, "act": None, "bias": True},
}


def get_preset(
    name: str, *, linear: bool = False, bottleneck: bool = False, **overrides: Any
) -> dict[str, Any]:
    """Return the arguments of a published layer: `KANConv2d(64, 64, 3, padding=1, **get_preset("kagn"))`.

    Args:
        name: Key of `PRESETS`.
        linear: Select the fully connected layer of that name:
            `KANLinear(64, 64, **get_preset("kagn", linear=True))`.
        bottleneck: Select the bottleneck layer of that name, which drops at another position:
            `BottleneckKANConv2d(64, 64, 3, padding=1, **get_preset("kagn", bottleneck=True))`.
        **overrides: Arguments that replace the published ones; `basis_kwargs` are merged key by key.

    Returns:
        A new dictionary, which the caller may change.

    Raises:
        ValueError: The name is not known.
    """
    if name not in PRESETS:
        raise ValueError(f"preset={name!r} is not known; legal names: {', '.join(PRESETS)}")
    options = {**copy.deepcopy(PRESETS[name]), **(_LINEAR[name] if linear else {})}
    if bottleneck:
        # The bottleneck layers default to their published noise; ReLU-KAN's drops channels of both branches.
        options.pop("drop_position", None)
        if name == "relukan":
            options.update(drop_position="input", drop_kind="channel")
    changes = dict(overrides)
    if "basis" not in changes and changes.get("basis_kwargs") is not None:
        changes["basis_kwargs"] = {**options["basis_kwargs"], **changes["basis_kwargs"]}
    elif changes.get("basis", options["basis"]) != options["basis"]:
        # The arguments of another basis would not fit.
        options["basis_kwargs"] = {}
    return {**options, **changes}


def find_default_preset(basis: str) -> str | None:
    """Return the name of the layer that was published with a basis, or None: "kagn" for "gram"."""
    return next((name for name, options in PRESETS.items() if options["basis"] == basis), None)
