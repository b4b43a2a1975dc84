"""Parameter groups and optimizers, built by timm."""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from timm.optim import (
    create_optimizer_v2,
    param_groups_layer_decay,
    param_groups_weight_decay,
)
from torch import Tensor, nn
from torch.optim import Optimizer

from kanvision.spec.optimizers import OPTIMIZERS, UNSUPPORTED_OPTIMIZERS, base_optimizer_name
from kanvision.spec.training import LR_SCALINGS

__all__ = [
    "apply_settings",
    "build_optimizer",
    "group_settings",
    "kan_parameter_names",
    "parameter_groups",
    "regroup_state",
    "replace_parameter",
    "scaled_lr",
]

SETTINGS = ("lr", "initial_lr", "lr_scale", "weight_decay", "betas", "eps", "momentum")
"""Entries of a parameter group that the configuration sets; others may be the optimizer's own state."""
GROUPING = ("lr", "weight_decay", "decay_all", "decay_rationals", "kan_lr", "layer_decay")
"""Options that `parameter_groups` sorts by; timm makes one group of all where nothing decays."""
RATIONAL_COEFFICIENTS = {"numerator", "denominator"}


def scaled_lr(lr: float, lr_scaling: str, global_batch: int, reference_batch: int | None) -> float:
    """Learning rate for a batch other than the one it was chosen for.

    none: lr; linear: lr * b / b0 (Goyal et al. 2017, arXiv 1706.02677); sqrt: lr * sqrt(b / b0), with b the
    global batch and b0 the reference batch.

    Raises:
        ValueError: If the rule is unknown, or needs a reference batch and there is none.
    """
    if lr_scaling not in LR_SCALINGS:
        raise ValueError(f"optimizer.lr_scaling={lr_scaling!r} is unknown; legal: {', '.join(LR_SCALINGS)}")
    if lr_scaling == "none":
        return lr
    if reference_batch is None:
        raise ValueError(
            f"optimizer.lr_scaling={lr_scaling} needs recipe.batch_size, the global batch that "
            f"optimizer.lr={lr} was chosen for; it is null"
        )
    ratio = global_batch / reference_batch
    return lr * (ratio if lr_scaling == "linear" else math.sqrt(ratio))


def kan_parameter_names(model: nn.Module) -> set[str]:
    """Names of the parameters that modules list in their class attribute `kan_parameters`."""
    return {name for _, name in _kan_parameters(model)}


def _exempt_names(model: nn.Module) -> Iterator[str]:
    for prefix, module in model.named_modules():
        for name in getattr(module, "no_weight_decay", set)():
            yield f"{prefix}.{name}" if prefix else name


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    decay_all: bool = False,
    decay_rationals: bool = True,
    kan_lr: float | None = None,
    layer_decay: float | None = None,
) -> list[dict[str, Any]]:
    """Sort every trainable parameter into exactly one group of one weight decay and one learning rate.

    No weight decay: vectors, biases and the names that the network or any module in it returns from timm's
    `no_weight_decay()`, so that a basis is exempt in whatever network it stands.
    The rate of a group is lr * layer_decay^(layers above it) * (kan_lr / lr for KAN parameters); its factors
    are the group's `lr_scale`.

    Args:
        model: The network; its `group_matcher` (or else the order of its parameters) tells the layers apart.
        lr: Learning rate.
        weight_decay: Weight decay of matrices and kernels.
        decay_all: Decay everything, vectors and biases too, as torch's optimizers do if left alone.
        decay_rationals: Whether the coefficients of rational activations decay as well.
        kan_lr: Own learning rate of the KAN parameters; None: `lr`.
        layer_decay: Factor on the learning rate per layer, counted from the head; None: 1.
    """
    exempt = {"*.bias", *_exempt_names(model)}
    if not decay_rationals:
        exempt |= {name for module, name in _kan_parameters(model) if _is_rational(module)}
    if layer_decay is None:
        groups = param_groups_weight_decay(model, weight_decay, no_weight_decay_list=exempt)
    else:
        groups = param_groups_layer_decay(
            model, weight_decay, no_weight_decay_list=exempt, layer_decay=layer_decay
        )

    kan_names = kan_parameter_names(model) if kan_lr is not None else set()
    if decay_all:
        for group in groups:
            group["weight_decay"] = weight_decay
        if layer_decay is None:
            everything = [parameter for parameter in model.parameters() if parameter.requires_grad]
            groups = [{"params": everything, "weight_decay": weight_decay}]
    is_kan = {id(parameter): name in kan_names for name, parameter in model.named_parameters()}
    result = []
    for group in groups:
        for kan in (False, True):
            parameters = [p for p in group["params"] if is_kan[id(p)] is kan]
            if not parameters:
                continue
            scale = group.get("lr_scale", 1.0) * (kan_lr / lr if kan and kan_lr is not None else 1.0)
            # `initial_lr` is what a timm schedule starts from before it applies lr_scale; `lr` is what the
            # optimizer uses when there is no schedule.
            rates = {"lr_scale": scale, "lr": lr * scale, "initial_lr": lr}
            result.append({**group, "params": parameters, **rates})
    return result


def build_optimizer(
    model: nn.Module,
    *,
    name: str = "adamw",
    lr: float,
    weight_decay: float = 0.05,
    decay_all: bool = False,
    decay_rationals: bool = True,
    kan_lr: float | None = None,
    layer_decay: float | None = None,
    betas: tuple[float, float] | None = None,
    eps: float | None = None,
    momentum: float = 0.9,
) -> Optimizer:
    """Any optimizer of timm over `parameter_groups`.

    Args:
        model: The network.
        name: Name in timm's registry (`timm.optim.list_optimizers()`).
        lr: Learning rate.
        weight_decay: See `parameter_groups`.
        decay_all: See `parameter_groups`.
        decay_rationals: See `parameter_groups`.
        kan_lr: See `parameter_groups`.
        layer_decay: See `parameter_groups`.
        betas: Momenta of Adam-like optimizers; None: the optimizer's own. Ignored by those that have none.
        eps: Epsilon; None: the optimizer's own. Ignored by those that have none.
        momentum: Momentum of SGD-like optimizers. Ignored by those that have none.

    Raises:
        ValueError: If the optimizer is not one of `kanvision.spec.optimizers.OPTIMIZERS`.
    """
    word = base_optimizer_name(name)
    if word not in OPTIMIZERS:
        close = difflib.get_close_matches(word, OPTIMIZERS, n=5, cutoff=0.5)
        reason = UNSUPPORTED_OPTIMIZERS.get(word, "it is not in timm's registry")
        raise ValueError(
            f"optimizer.name={name!r} cannot be used: {reason}; close: {', '.join(close) or 'none'}; "
            "all: kanvision.spec.optimizers"
        )
    groups = parameter_groups(
        model,
        lr=lr,
        weight_decay=weight_decay,
        decay_all=decay_all,
        decay_rationals=decay_rationals,
        kan_lr=kan_lr,
        layer_decay=layer_decay,
    )
    options: dict[str, Any] = {"betas": None if betas is None else tuple(betas), "eps": eps}
    given = {key: value for key, value in options.items() if value is not None}
    optimizer: Optimizer = create_optimizer_v2(groups, opt=name, lr=lr, momentum=momentum, **given)
    return optimizer


def group_settings(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return what the configuration sets of each parameter group (`SETTINGS`)."""
    return [{key: group[key] for key in SETTINGS if key in group} for group in optimizer.param_groups]


def apply_settings(optimizer: Optimizer, settings: Sequence[Mapping[str, Any]]) -> None:
    """Give an optimizer whose state was loaded the settings of `group_settings`, group by group."""
    for group, values in zip(optimizer.param_groups, settings, strict=True):
        group.update(values)


def regroup_state(
    state: Mapping[str, Any], model: nn.Module, before: Mapping[str, Any], now: Mapping[str, Any]
) -> dict[str, Any]:
    """Return an optimizer's state dict with its parameters in the groups of other options.

    A state dict names parameters by numbers, and an optimizer takes them for its own parameters in the order
    of its groups: in other groups (`kan_lr`, `layer_decay`, ...) one would get the momenta of another.

    Args:
        state: State dict of an optimizer.
        model: The network whose parameters it has.
        before: Options of `build_optimizer` that it was built with.
        now: Those of the optimizer that is to load it. Each of its groups takes over what the other one keeps
            in the group that its first parameter was in.
    """
    old, new = (
        parameter_groups(model, **{key: options[key] for key in GROUPING if key in options})
        for options in (before, now)
    )
    order = [id(parameter) for group in old for parameter in group["params"]]
    entries = [(number, group) for group in state["param_groups"] for number in group["params"]]
    if len(order) != len(entries):
        return dict(state)  # of another network, which loading it refuses
    homes = dict(zip(order, entries, strict=True))
    groups = []
    for group in new:
        found = [homes[id(parameter)] for parameter in group["params"]]
        # a copy: the counters of two groups must not be one tensor
        groups.append({**copy.deepcopy(found[0][1]), "params": [number for number, _ in found]})
    return {**state, "param_groups": groups}


def replace_parameter(
    optimizer: Optimizer, old: nn.Parameter, new: nn.Parameter, convert: Callable[[Tensor], Tensor]
) -> None:
    """Let an optimizer go on where one parameter took the place of another, or has changed its meaning.

    The new one stands in the group of the old one: same rates, same weight decay. What is kept for other
    parameters is not touched.

    Args:
        optimizer: Any.
        old: Parameter that the optimizer has; if it has not (frozen weights), nothing is done.
        new: What takes its place; may be the same.
        convert: What becomes of state tensors that have the shape of the old parameter (momenta, mean
            squares). Counters are kept. An optimizer that also keeps tensors of other shapes (factors of a
            matrix of mean squares) forgets this parameter's state and starts it anew.
    """
    for group in optimizer.param_groups:
        positions = [index for index, parameter in enumerate(group["params"]) if parameter is old]
        for index in positions:
            group["params"][index] = new
    state = optimizer.state.pop(old, None)
    if not state:
        return
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor) and value.ndim}
    if all(value.shape == old.shape for value in tensors.values()):
        optimizer.state[new] = {**state, **{key: convert(value) for key, value in tensors.items()}}


def _kan_parameters(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Each declared KAN parameter as (its module, its name in `model.named_parameters()`)."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for module in model.modules():
        for own_name in getattr(module, "kan_parameters", ()):
            parameter = getattr(module, own_name)
            if isinstance(parameter, nn.Parameter):
                yield module, names[id(parameter)]


def _is_rational(module: nn.Module) -> bool:
    return set(getattr(module, "kan_parameters", ())) >= RATIONAL_COEFFICIENTS
