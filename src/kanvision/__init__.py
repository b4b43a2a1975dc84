"""kanvision: vision models with learned nonlinearities (Kolmogorov-Arnold networks).

Its members are imported on first use::

    import kanvision as kv
    kv.list_models("*kat*")
    kv.create_model("kat_tiny_patch16_224", num_classes=10, in_chans=3)
    kv.create_basis("bspline", grid_size=5, degree=3)
    kv.layers.KANConv2d(64, 64, 3, padding=1, basis="gram")
    kv.fit(model="convkan", data="digits", trainer={"max_epochs": 5})
    kv.kanify(timm.create_model("deit_tiny_patch16_224"), mlp="group_rational")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import load_on_demand

if TYPE_CHECKING:
    from . import bases, checkpoints, export, layers, models, ops
    from .analysis.functions import plot_functions
    from .app.fit_from_python import fit
    from .app.load_run import load_run
    from .bases import create_basis, register_basis
    from .config import register_section
    from .data import register_reader
    from .export import from_pretrained
    from .models import create_model, list_models, register_segmenter
    from .models.kanify import kanify
    from .plugins import register_analysis, register_loss, register_metric
    from .pretrained import list_pretrained

__all__ = [
    "__version__",
    "bases",
    "checkpoints",
    "create_basis",
    "create_model",
    "export",
    "fit",
    "from_pretrained",
    "kanify",
    "layers",
    "list_models",
    "list_pretrained",
    "load_run",
    "models",
    "ops",
    "plot_functions",
    "register_analysis",
    "register_basis",
    "register_loss",
    "register_metric",
    "register_reader",
    "register_section",
    "register_segmenter",
]
__version__ = "0.1.0"

__getattr__ = load_on_demand(__name__)


def __dir__() -> list[str]:
    return sorted(__all__)
