"""Published bottlenecks, mixtures and self-attention of torch-conv-kan as plain equations: an oracle.

See `published_layers`, whose equations these go on with.
"""

import torch
import torch.nn.functional as F

from .reference_layers import (
    CONV,
    DEGREE,
    bumps,
    gram,
    normed,
    published_conv,
    random,
    random_conv,
    random_norm,
)


def random_bottleneck(
    kind,
    ndim,
    *,
    groups=1,
    c=3,
    o=4,
    m=2,
    kernel=3,
    norm="instance",
    affine=True,
    degree=DEGREE,
    experts=3,
    pregate=False,
):
    """Tensors of a published bottleneck of c inputs, m inner channels and o outputs a group."""
    k, ones, state = (kernel,) * ndim, (1,) * ndim, {}
    num = 8 if kind == "relukan" else degree + 1
    scale = (m * num * kernel**ndim) ** -0.5
    for group in range(groups):
        state[f"base_conv.{group}.weight"] = scale * random(o, c, *k)
        state[f"inner_proj.{group}.weight"] = random(m, c, *ones) * c**-0.5
        state[f"out_proj.{group}.weight"] = random(o, m, *ones) * m**-0.5
        if kind == "relukan":
            state[f"relukan_conv.{group}.weight"] = scale * random(m, m * num, *k)
        state |= random_norm(f"layer_norm.{group}", o, norm, affine)
    if kind == "relukan":
        state["phase_low"] = (
            torch.arange(-3, 5).div(5).double().expand(m, -1).reshape(1, m, num, *ones) + 0.01
        )
        state["phase_high"] = state["phase_low"] + 0.8 + 0.1 * random(1, m, num, *ones).abs()
    elif kind == "kagn":
        state |= {"poly_weights": scale * random(groups, m, m * num, *k), "beta_weights": 0.05 * random(num)}
    else:
        for e in range(experts):
            state[f"experts.experts.{e}.poly_weights"] = scale * random(groups, m, m * num, *k)
            state[f"experts.experts.{e}.beta_weights"] = 0.05 * random(num)
        names = ("experts.w_gate", "experts.w_noise", "w_gate", "w_noise")
        state |= {name: random(groups * m, experts) for name in names}
        state |= {"experts.mean": torch.zeros(1), "experts.std": torch.ones(1)}
        if pregate:
            width, prefix = groups * m, "experts.pre_gate."
            state |= random_norm(f"{prefix}norm", width, "layer", True)
            state |= {
                f"{prefix}beta_weights": 0.05 * random(num),
                f"{prefix}base_weights": random(width, width),
            }
            state[f"{prefix}grams_basis_weights"] = random(width, width, num)
    return state


def below(state, prefix):
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def published_bottleneck(kind, state, x, *, groups=1, k=2, **geometry):
    conv, outputs, inner = CONV[x.ndim - 2], [], []
    for group, u in enumerate(x.chunk(groups, 1)):
        outputs.append(conv(F.silu(u), state[f"base_conv.{group}.weight"], **geometry))
        inner.append(conv(u, state[f"inner_proj.{group}.weight"]))
    if kind == "relukan":
        low, high = (state[name].flatten(2)[0] for name in ("phase_low", "phase_high"))
        shape = (1, -1, *(1,) * (x.ndim - 2))
        for group, z in enumerate(inner):
            values = bumps(z, [a.view(shape) for a in low.T], [b.view(shape) for b in high.T])
            maps = torch.stack(values, 2).flatten(1, 2)
            inner[group] = conv(maps, state[f"relukan_conv.{group}.weight"], **geometry)
    elif kind == "kagn":
        inner = expert(state, inner, conv, geometry)
    else:
        inner = mixture(state, inner, conv, geometry, k)
    for group, y in enumerate(inner):
        outputs[group] = outputs[group] + conv(y, state[f"out_proj.{group}.weight"])
        outputs[group] = F.silu(normed(state, f"layer_norm.{group}", outputs[group]))
    return torch.cat(outputs, 1)


def expert(state, inner, conv, geometry):
    """Gram convolution of each group's inner map, nothing around it."""
    maps = [torch.cat([F.silu(v) for v in gram(torch.tanh(z), state["beta_weights"])], 1) for z in inner]
    return [conv(map, state["poly_weights"][group], **geometry) for group, map in enumerate(maps)]


def mixture(state, inner, conv, geometry, k):
    q = torch.cat(inner, 1).flatten(2).mean(2)
    if "experts.pre_gate.beta_weights" in state:
        q = pregate(below(state, "experts.pre_gate."), q)
    weights = (q @ state["experts.w_gate"]).softmax(1)
    top, chosen = weights.topk(k, 1)
    gates = torch.zeros_like(weights).scatter(1, chosen, top / (top.sum(1, keepdim=True) + 1e-6))
    outputs = [0.0] * len(inner)
    for e in range(gates.shape[1]):
        parts = expert(below(state, f"experts.experts.{e}."), inner, conv, geometry)
        for group, part in enumerate(parts):
            outputs[group] = outputs[group] + gates[:, e].view(-1, *(1,) * (part.ndim - 1)) * part
    return outputs


def pregate(state, q):
    maps = torch.stack([F.silu(v) for v in gram(torch.tanh(q), state["beta_weights"])], 2)
    y = torch.einsum("bik,iok->bo", maps, state["grams_basis_weights"]) + F.silu(q) @ state["base_weights"].T
    return F.silu(F.layer_norm(y, y.shape[1:], state["norm.weight"], state["norm.bias"]))


def random_attention(
    kind, ndim, *, groups=1, width=4, channels=None, m=2, norm="batch", affine=True, degree=DEGREE
):
    """Tensors of a published self-attention; `channels` where projections stand around it."""
    state = {"gamma": random(1)}
    for name in "qkv":
        sizes = {"groups": groups, "c": width // groups, "o": width // groups}
        sizes |= {"norm": norm, "affine": affine, "degree": degree}
        if kind.startswith("bottleneck"):
            part = random_bottleneck(kind.removeprefix("bottleneck_"), ndim, m=m, **sizes)
        else:
            part = random_conv(kind, ndim, **sizes)
        state |= {f"proj_{name}.{key}": value for key, value in part.items()}
    if channels is not None:
        ones = (1,) * ndim
        state |= {"inner_proj.weight": random(width, channels, *ones), "inner_proj.bias": random(width)}
        state |= {"outer_proj.weight": random(channels, width, *ones), "outer_proj.bias": random(channels)}
    return state | random_norm("norm_layer", channels or width, norm, affine)


def published_attention(kind, state, x, *, groups=1):
    conv = CONV[x.ndim - 2]
    u = conv(x, state["inner_proj.weight"], state["inner_proj.bias"]) if "inner_proj.weight" in state else x
    parts = {}
    for name in "qkv":
        part, options = below(state, f"proj_{name}."), {"groups": groups, "padding": 1}
        if kind.startswith("bottleneck"):
            y = published_bottleneck(kind.removeprefix("bottleneck_"), part, u, **options)
        else:
            y = published_conv(kind, part, u, **options)
        parts[name] = y.flatten(2)  # (B, D, N)
    weights = (parts["q"].transpose(1, 2) @ parts["k"]).softmax(-1)  # (B, N, N)
    y = (parts["v"] @ weights.transpose(1, 2)).view_as(u)
    if "outer_proj.weight" in state:
        y = conv(y, state["outer_proj.weight"], state["outer_proj.bias"])
    return normed(state, "norm_layer", state["gamma"] * x + y)
