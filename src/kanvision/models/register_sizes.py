"""Registration of the sizes of a model family in timm's registry."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from timm.models import DefaultCfg, PretrainedCfg

from kanvision.pretrained import find_pretrained, list_pretrained

from .registry import register_network, register_segmenter

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
    cfgs = {variant: _default_cfgs(variant, cfg) for variant in names}
    namespace.setdefault("default_cfgs", {}).update(cfgs)
    for variant, arguments in names.items():
        entrypoint = _make_entrypoint(variant, arguments, build)
        entrypoint.__module__ = module
        namespace[variant] = (register_segmenter if segmenter else register_network)(entrypoint)


def _default_cfgs(variant: str, cfg: Mapping[str, Any]) -> DefaultCfg:
    """Return timm's configurations of a model: without a tag, and for each of the weights in the package."""
    found = DefaultCfg(tags=deque([""]), cfgs={"": PretrainedCfg(**cfg)})
    for name in list_pretrained():
        if name.partition(".")[0] == variant:
            weights = find_pretrained(name)
            own = weights.config["pretrained_cfg"]
            found.tags.append(weights.tag)
            found.cfgs[weights.tag] = PretrainedCfg(**{**cfg, **own, "file": str(weights.file)})
            found.is_pretrained = True
    return found


def _make_entrypoint(
    variant: str, arguments: Mapping[str, Any], build: Callable[..., Any]
) -> Callable[..., Any]:
    def entrypoint(pretrained: bool = False, **kwargs: Any) -> Any:
        tag = kwargs.get("pretrained_cfg")
        shipped: Mapping[str, Any] = {}
        if isinstance(tag, str) and (name := f"{variant}.{tag}") in list_pretrained():
            weights = find_pretrained(name)
            shipped = weights.config["model_args"]
            if pretrained:
                weights.check()
        return build(variant, pretrained, **{**arguments, **shipped, **kwargs})

    entrypoint.__name__ = entrypoint.__qualname__ = variant
    entrypoint.__doc__ = f"Build {variant}, with default arguments {dict(arguments)}."
    return entrypoint
