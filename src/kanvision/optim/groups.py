"""Parameter groups and optimizers, built by timm."""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from timm.optim import create_optimizer_v2, param_groups_layer_decay, param_groups_weight_decay
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
"""Entries of a parameter group from the configuration; others may be state of the optimizer."""
GROUPING = ("lr", "weight_decay", "decay_all", "decay_rationals", "kan_lr", "layer_decay")
"""Options of `parameter_groups` that determine the groups."""
RATIONAL_COEFFICIENTS = {"numerator", "denominator"}


def scaled_lr(lr: float, lr_scaling: str, global_batch: int, reference_batch: int | None) -> float:
    """Return the learning rate for another batch size than the reference.

    none: lr; linear: lr * b / b0 (Goyal et al. 2017, arXiv 1706.02677); sqrt: lr * sqrt(b / b0), with b the
    global batch and b0 the reference batch.

    Raises:
        ValueError: The rule is unknown, or needs a reference batch size that is missing.
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
    """Return the names of the parameters that modules list in their class attribute `kan_parameters`."""
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
    """Return groups of all trainable parameters, each with one weight decay and one learning rate.

    Weight decay does not apply to vectors, biases and the names that `no_weight_decay()` of the network or of
    any module returns, so that a basis is exempt in every network.
    The learning rate of a group is lr * layer_decay^(layers above it) * (kan_lr / lr for KAN parameters); its
    factors are the `lr_scale` of the group.

    Args:
        model: The network; its `group_matcher`, or else the order of its parameters, determines the layers.
        lr: Learning rate.
        weight_decay: Weight decay of matrices and kernels.
        decay_all: Apply weight decay to all parameters, vectors and biases too, as torch does by default.
        decay_rationals: Apply weight decay to the coefficients of rational activations.
        kan_lr: Learning rate of the KAN parameters; None for `lr`.
        layer_decay: Factor of the learning rate per layer, counted from the head; None for 1.
    """
    exempt = {"*.bias", *_exempt_names(model)}
    if not decay_rationals:
        for module, name in _kan_parameters(model):
            if {*getattr(module, "kan_parameters", ())} >= RATIONAL_COEFFICIENTS:
                exempt.add(name)
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
            # schedules of timm multiply `initial_lr` by lr_scale; `lr` is used without a schedule
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
    """Build an optimizer of timm over `parameter_groups`.

    Args:
        model: The network.
        name: Name in timm's registry (`timm.optim.list_optimizers()`).
        lr: Learning rate.
        weight_decay: See `parameter_groups`.
        decay_all: See `parameter_groups`.
        decay_rationals: See `parameter_groups`.
        kan_lr: See `parameter_groups`.
        layer_decay: See `parameter_groups`.
        betas: Coefficients of Adam-like optimizers; None for their default. Others ignore them.
        eps: Epsilon; None for the default of the optimizer. Optimizers without it ignore it.
        momentum: Momentum of SGD-like optimizers. Others ignore it.

    Raises:
        ValueError: The optimizer is not one of `kanvision.spec.optimizers.OPTIMIZERS`.
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
    """Return the entries of each parameter group from the configuration (`SETTINGS`)."""
    return [{key: group[key] for key in SETTINGS if key in group} for group in optimizer.param_groups]


def apply_settings(optimizer: Optimizer, settings: Sequence[Mapping[str, Any]]) -> None:
    """Set the results of `group_settings` in an optimizer after its state was loaded."""
    for group, values in zip(optimizer.param_groups, settings, strict=True):
        group.update(values)


def regroup_state(
    state: Mapping[str, Any], model: nn.Module, before: Mapping[str, Any], now: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the state dict of an optimizer with its parameters in the groups of other options.

    A state dict numbers parameters in the order of the groups. With other groups (`kan_lr`, `layer_decay`,
    ...), a parameter would get the momenta of another one.

    Args:
        state: State dict of an optimizer.
        model: The network of its parameters.
        before: Options of `build_optimizer` of the saved optimizer.
        now: Options of the optimizer that loads the state. Each of its groups gets the entries of the saved
            group of its first parameter.
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
    """Replace a parameter in an optimizer and convert its state.

    The new parameter is in the group of the old one, with the same learning rate and weight decay. The state
    of other parameters does not change.

    Args:
        optimizer: Optimizer.
        old: Parameter to replace; nothing changes if the optimizer does not have it (frozen weights).
        new: Replacement; may be the same parameter with another meaning.
        convert: Function for state tensors of the shape of the old parameter (momenta, mean squares).
            Counters are kept. If the state has tensors of other shapes (factors of a matrix of mean squares),
            the state of this parameter is reset.
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
