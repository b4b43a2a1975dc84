"""Recurrence of selective state spaces, in chunks of tokens.

Gu and Dao 2023, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (arXiv 2312.00752).

Shapes: B batch, N tokens, D width, S states of a feature.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kanvision.expansion.autocast import without_autocast

__all__ = ["selective_scan"]


def selective_scan(
    x: Tensor, step: Tensor, decay: Tensor, write: Tensor, read: Tensor, *, chunk_size: int = 64
) -> Tensor:
    """Return y_n = h_n c_n with h_n = exp(s_n a) h_(n-1) + s_n x_n b_n and h_0 = 0, for each feature.

    The tokens of a chunk are computed in parallel by doubling: log2(chunk_size) passes compose the maps h ->
    p h + q of neighboring segments, where p is a product of numbers in (0, 1], so that nothing overflows.
    Chunks are computed in sequence. If there are several, the backward pass recomputes each of them: only the
    S states of a feature at the ends of chunks are saved, not those of every token. Computed in float32 or
    float64.

    Args:
        x: Inputs of the states, (B, N, D).
        step: Step s > 0 of each token, (B, N, D).
        decay: Decay rate a < 0 of each state, (D, S).
        write: Input weight b of each state, (B, N, S).
        read: Output weight c of each state, (B, N, S).
        chunk_size: Number of tokens of a chunk.

    Returns:
        Outputs (B, N, D) in the dtype of x.

    Raises:
        ValueError: A chunk has no token.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size={chunk_size} must be at least 1")
    exact = torch.float64 if x.dtype == torch.float64 else torch.float32
    fed, step, decay, write, read = (tensor.to(exact) for tensor in (x, step, decay, write, read))
    state = fed.new_zeros(len(fed), *decay.shape)  # (B, D, S)
    parts = list(
        zip(*(torch.split(tensor, chunk_size, dim=1) for tensor in (fed, step, write, read)), strict=True)
    )
    outputs = []
    with without_autocast(x.device.type):
        for part in parts:
            arguments = (state, decay, *part)
            if len(parts) > 1 and torch.is_grad_enabled():
                y, state = checkpoint(_chunk, *arguments, use_reentrant=False, preserve_rng_state=False)
            else:
                y, state = _chunk(*arguments)
            outputs.append(y)
    return torch.cat(outputs, dim=1).to(x.dtype)


def _chunk(
    state: Tensor, decay: Tensor, x: Tensor, step: Tensor, write: Tensor, read: Tensor
) -> tuple[Tensor, Tensor]:
    """Return outputs (B, N, D) of some tokens and the next state, from the state (B, D, S) before them."""
    kept = (step.unsqueeze(-1) * decay).exp()  # (B, N, D, S)
    states = (step * x).unsqueeze(-1) * write.unsqueeze(2)  # (B, N, D, S)
    first = torch.addcmul(states[:, :1], kept[:, :1], state.unsqueeze(1))
    states = torch.cat([first, states[:, 1:]], dim=1)
    span, count = 1, states.shape[1]
    while span < count:  # each entry is joined with the stretch of `span` tokens that ends before its own
        joined = torch.addcmul(states[:, span:], kept[:, span:], states[:, :-span])
        kept = torch.cat([kept[:, :span], kept[:, span:] * kept[:, :-span]], dim=1)
        states = torch.cat([states[:, :span], joined], dim=1)
        span *= 2
    return torch.einsum("bnds,bns->bnd", states, read), states[:, -1]
