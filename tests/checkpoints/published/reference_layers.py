"""The published layers of torch-conv-kan as plain equations on their own tensors: an oracle.

Written from the equations of the paper (arXiv 2407.01092) and the facts of its code, not from ours: a loop
over groups, maps in the published order, norms by hand. `random_conv` and `random_linear` make the tensors.
"""

import itertools
import math

import torch
import torch.nn.functional as F
from scipy.special import eval_jacobi, eval_legendre

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
DEGREE_MAJOR = ("kaln", "kagn", "kagn_v2", "kajn")
NUM_BASIS = {"kan": 8, "fastkan": 8, "wavkan": 1, "relukan": 8}  # else degree + 1 with the degree below
DEGREE = 4


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def random_norm(prefix, channels, norm, affine):
    state = {}
    if affine:
        state |= {f"{prefix}.weight": 1 + 0.2 * random(channels), f"{prefix}.bias": 0.2 * random(channels)}
    if norm == "batch":
        state |= {
            f"{prefix}.running_mean": 0.3 * random(channels),
            f"{prefix}.running_var": random(channels) ** 2 + 0.5,
        }
        state[f"{prefix}.num_batches_tracked"] = torch.tensor(7)
    return state


def random_conv(
    kind, ndim, *, groups=1, c=3, o=2, kernel=3, norm="instance", affine=True, form="fast", degree=DEGREE
):
    """Tensors of a published convolution of c inputs and o outputs a group."""
    k, ones = (kernel,) * ndim, (1,) * ndim
    num = NUM_BASIS.get(kind, degree + 1)
    scale = (c * num * kernel**ndim) ** -0.5
    state = {}
    if kind == "kagn_v2":
        state["base_conv.weight"] = scale * random(groups * o, c, *k)
        state["poly_conv.weight"] = scale * random(groups * o, c * num, *k)
        state |= random_norm("layer_norm", groups * o, norm, affine)
    for group in range(groups if kind != "kagn_v2" else 0):
        if kind != "kacn":
            state[f"base_conv.{group}.weight"] = scale * random(o, c, *k)
        weights = {
            "kan": "spline_conv",
            "fastkan": "spline_conv",
            "kacn": "poly_conv",
            "relukan": "relukan_conv",
        }
        if kind in weights:
            state[f"{weights[kind]}.{group}.weight"] = scale * random(o, c * num, *k)
        if kind == "kan":
            state[f"prelus.{group}.weight"] = 0.5 * random(1)
        if kind == "wavkan":
            prefix = f"wavelet_conv.{group}"
            state[f"{prefix}.scale"] = (0.5 + random(1, o, c, *ones).abs()) * random(1, o, c, *ones).sign()
            state[f"{prefix}.translation"] = 0.5 * random(1, o, c, *ones)
            weight = random(o, c, *k)
            if form == "base":
                state |= {f"{prefix}.wavelet_weights.{i}.weight": weight[i : i + 1] for i in range(o)}
            else:
                state[f"{prefix}.wavelet_weights.weight"] = (
                    weight.unsqueeze(1) if form == "fast_plus_one" else weight
                )
            state[f"{prefix}.wavelet_out.weight"] = random(o, o, *ones)
        state |= random_norm(f"layer_norm.{group}", c if kind == "fastkan" else o, norm, affine)
    if kind in ("kaln", "kagn", "kajn", "kabn"):
        state["poly_weights"] = scale * random(groups, o, c * num, *k)
    if kind in ("kagn", "kagn_v2"):
        state["beta_weights"] = 0.05 * random(num)
    if kind == "kacn":
        state["arange"] = torch.arange(num).view(1, 1, -1, *ones)
    if kind == "fastkan":
        state["rbf.grid"] = torch.linspace(-2, 2, num, dtype=torch.float64)
    if kind == "relukan":
        low = torch.arange(-3, 5, dtype=torch.float64) / 5 + 0.05 * random(1, c, num).view(1, c, num)
        state["phase_low"] = low.view(1, c, num, *ones)
        state["phase_high"] = state["phase_low"] + 0.8 + 0.1 * random(1, c, num, *ones).abs()
    return state


def normed(state, prefix, y, eps=1e-5):
    shape = (1, -1, *(1,) * (y.ndim - 2))
    if f"{prefix}.running_mean" in state:
        mean, var = (state[f"{prefix}.{name}"].view(shape) for name in STATISTICS[:2])
    else:
        axes = tuple(range(2, y.ndim))
        mean, var = y.mean(axes, keepdim=True), y.var(axes, unbiased=False, keepdim=True)
    y = (y - mean) / (var + eps).sqrt()
    if f"{prefix}.weight" in state:
        y = y * state[f"{prefix}.weight"].view(shape) + state[f"{prefix}.bias"].view(shape)
    return y


def splines(u, order=3, cells=5, low=-1.0, high=1.0):
    h = (high - low) / cells
    t = [low + (i - order) * h for i in range(cells + 2 * order + 1)]
    values = [((u >= a) & (u < b)).to(u.dtype) for a, b in itertools.pairwise(t)]
    for q in range(1, order + 1):
        values = [
            (u - t[i]) / (t[i + q] - t[i]) * values[i]
            + (t[i + q + 1] - u) / (t[i + q + 1] - t[i + 1]) * values[i + 1]
            for i in range(len(values) - 1)
        ]
    return values


def gram(z, beta):
    values = [torch.ones_like(z), z]
    for i in range(2, len(beta)):
        constant = (2 * i - 1) * (i - 1) ** 2 * (4 * (i - 1) ** 2 - 1) / i**2
        values.append(z * values[-1] - beta[i - 1] * constant * values[-2])
    return values


def wavelet(z, kind):
    if kind == "mexican_hat":
        return 2 / (math.sqrt(3) * math.pi**0.25) * (z**2 - 1) * torch.exp(-(z**2) / 2)
    if kind == "morlet":
        return torch.exp(-(z**2) / 2) * torch.cos(5 * z)
    if kind == "dog":
        return -z * torch.exp(-(z**2) / 2)
    v, t = z.abs(), 2 * z.abs() - 1
    falling = torch.cos(math.pi / 2 * t**4 * (35 - 84 * t + 70 * t**2 - 20 * t**3))
    return torch.sin(math.pi * v) * torch.where(v <= 0.5, 1.0, torch.where(v >= 1, 0.0, falling))


def minmax(u):
    return 2 * (u - u.min()) / (u.max() - u.min()) - 1


def bumps(u, low, high, cells=5):
    order = len(low) - cells
    r = 4 * cells**2 / (order + 1) ** 2
    return [(r * F.relu(u - a) * F.relu(b - u)) ** 2 for a, b in zip(low, high, strict=True)]


def functions(kind, state, u, alpha=1.0, beta=1.0, cells=5):
    """Values of the K functions of a group's input (B, c, *S), in their order; ReLU-KAN apart."""
    z = torch.tanh(u)
    if kind == "kan":
        return splines(u)
    if kind == "kaln":
        return [torch.from_numpy(eval_legendre(j, minmax(u).numpy())) for j in range(DEGREE + 1)]
    if kind == "kacn":
        return [torch.cos(j * torch.acos(z.clamp(-1 + 1e-7, 1 - 1e-7))) for j in range(DEGREE + 1)]
    if kind in ("kagn", "kagn_v2"):
        return [F.silu(value) for value in gram(z, state["beta_weights"])]
    if kind == "kajn":
        return [torch.from_numpy(eval_jacobi(j, alpha, beta, z.numpy())) for j in range(DEGREE + 1)]
    if kind == "kabn":
        return [torch.ones_like(u)] * (DEGREE + 1)
    grid = state["rbf.grid"]
    h = (grid[-1] - grid[0]) / (len(grid) - 1)
    return [torch.exp(-(((u - center) / h) ** 2)) for center in grid]


def published_conv(kind, state, x, *, wavelet_kind="mexican_hat", base_act=None, groups=1, **options):
    """The published forward pass of a convolution; `options` are its geometry and those of `functions`."""
    geometry = {key: options.pop(key) for key in ("stride", "padding", "dilation") if key in options}
    conv = CONV[x.ndim - 2]
    if kind == "kagn_v2":
        base = conv(F.silu(x), state["base_conv.weight"], groups=groups, **geometry)
        maps = torch.cat(functions(kind, state, x), 1)  # degree-major
        y = base + conv(maps, state["poly_conv.weight"], groups=groups, **geometry)
        return F.silu(normed(state, "layer_norm", y))
    outputs = []
    for group, u in enumerate(x.chunk(groups, 1)):
        act = base_act or {"kan": F.gelu, "kaln": lambda v: v, "kajn": lambda v: v, "kabn": lambda v: v}.get(
            kind, F.silu
        )
        base = 0 if kind == "kacn" else conv(act(u), state[f"base_conv.{group}.weight"], **geometry)
        norm = f"layer_norm.{group}"
        if kind == "wavkan":
            y = base + waves(state, f"wavelet_conv.{group}", u, wavelet_kind, conv, geometry)
            outputs.append(normed(state, norm, y))
            continue
        if kind == "relukan":
            low, high = (state[name].flatten(2)[0] for name in ("phase_low", "phase_high"))  # (c, K)
            shape = (1, -1, *(1,) * (x.ndim - 2))
            values = bumps(u, [a.view(shape) for a in low.T], [b.view(shape) for b in high.T])
        else:
            values = functions(kind, state, normed(state, norm, u) if kind == "fastkan" else u, **options)
        maps = torch.cat(values, 1) if kind in DEGREE_MAJOR else torch.stack(values, 2).flatten(1, 2)
        names = {
            "kan": "spline_conv",
            "fastkan": "spline_conv",
            "kacn": "poly_conv",
            "relukan": "relukan_conv",
        }
        weight = state[f"{names[kind]}.{group}.weight"] if kind in names else state["poly_weights"][group]
        y = base + conv(maps, weight, **geometry)
        if kind != "fastkan":
            y = normed(state, norm, y)
        if kind == "kan":
            y = torch.where(y > 0, y, state[f"prelus.{group}.weight"] * y)
        elif kind in ("kaln", "kagn", "kajn", "kabn", "relukan"):
            y = F.silu(y)
        outputs.append(y)
    return torch.cat(outputs, 1)


def waves(state, prefix, u, kind, conv, geometry):
    scale, shift = state[f"{prefix}.scale"], state[f"{prefix}.translation"]
    maps = wavelet((u.unsqueeze(1) - shift) / scale, kind)  # (B, o, c, *S)
    outputs = []
    for i in range(scale.shape[1]):
        if f"{prefix}.wavelet_weights.weight" in state:
            weight = state[f"{prefix}.wavelet_weights.weight"][i : i + 1]
            weight = weight.squeeze(1) if weight.ndim == u.ndim + 1 else weight
        else:
            weight = state[f"{prefix}.wavelet_weights.{i}.weight"]
        outputs.append(conv(maps[:, i], weight, **geometry))
    return conv(torch.cat(outputs, 1), state[f"{prefix}.wavelet_out.weight"])


def random_linear(kind, inputs=4, outputs=3, num=None, base=True, degree=DEGREE):
    """Tensors of a published fully connected layer."""
    if kind == "bottleneck_kagn":
        return random_bottleneck_linear(inputs, outputs, degree=degree)
    num = num or NUM_BASIS.get(kind, degree + 1)
    flat = (inputs, outputs, num)
    name = {"kan": "layer_norm", "kaln": "layer_norm", "kagn": "norm", "kajn": "norm", "kabn": "norm"}.get(
        kind
    )
    state = random_norm(name, outputs, "layer", True) if name else {}
    if kind in ("kan", "kaln"):
        state["base_weight"] = random(outputs, inputs)
    if kind in ("kagn", "kajn", "kabn"):
        state["base_weights"] = random(outputs, inputs)
    if kind == "kan":
        state |= {"spline_weight": random(outputs, inputs, num), "prelu.weight": 0.5 * random(1)}
    elif kind == "kaln":
        state["poly_weight"] = random(outputs, inputs * num)
    elif kind == "fastkan":
        state |= random_norm("layernorm", inputs, "layer", True)
        state["rbf.grid"] = torch.linspace(-2, 2, num, dtype=torch.float64)
        state["spline_linear.weight"] = random(outputs, inputs * num)
        if base:
            state |= {"base_linear.weight": random(outputs, inputs), "base_linear.bias": random(outputs)}
    elif kind == "kacn":
        state |= {"cheby_coeffs": random(*flat), "arange": torch.arange(num)}
    elif kind == "kagn":
        state |= {"beta_weights": 0.05 * random(num), "grams_basis_weights": random(*flat)}
    elif kind in ("kajn", "kabn"):
        state[{"kajn": "jacobi_coeffs", "kabn": "bernstein_coeffs"}[kind]] = random(*flat)
    elif kind == "wavkan":
        state |= {name: random(outputs, inputs) for name in ("wavelet_weights", "weight1", "translation")}
        state["scale"] = (0.5 + random(outputs, inputs).abs()) * random(outputs, inputs).sign()
        state |= random_norm("bn", outputs, "batch", True)
    elif kind == "relukan":
        cells = 1 if num == 2 else 5
        order = num - cells
        state["phase_low"] = torch.arange(-order, cells, dtype=torch.float64) / cells + 0.05 * random(
            inputs, num
        )
        state["phase_high"] = state["phase_low"] + (order + 1) / cells
        state |= {
            "equal_size_conv.weight": random(outputs, 1, num, inputs),
            "equal_size_conv.bias": random(outputs),
        }
    return state


def published_linear(kind, state, x, *, act=F.silu, wavelet_kind="mexican_hat"):
    """The published forward pass of a fully connected layer, (B, I) -> (B, J)."""

    if kind == "bottleneck_kagn":
        return published_bottleneck_linear(state, x, act)

    def layer_norm(prefix, y):
        mean, var = y.mean(1, keepdim=True), y.var(1, unbiased=False, keepdim=True)
        return (y - mean) / (var + 1e-5).sqrt() * state[f"{prefix}.weight"] + state[f"{prefix}.bias"]

    if kind == "wavkan":
        z = (x.unsqueeze(1) - state["translation"]) / state["scale"]  # (B, J, I)
        y = (wavelet(z, wavelet_kind) * state["wavelet_weights"]).sum(2) + F.silu(x) @ state["weight1"].T
        mean, var = state["bn.running_mean"], state["bn.running_var"]
        return (y - mean) / (var + 1e-5).sqrt() * state["bn.weight"] + state["bn.bias"]
    if kind == "relukan":
        num = state["phase_low"].shape[1]
        r = 4 * (1 if num == 2 else 5) ** 2 / (num - (1 if num == 2 else 5) + 1) ** 2
        u = x.unsqueeze(-1)
        maps = (r * F.relu(u - state["phase_low"]) * F.relu(state["phase_high"] - u)) ** 2  # (B, I, K)
        window = maps.reshape(len(x), 1, num, x.shape[1])  # as published: the axes are not swapped
        y = F.conv2d(window, state["equal_size_conv.weight"], state["equal_size_conv.bias"])
        return y.flatten(1)
    u = layer_norm("layernorm", x) if kind == "fastkan" else x
    maps = torch.stack(functions(kind, state, u), 2)  # (B, I, K)
    if kind == "kan":
        y = F.gelu(x) @ state["base_weight"].T + torch.einsum("bik,oik->bo", maps, state["spline_weight"])
        y = layer_norm("layer_norm", y)
        return torch.where(y > 0, y, state["prelu.weight"] * y)
    if kind == "kaln":
        y = act(x) @ state["base_weight"].T + maps.flatten(1) @ state["poly_weight"].T
        return act(layer_norm("layer_norm", y))
    if kind == "fastkan":
        y = maps.flatten(1) @ state["spline_linear.weight"].T
        if "base_linear.weight" in state:
            y = y + act(x) @ state["base_linear.weight"].T + state["base_linear.bias"]
        return y
    names = {
        "kacn": "cheby_coeffs",
        "kagn": "grams_basis_weights",
        "kajn": "jacobi_coeffs",
        "kabn": "bernstein_coeffs",
    }
    if kind == "kagn":
        maps = torch.stack([act(value) for value in gram(torch.tanh(x), state["beta_weights"])], 2)
    y = torch.einsum("bik,iok->bo", maps, state[names[kind]])
    return y if kind == "kacn" else act(layer_norm("norm", y + act(x) @ state["base_weights"].T))


def random_bottleneck_linear(inputs, outputs, m=None, degree=DEGREE):
    if m is None:
        m = max(inputs, outputs) // 8
        m = m if m >= 16 else min(16, inputs, outputs)
    state = {"base_weights": random(outputs, inputs), "beta_weights": 0.05 * random(degree + 1)}
    state |= {"inner_proj.weight": random(m, inputs), "inner_proj.bias": random(m)}
    state |= {"outer_proj.weight": random(outputs, m), "outer_proj.bias": random(outputs)}
    state["grams_basis_weights"] = random(m, m, degree + 1)
    return state | random_norm("norm", outputs, "layer", True)


def published_bottleneck_linear(state, x, act=F.silu):
    z = torch.tanh(x @ state["inner_proj.weight"].T + state["inner_proj.bias"])
    maps = torch.stack([act(value) for value in gram(z, state["beta_weights"])], 2)
    y = torch.einsum("bik,iok->bo", maps, state["grams_basis_weights"])
    y = y @ state["outer_proj.weight"].T + state["outer_proj.bias"] + act(x) @ state["base_weights"].T
    return act(F.layer_norm(y, y.shape[1:], state["norm.weight"], state["norm.bias"]))
