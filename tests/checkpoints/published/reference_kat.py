"""Random weights as the authors of KAT and FlashKAT publish them, and their forward pass in plain tensors."""

import torch
from torch import Tensor

NAMES = {"kat": ("weight_numerator", "weight_denominator"), "flashkat": ("numerator_v", "denominator_v")}


def random_kat(
    source: str = "kat",
    width: int = 48,
    depth: int = 2,
    image: int = 32,
    patch: int = 8,
    classes: int = 7,
    rows: tuple[int, int] = (1, 8),
) -> dict[str, Tensor]:
    """Tensors of float64 with denominators of both signs; `rows` are those of numerators and denominators."""

    def normal(*shape: int, std: float) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64) * std

    def linear(name: str, fan_in: int, fan_out: int) -> dict[str, Tensor]:
        weight = normal(fan_out, fan_in, std=fan_in**-0.5)
        return {f"{name}.weight": weight, f"{name}.bias": normal(fan_out, std=0.1)}

    def norm(name: str) -> dict[str, Tensor]:
        return {f"{name}.weight": 1 + normal(width, std=0.1), f"{name}.bias": normal(width, std=0.1)}

    tokens = (image // patch) ** 2 + 1
    state = {
        "cls_token": normal(1, 1, width, std=0.5),
        "pos_embed": normal(1, tokens, width, std=0.5),
        "patch_embed.proj.weight": normal(width, 3, patch, patch, std=(3 * patch * patch) ** -0.5),
        "patch_embed.proj.bias": normal(width, std=0.1),
        **norm("norm"),
        **linear("head", width, classes),
    }
    for i in range(depth):
        block = f"blocks.{i}."
        state |= norm(f"{block}norm1") | norm(f"{block}norm2")
        state |= linear(f"{block}attn.qkv", width, 3 * width) | linear(f"{block}attn.proj", width, width)
        state |= linear(f"{block}mlp.fc1", width, 4 * width) | linear(f"{block}mlp.fc2", 4 * width, width)
        for act in ("act1", "act2"):
            start = torch.tensor([0.0, 1.0, 0.2, 0.1, 0.02, 0.01], dtype=torch.float64)
            numerator, denominator = NAMES[source]
            state[f"{block}mlp.{act}.{numerator}"] = start + normal(rows[0], 6, std=0.1)
            state[f"{block}mlp.{act}.{denominator}"] = normal(rows[1], 4, std=0.3)
    return state


def forward(state: dict[str, Tensor], image: Tensor, num_heads: int, source: str = "kat") -> Tensor:
    """(B, 3, H, W) -> (B, classes), term by term: pre-norm blocks of attention and of two rational layers."""

    def norm(name: str, x: Tensor) -> Tensor:
        centered = x - x.mean(-1, keepdim=True)
        scaled = centered / (centered.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def rational(name: str, x: Tensor) -> Tensor:
        a, b = (state[f"{name}.{end}"] for end in NAMES[source])
        per_group = x.unflatten(-1, (max(len(a), len(b)), -1))  # (B, N, G, D / G)
        p = sum(a[:, i, None] * per_group**i for i in range(6))
        q = 1 + sum(b[:, j, None].abs() * per_group.abs() ** (j + 1) for j in range(4))
        return (p / q).flatten(-2)

    weight = state["patch_embed.proj.weight"]
    side = weight.shape[-1]
    cut = image.unfold(2, side, side).unfold(3, side, side)  # (B, 3, rows, columns, side, side)
    x = torch.einsum("bcyxij,dcij->byxd", cut, weight).flatten(1, 2) + state["patch_embed.proj.bias"]
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x], dim=1) + state["pos_embed"]
    depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    for i in range(depth):
        block = f"blocks.{i}."
        query, key, value = (
            part.unflatten(-1, (num_heads, -1)).transpose(1, 2)  # (B, heads, N, head_dim)
            for part in linear(f"{block}attn.qkv", norm(f"{block}norm1", x)).chunk(3, dim=-1)
        )
        scores = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
        x = x + linear(f"{block}attn.proj", (scores @ value).transpose(1, 2).flatten(2))
        y = linear(f"{block}mlp.fc1", rational(f"{block}mlp.act1", norm(f"{block}norm2", x)))
        x = x + linear(f"{block}mlp.fc2", rational(f"{block}mlp.act2", y))
    return linear("head", norm("norm", x)[:, 0])
