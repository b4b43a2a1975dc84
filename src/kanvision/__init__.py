"""kanvision: vision models with learned nonlinearities (Kolmogorov-Arnold networks).

Its members are imported on first use::

    import kanvision as kv
    kv.list_models("*kat*")
    kv.create_model("kat_tiny_patch16_224", num_classes=10, in_chans=3)
    kv.create_basis("bspline", grid_size=5, degree=3)
    kv.layers.KANConv2d(64, 64, 3, padding=1, basis="gram")
    kv.kanify(timm.create_model("deit_tiny_patch16_224"), mlp="group_rational")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import load_on_demand

if TYPE_CHECKING:
    from . import bases, checkpoints, layers, models, ops
    from .analysis.functions import plot_functions
    from .app.load_run import load_run
    from .bases import create_basis
    from .models import create_model, kanify, list_models

__all__ = [
    "__version__",
    "bases",
    "checkpoints",
    "create_basis",
    "create_model",
    "kanify",
    "layers",
    "list_models",
    "load_run",
    "models",
    "ops",
    "plot_functions",
]
__version__ = "0.1.0"

_HOME = {
    "create_basis": ".bases",
    "create_model": ".models",
    "kanify": ".models",
    "list_models": ".models",
    "load_run": ".app.load_run",
    "plot_functions": ".analysis.functions",
}
_ROOMS = ("bases", "checkpoints", "layers", "models", "ops")
__getattr__ = load_on_demand(__name__, {**_HOME, **{room: f".{room}" for room in _ROOMS}})


def __dir__() -> list[str]:
    return sorted(__all__)
