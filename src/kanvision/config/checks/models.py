"""Rules on the keys of a network and its basis."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from kanvision.config.errors import Problem
from kanvision.config.groups import ConfigGroups
from kanvision.config.schema.keys import format_yaml
from kanvision.config.schema.root import TrainConfig
from kanvision.config.suggestions import closest, closest_first
from kanvision.config.timm_names import is_own, timm_models
from kanvision.plugins import LOADED
from kanvision.spec.models import VIT_SIZES, ViTSize
from kanvision.spec.tasks import KIND_BY_TASK

from .rules import Rule, plural

__all__ = ["RULES", "basis_problems", "name_legal_kinds"]

MIN_SIZE_OF_KKAN = 10
"""Two 3x3 convolutions without padding, each followed by 2x2 pooling, leave nothing of a smaller image."""


def _untiled(patch: int | None, size: int | None) -> dict[str, Any] | None:
    if patch is None or size is None or size % patch == 0:
        return None
    divisors = [side for side in range(1, size + 1) if size % side == 0]
    return {"near": sorted(sorted(divisors, key=lambda side: abs(side - patch))[:3])}


def _uneven_heads(width: int | None, heads: int | None, size: ViTSize) -> dict[str, Any] | None:
    width, heads = width or VIT_SIZES[size]["embed_dim"], heads or VIT_SIZES[size]["num_heads"]
    return {"width": width, "heads": heads} if width % heads else None


def _uneven_groups(groups: int, width: int | None, size: ViTSize, plain: bool) -> dict[str, Any] | None:
    width = width or VIT_SIZES[size]["embed_dim"]
    legal = [count for count in range(1, width + 1) if width % count == 0 and count <= 2 * groups]
    return {"width": width, "legal": legal} if width % groups and not plain else None


def _unknown_in_timm(name: str, family: str) -> dict[str, Any] | None:
    # names with an address, such as hf_hub:..., are not in timm's registry
    if family != "timm" or re.search(r"[:/]", name) or is_own(name):
        return None
    word, known = name.partition(".")[0], timm_models()
    if not known or word in known or any(word in plugin.names for plugin in LOADED.values()):
        return None
    near = closest(word, sorted(known))
    return {"fix": f"nearest: {', '.join(near)}" if near else ""}


# fmt: off
RULES = (
    Rule("model.kind data.task",
         lambda kind, task, _: kind != KIND_BY_TASK[task] and {"fitting": KIND_BY_TASK[task]},
         "the data are for {task}, but model={family} is a {kind}", "take a {fitting} or other data",
         reads="model.kind data.task model.family"),
    Rule("model.img_size data.img_size", lambda own, data: own not in (None, data),
         "the model is built for another size than that of the images",
         "set data.img_size alone; the model follows"),
    Rule("model.patch_size model.img_size", _untiled,
         "the patches do not tile the image", "divisors of {img_size} near it: {near}"),
    Rule("model.embed_dim model.num_heads", _uneven_heads,
         "a width of {width} cannot be split evenly over {heads} heads",
         "take a width that is a multiple of {heads}, or another number of heads",
         reads="model.embed_dim model.num_heads model.size"),
    Rule("model.num_groups model.embed_dim", _uneven_groups,
         "a width of {width} cannot be split evenly into {num_groups} groups of rationals",
         "divisors of {width}: {legal}", reads="model.num_groups model.embed_dim model.size model.plain"),
    Rule("model.padding data.img_size", lambda padding, size: not padding and size < MIN_SIZE_OF_KKAN,
         f"convolutions without padding need images of {MIN_SIZE_OF_KKAN} pixels",
         "take model.padding=1, or larger images"),
    Rule("model.preset model.plain", lambda preset, plain: plain is True and preset is not None,
         "a plain layer is no published KAN layer", "use model.preset=null, or model.plain=false"),
    Rule("model.form model.plain", lambda form, plain: plain is True and form != "plain",
         "a plain convolution has no other form", "use model.form=plain, or model.plain=false"),
    Rule("model.head model.plain", lambda head, plain: plain is True and "kan" in (head or ""),
         "a plain network has no KAN classifier", "use model.head=linear, or model.plain=false"),
    Rule("model.init model.plain", lambda init, plain: plain is True and init == "variance_preserving",
         "it is a rule for rationals", "use model.init=released, or model.plain=false"),
    Rule("model.init_from model.plain", lambda source, plain: plain is True and source is not None,
         "it is for networks with rationals", "use model.init_from=null, or model.plain=false"),
    Rule("model.top_k model.num_experts",
         lambda top, experts, form: form.startswith("moe") and top > experts,
         "more experts are active than exist", "take a smaller model.top_k, or more experts",
         reads="model.top_k model.num_experts model.form"),
    Rule("model.plain model.num_layers",
         lambda plain, layers: not isinstance(plain, bool) and len(plain) != layers
         and {"count": plural(len(plain), "value")},
         "{count} for {num_layers} layers", "give one value for each layer"),
    Rule("model.drop_path_rate model.family",
         lambda model: model.drop_path_rate and not model.has_residual_branches,
         "this network has no residual branches to drop",
         "take model.drop_path_rate=0; model.drop_rate drops maps before the last layer", reads="model"),
    Rule("model.match model.family", lambda model: model.match is not None and model.width_key() is None,
         "this network has no key for its width", "take model.match=null, and choose a size", reads="model"),
    Rule("model.name", _unknown_in_timm, "no such name in timm's registry", "{fix}",
         reads="model.name model.family"),
)
# fmt: on


def name_legal_kinds(problem: Problem, choices: ConfigGroups) -> Problem:
    """Return the problem of a model that does not fit the data with the models and data that would fit."""
    if problem.keys != ("model.kind", "data.task"):
        return problem
    kind, task = (given.partition("=")[2] for given in problem.given)
    kind_by_task: dict[str, str] = {task: kind for task, kind in KIND_BY_TASK.items()}
    kinds = {name: choices.content("model", name).get("kind") for name in choices.of("model")}
    tasks = {name: choices.content("data", name).get("task", "") for name in choices.of("data")}
    models = [name for name in kinds if kinds[name] == kind_by_task[task]]
    data = [name for name in tasks if kind_by_task.get(tasks[name]) == kind]
    lines = (
        f"models for {task}: {', '.join(models) or 'none yet'}",
        f"data for a {kind}: {', '.join(data) or 'none yet'}",
    )
    return replace(problem, fix="\n".join(lines))


def basis_problems(config: TrainConfig, choices: ConfigGroups) -> Iterator[Problem]:
    """Yield the keys of `basis` that its file in conf/ does not have, and values of another type."""
    legal = choices.of("basis")
    name = config.basis.name
    if name not in legal:
        order = closest_first(closest(name, legal), legal)
        yield Problem(("basis.name",), (f"basis.name={name}",), "no such basis", f"legal: {', '.join(order)}")
        return
    defaults = choices.content("basis", name)
    for key, value in config.basis.arguments().items():
        given = (f"basis.{key}={format_yaml(value)}",)
        if key not in defaults:
            order = closest_first(closest(key, defaults, limit=1), defaults)
            fix = f"keys of basis={name}: {', '.join(order)}"
            yield Problem((f"basis.{key}",), given, f"basis={name} has no such key", fix)
        elif not _is_same_type(value, defaults[key]):
            fix = f"its default is {format_yaml(defaults[key])}"
            yield Problem((f"basis.{key}",), given, f"expected {_type_in_words(defaults[key])}", fix)


def _is_same_type(value: Any, example: Any) -> bool:
    if example is None or value is None or str(example).startswith("${"):
        return True  # the class chooses for null; an interpolation may have any type
    if isinstance(example, list):
        items = value if example and isinstance(value, list | tuple) else ()
        return isinstance(value, list | tuple) and all(_is_same_type(item, example[0]) for item in items)
    if isinstance(example, bool) or isinstance(value, bool):
        return isinstance(example, bool) and isinstance(value, bool)
    return isinstance(value, int | float if isinstance(example, float) else type(example))


def _type_in_words(example: Any) -> str:
    if isinstance(example, list):
        return f"a list of {_type_in_words(example[0])}s" if example else "a list"
    words = {bool: "true or false", int: "whole number", float: "number", str: "text"}
    return words.get(type(example), "section")
