"""Noisy top-k gate for mixtures of experts. Shapes: B batch, C channels, E experts, k chosen experts."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kanvision.expansion.autocast import without_autocast

from .auxiliary_loss import add_auxiliary

__all__ = ["Routing", "TopKGate"]

_MIN_NOISE = 1e-2
_EPS = 1e-10


class Routing(NamedTuple):
    """Assignment of experts to samples."""

    gates: Tensor
    """Weights of the experts (B, E): k of them positive with sum 1 in each row, the others 0."""
    indices: Tensor
    """Chosen experts (B, k), in descending order of their weights."""
    values: Tensor
    """Weights of the chosen experts, (B, k)."""


class TopKGate(nn.Module):
    """Gate that chooses k of E experts for each sample, g = softmax over the k largest logits q W_gate.

    Shazeer et al. 2017, "Outrageously Large Neural Networks" (arXiv 1701.06538). With `noisy` the logits have
    noise in training, H = q W_gate + e s, s = softplus(q W_noise) + 0.01, e ~ N(0, 1), so that each expert is
    tried. All weights start at zero, so all experts are equally likely.

    In training, loss_coef (CV(importance)^2 + CV(load)^2) goes to `kanvision.layers.auxiliary_loss`, where CV
    is the coefficient of variation over the experts, importance the sum of the gates over the batch, and load
    a smooth count of the samples that choose an expert:

        load_i = sum_b Phi((q_b W_gate - t)_i / s_bi),  t = k-th largest of the other noisy logits of sample b

    with clean logits, threshold and noise all in the space of logits (published KAN code compares logits with
    thresholds after a softmax). Without noise, or if all experts are chosen, the load is the plain count,
    which has no gradient.

    Shapes depend only on the shape of the input, and nothing waits for the device. Logits are at least
    float32.

    Args:
        channels: Size of the input q, C.
        num_experts: Number of experts, E.
        k: Number of experts for each sample.
        noisy: Add noise to the logits in training; False omits W_noise.
        loss_coef: Factor of the penalty; 0 for none.
        device: Device of the parameters.
        dtype: Data type of the parameters.

    Raises:
        ValueError: A number is out of range.
    """

    w_noise: nn.Parameter | None

    def __init__(
        self,
        channels: int,
        num_experts: int,
        k: int,
        *,
        noisy: bool = True,
        loss_coef: float = 1e-2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for key, value in (("channels", channels), ("num_experts", num_experts)):
            if value < 1:
                raise ValueError(f"{key}={value} must be at least 1")
        if not 1 <= k <= num_experts:
            raise ValueError(f"k={k} must be between 1 and num_experts={num_experts}")
        if loss_coef < 0:
            raise ValueError(f"loss_coef={loss_coef} must not be negative")
        self.channels = channels
        self.num_experts = num_experts
        self.k = k
        self.loss_coef = loss_coef
        self.w_gate = nn.Parameter(torch.empty(channels, num_experts, device=device, dtype=dtype))
        self.register_parameter("w_noise", nn.Parameter(torch.empty_like(self.w_gate)) if noisy else None)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set all weights to zero."""
        self.w_gate.zero_()
        if self.w_noise is not None:
            self.w_noise.zero_()

    def forward(self, q: Tensor) -> Routing:
        """Map (B, C) to a `Routing`.

        Raises:
            ValueError: if `q` is not (B, C).
        """
        if q.ndim != 2 or q.shape[1] != self.channels:
            raise ValueError(f"TopKGate takes (B, {self.channels}), got an input of shape {tuple(q.shape)}")
        with without_autocast(q.device.type):
            exact = q if q.dtype == torch.float64 else q.float()
            clean = exact @ self.w_gate.to(exact.dtype)  # (B, E)
            logits, spread = clean, None
            if self.w_noise is not None and self.training:
                spread = F.softplus(exact @ self.w_noise.to(exact.dtype)) + _MIN_NOISE
                logits = clean + torch.randn_like(clean) * spread
            top, order = logits.topk(min(self.k + 1, self.num_experts), dim=1)
            indices = order[:, : self.k]
            values = top[:, : self.k].softmax(1)
            gates = torch.zeros_like(logits).scatter(1, indices, values)
            if self.training and self.loss_coef:
                load = (
                    (gates > 0).to(gates.dtype) if spread is None else self._load(clean, logits, spread, top)
                )
                add_auxiliary(self.loss_coef * (_imbalance(gates.sum(0)) + _imbalance(load.sum(0))))
        return Routing(gates, indices, values)

    def _load(self, clean: Tensor, logits: Tensor, spread: Tensor, top: Tensor) -> Tensor:
        """Return the probability (B, E) that an expert is chosen if only its own noise is drawn again."""
        if self.k == self.num_experts:
            return torch.ones_like(clean)
        chosen_at, left_at = top[:, self.k - 1 : self.k], top[:, self.k :]  # (B, 1) each
        # An expert that is chosen must beat the best one that is not, the others the weakest chosen one.
        threshold = torch.where(logits > left_at, left_at, chosen_at)
        probability: Tensor = torch.special.ndtr((clean - threshold) / spread)
        return probability

    def extra_repr(self) -> str:
        """Return the sizes for `repr`."""
        return (
            f"{self.channels}, num_experts={self.num_experts}, k={self.k}, noisy={self.w_noise is not None}, "
            f"loss_coef={self.loss_coef}"
        )


def _imbalance(total: Tensor) -> Tensor:
    """Return the squared coefficient of variation of (E,) totals."""
    if total.shape[0] == 1:
        return total.new_zeros(())
    return total.var() / (total.mean().square() + _EPS)
