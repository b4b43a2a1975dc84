"""Mamba: a gated mixer of tokens with a selective state space.

Gu and Dao 2023, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (arXiv 2312.00752).

Shapes: B batch, N tokens, C features of a token, D inner width, S states, R rank of the steps.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kanvision.ops.selective_scan import selective_scan

__all__ = ["Mamba"]

_STEPS = (1e-3, 1e-1)
"""Range of the initial steps, which are uniform in the logarithm."""
_TOKENS_PER_RANK = 16


class Mamba(nn.Module):
    """Mixer (x, z) = in(u); x = SiLU(causal depthwise convolution of x); y = out((scan(x) + d x) SiLU(z)).

    Steps s = softplus(W x + w), with W of low rank, and the vectors b and c of `selective_scan` are linear
    in x. The initial decay rates of the states are 1 to S.

    Args:
        width: Number of features, C.
        num_states: Number of states of an inner feature, S.
        kernel_size: Kernel size of the convolution over tokens.
        expansion: Number of inner features divided by C.
    """

    def __init__(self, width: int, *, num_states: int = 16, kernel_size: int = 4, expansion: int = 2) -> None:
        super().__init__()
        inner = expansion * width
        self.rank = math.ceil(width / _TOKENS_PER_RANK)
        self.num_states = num_states
        self.expand = nn.Linear(width, 2 * inner, bias=False)
        self.conv = nn.Conv1d(inner, inner, kernel_size, groups=inner, padding=kernel_size - 1)
        self.select = nn.Linear(inner, self.rank + 2 * num_states, bias=False)
        self.step = nn.Linear(self.rank, inner)
        self.decay_log = nn.Parameter(torch.empty(inner, num_states))
        self.skip = nn.Parameter(torch.empty(inner))
        self.contract = nn.Linear(inner, width, bias=False)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialize the state space; the linear maps and the convolution are initialized by torch."""
        nn.init.uniform_(self.step.weight, -(self.rank**-0.5), self.rank**-0.5)
        low, high = (math.log(step) for step in _STEPS)
        steps = torch.empty_like(self.step.bias).uniform_(low, high).exp()
        self.step.bias.copy_(steps + (-torch.expm1(-steps)).log())  # the inverse of softplus
        rates = torch.arange(1, self.num_states + 1, device=self.decay_log.device)
        self.decay_log.copy_(rates.log().expand_as(self.decay_log))
        nn.init.ones_(self.skip)

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters that weight decay would distort (timm's protocol)."""
        return {"decay_log", "skip"}

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, C) to (B, N, C); the output of a token depends on it and on earlier tokens."""
        fed, gate = self.expand(x).chunk(2, dim=-1)  # (B, N, D) each
        fed = F.silu(self.conv(fed.mT)[..., : x.shape[1]].mT)
        step, write, read = self.select(fed).split([self.rank, *[self.num_states] * 2], dim=-1)
        step = F.softplus(self.step(step))  # (B, N, D)
        y = selective_scan(fed, step, -self.decay_log.exp(), write, read)
        out: Tensor = self.contract((y + self.skip * fed) * F.silu(gate))
        return out
