"""Construction of the network that a configuration names; nothing here imports Lightning or Hydra."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, cast

from torch import nn

from kanvision.config import TrainConfig, as_config_error
from kanvision.config.schema.models import KanifyConfig, TimmConfig
from kanvision.config.schema.transformers import TransformerConfig, ViTConfig
from kanvision.models import (
    BUILDERS,
    choose_patch_size,
    init_mimetic_attention,
    kanify,
    set_grad_checkpointing,
)

from .teacher import attach_teacher

__all__ = ["build_model", "kanify_arguments", "model_arguments"]


def model_arguments(cfg: TrainConfig) -> dict[str, Any]:
    """Return the arguments of the network's builder, without its name."""
    arguments = cfg.model.arguments()
    if cfg.model.takes_basis:
        arguments |= {"basis": cfg.basis.name, "basis_kwargs": cfg.basis.arguments()}
    if isinstance(cfg.model, TransformerConfig):
        arguments.setdefault("patch_size", choose_patch_size(cfg.model.img_size))
    return arguments


def kanify_arguments(cfg: TrainConfig) -> dict[str, Any]:
    """Return the arguments of `kanify`; empty if the network stays as it is built."""
    changes = cfg.model.kanify if isinstance(cfg.model, TimmConfig) and not cfg.model.plain else None
    if changes is None or not (changes.mlp or changes.attention or changes.conv):
        return {}
    return changes.model_dump()


def build_model(cfg: TrainConfig, *, fetch: bool = True) -> nn.Module:
    """Return the model with fresh weights, joined with its teacher if it has one.

    Args:
        cfg: Configuration of a run.
        fetch: Fetch the description of a network on the hub; False for the configuration of a checkpoint,
            which may come from anywhere.
    """
    given = {"model.kwargs": cfg.model.kwargs, "basis.name": cfg.model.takes_basis}
    with as_config_error(cfg, "model.name", *(key for key, is_given in given.items() if is_given)):
        name = cfg.model.name if fetch else _find_local_name(cfg.model.name)
        model = BUILDERS[cfg.model.kind](name, **model_arguments(cfg))
    if isinstance(cfg.model, ViTConfig) and cfg.model.attn_init == "mimetic":
        for block in cast(Any, model).blocks:
            init_mimetic_attention(block.attn)
    if changes := kanify_arguments(cfg):
        usual = KanifyConfig().model_dump()
        changed = [f"model.kanify.{key}" for key, value in changes.items() if value != usual[key]]
        with as_config_error(cfg, "model.name", *changed):
            kanify(model, **changes)
    if cfg.model.grad_checkpointing is not None:
        with as_config_error(cfg, "model.grad_checkpointing", "model.name"):
            set_grad_checkpointing(model, cfg.model.grad_checkpointing)
    return attach_teacher(cfg, model, partial(build_model, fetch=False))


def _find_local_name(name: str) -> str:
    """Return the name that builds a network without a connection: of a shared one, its folder in the cache.

    Raises:
        ValueError: The network is on the hub and was never fetched.
    """
    if not name.startswith(("hf-hub:", "hf_hub:")):
        return name
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = name.partition(":")[2].partition("@")
    config = try_to_load_from_cache(repository, "config.json", revision=revision or None)
    if not isinstance(config, str):
        raise ValueError(
            f"{name} was never fetched to this machine, and nothing is fetched for a checkpoint; "
            f"if you trust it: kanvision.create_model({name!r})"
        )
    return f"local-dir:{Path(config).parent}"
