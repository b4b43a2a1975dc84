"""Registration of the sizes of a model family in timm's registry."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from timm.models import generate_default_cfgs, register_model

from .registry import register_segmenter

__all__ = ["register_sizes"]


def register_sizes(
    module: str,
    name: str,
    sizes: Mapping[Any, Mapping[str, Any]],
    build: Callable[..., Any],
    cfg: Mapping[str, Any],
    *,
    segmenter: bool = False,
) -> None:
    """Register an entrypoint with timm for each size of a model family.

    timm lists entrypoints by module: the functions become attributes of the module, and their default
    configurations its `default_cfgs`. A caller can override all arguments of a size.

    Args:
        module: Name of the module of the family.
        name: Registered name, with `{size}` in it.
        sizes: Arguments of the model by size.
        build: Function of a registered name, of `pretrained` and of the arguments that returns the model.
        cfg: Default configuration in timm's terms, see `kanvision.models.backbone.conv_cfg`.
        segmenter: Register segmentation networks.
    """
    namespace = vars(sys.modules[module])
    names = {name.format(size=size): arguments for size, arguments in sizes.items()}
    cfgs = generate_default_cfgs({variant: dict(cfg) for variant in names})
    namespace.setdefault("default_cfgs", {}).update(cfgs)
    for variant, arguments in names.items():
        entrypoint = _make_entrypoint(variant, arguments, build)
        entrypoint.__module__ = module
        namespace[variant] = (register_segmenter if segmenter else register_model)(entrypoint)


def _make_entrypoint(
    variant: str, arguments: Mapping[str, Any], build: Callable[..., Any]
) -> Callable[..., Any]:
    def entrypoint(pretrained: bool = False, **kwargs: Any) -> Any:
        return build(variant, pretrained, **{**arguments, **kwargs})

    entrypoint.__name__ = entrypoint.__qualname__ = variant
    entrypoint.__doc__ = f"Build {variant}, with default arguments {dict(arguments)}."
    return entrypoint
