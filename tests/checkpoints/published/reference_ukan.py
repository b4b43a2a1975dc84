"""The published U-KAN on its own tensors: an oracle, written from the facts of the published code.

Nothing here knows of our layers. Shapes: B batch, N tokens, C channels, H W space, n knots.
"""

import torch
import torch.nn.functional as F

__all__ = ["published_ukan", "random_ukan"]

BLOCKS = {"block1.0.": 1, "block2.0.": 2, "dblock1.0.": 1, "dblock2.0.": 0}
"""Prefix of a block, and which of the three widths it has."""


def random_ukan(
    dims=(16, 8, 24),
    stem=(2, 4),
    *,
    in_chans=3,
    num_classes=1,
    kan=(True, True, True),
    cells=5,
    order=3,
    low=-1.0,
    high=1.0,
    scaler=True,
):
    """Random tensors under the published names."""
    state = {}

    def add(prefix, **shapes):
        for name, shape in shapes.items():
            state[prefix + name] = 0.3 * torch.randn(shape)

    def norm(prefix, width, statistics=True):
        state[prefix + "weight"] = 1 + 0.2 * torch.randn(width)
        state[prefix + "bias"] = 0.2 * torch.randn(width)
        if statistics:
            state[prefix + "running_mean"] = 0.2 * torch.randn(width)
            state[prefix + "running_var"] = 0.5 + torch.rand(width)
            state[prefix + "num_batches_tracked"] = torch.tensor(7)

    def pair(prefix, inputs, inner, outputs):
        for index, (fan_in, width) in ((0, (inputs, inner)), (3, (inner, outputs))):
            add(f"{prefix}conv.{index}.", weight=(width, fan_in, 3, 3), bias=(width,))
            norm(f"{prefix}conv.{index + 1}.", width)

    path = (in_chans, *stem, dims[0])
    for number in (1, 2, 3):
        pair(f"encoder{number}.", path[number - 1], path[number], path[number])
    path = (dims[2], dims[1], dims[0], stem[1], stem[0], stem[0])
    for number in range(1, 6):
        pair(f"decoder{number}.", path[number - 1], path[number - 1], path[number])
    for number, (fan_in, width) in ((3, dims[:2]), (4, dims[1:])):
        add(f"patch_embed{number}.proj.", weight=(width, fan_in, 3, 3), bias=(width,))
        norm(f"patch_embed{number}.norm.", width, statistics=False)
    for name, width in (("norm3", dims[1]), ("norm4", dims[2]), ("dnorm3", dims[1]), ("dnorm4", dims[0])):
        norm(f"{name}.", width, statistics=False)
    step = (high - low) / cells
    knots = torch.arange(-order, cells + order + 1) * step + low
    for block, which in BLOCKS.items():
        width = dims[which]
        norm(f"{block}norm2.", width, statistics=False)
        for number, is_kan in enumerate(kan, start=1):
            prefix = f"{block}layer.fc{number}."
            if is_kan:
                add(prefix, base_weight=(width, width), spline_weight=(width, width, cells + order))
                if scaler:
                    add(prefix, spline_scaler=(width, width))
                state[prefix + "grid"] = knots.expand(width, -1).contiguous()
            else:
                add(prefix, weight=(width, width), bias=(width,))
            prefix = f"{block}layer.dwconv_{number}."
            add(f"{prefix}dwconv.", weight=(width, 1, 3, 3), bias=(width,))
            norm(f"{prefix}bn.", width)
    add("final.", weight=(num_classes, stem[0], 1, 1), bias=(num_classes,))
    return state


def published_ukan(state, x):
    """The forward pass in evaluation mode, (B, C, H, W) -> (B, num_classes, H, W), in double precision."""
    state = {name: value.double() for name, value in state.items()}

    def batch_norm(prefix, x):
        parts = [state[prefix + name] for name in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *parts)

    def layer_norm(prefix, x):
        return F.layer_norm(x, x.shape[-1:], state[f"{prefix}weight"], state[f"{prefix}bias"])

    def pair(prefix, x):
        for index in (0, 3):
            part = f"{prefix}conv.{index}."
            x = F.conv2d(x, state[f"{part}weight"], state[f"{part}bias"], padding=1)
            x = batch_norm(f"{prefix}conv.{index + 1}.", x).relu()
        return x

    def linear(prefix, x):
        if f"{prefix}weight" in state:
            return F.linear(x, state[f"{prefix}weight"], state[f"{prefix}bias"])
        weight = state[f"{prefix}spline_weight"]
        if f"{prefix}spline_scaler" in state:
            weight = weight * state[f"{prefix}spline_scaler"].unsqueeze(-1)
        grid = state[f"{prefix}grid"]
        values = splines(x, grid, grid.shape[1] - 1 - weight.shape[2])
        return F.linear(F.silu(x), state[f"{prefix}base_weight"]) + torch.einsum(
            "nik,oik->no", values, weight
        )

    def block(prefix, x, size):
        tokens = layer_norm(f"{prefix}norm2.", x)
        number = 1
        while f"{prefix}layer.dwconv_{number}.dwconv.weight" in state:
            batch, count, width = tokens.shape
            tokens = linear(f"{prefix}layer.fc{number}.", tokens.reshape(-1, width)).view(batch, count, width)
            part = f"{prefix}layer.dwconv_{number}."
            maps = tokens.transpose(1, 2).reshape(batch, width, *size)
            kernel = state[f"{part}dwconv.weight"], state[f"{part}dwconv.bias"]
            maps = batch_norm(f"{part}bn.", F.conv2d(maps, *kernel, padding=1, groups=width)).relu()
            tokens = maps.flatten(2).transpose(1, 2)
            number += 1
        return x + tokens

    def embed(prefix, x):
        x = F.conv2d(x, state[f"{prefix}proj.weight"], state[f"{prefix}proj.bias"], stride=2, padding=1)
        return layer_norm(f"{prefix}norm.", x.flatten(2).transpose(1, 2)), x.shape[2:]

    def as_map(tokens, size):
        return tokens.transpose(1, 2).reshape(len(tokens), -1, *size)

    def doubled(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear").relu()

    x = x.double()
    skips = []
    for number in (1, 2, 3):
        x = F.max_pool2d(pair(f"encoder{number}.", x), 2)
        skips.append(x)
    for number in (3, 4):
        tokens, size = embed(f"patch_embed{number}.", x)
        tokens = block(f"block{number - 2}.0.", tokens, size)
        x = as_map(layer_norm(f"norm{number}.", tokens), size)
        skips.append(x)
    skips.pop()
    for number in range(1, 6):
        x = doubled(pair(f"decoder{number}.", x))
        x = x + skips.pop() if skips else x
        if number < 3:
            tokens = block(f"dblock{number}.0.", x.flatten(2).transpose(1, 2), x.shape[2:])
            x = as_map(layer_norm(f"dnorm{number + 2}.", tokens), x.shape[2:])
    return F.conv2d(x, state["final.weight"], state["final.bias"])


def splines(x, grid, order):
    """Cox-de Boor on the grid of each feature: (N, C) -> (N, C, K)."""
    x = x.unsqueeze(-1)
    values = ((x >= grid[:, :-1]) & (x < grid[:, 1:])).to(x.dtype)
    for q in range(1, order + 1):
        left = (x - grid[:, : -q - 1]) / (grid[:, q:-1] - grid[:, : -q - 1])
        right = (grid[:, q + 1 :] - x) / (grid[:, q + 1 :] - grid[:, 1:-q])
        values = left * values[..., :-1] + right * values[..., 1:]
    return values
