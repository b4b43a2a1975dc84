"""Training step of U-KAN against its layer by the recursion: `python -m benchmarks.ukan`.

Three networks with the same weights take their steps in turns, so that a busy machine slows all: ours; one
whose KAN layers are those of the published code, the recursion of Cox and de Boor on the knots of every
feature under plain autograd; and the MLP twin. "kept" is what autograd keeps between forward and backward,
parameters not counted. The recursion's temporaries are larger than caches, so that its price for an image
rises with the batch.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import statistics

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.conv import saved_bytes
from benchmarks.memory import in_turns
from kanvision.bases import BSplineBasis
from kanvision.layers import KANLinear
from kanvision.models import create_segmenter
from kanvision.models.ukan import SIZES


class RecursiveKANLinear(nn.Module):
    """The published layer: W_b SiLU(x) + sum_k B_k(x) (W_s s), with B_k by the recursion.

    Args:
        layer: Ours, whose parameters it shares.
    """

    def __init__(self, layer: KANLinear) -> None:
        super().__init__()
        assert isinstance(layer.basis, BSplineBasis)
        assert layer.edge_scale is not None
        self.degree = layer.basis.degree
        self.base_weight, self.spline_weight = layer.base_weight, layer.basis_weight
        self.spline_scaler = layer.edge_scale
        self.register_buffer("grid", layer.basis.knots.detach().repeat(layer.in_features, 1))  # (C, n + 1)

    def splines(self, x: Tensor) -> Tensor:
        """(N, C) -> (N, C, K)."""
        grid, x = self.grid, x.unsqueeze(-1)
        values = ((x >= grid[:, :-1]) & (x < grid[:, 1:])).to(x.dtype)
        for q in range(1, self.degree + 1):
            rise = (x - grid[:, : -(q + 1)]) / (grid[:, q:-1] - grid[:, : -(q + 1)])
            fall = (grid[:, q + 1 :] - x) / (grid[:, q + 1 :] - grid[:, 1:-q])
            values = rise * values[..., :-1] + fall * values[..., 1:]
        return values.contiguous()

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., O)."""
        tokens = x.reshape(-1, x.shape[-1])  # (N, C)
        outputs, inputs = self.spline_scaler.shape
        weight = self.spline_weight.view(outputs, inputs, -1) * self.spline_scaler.unsqueeze(-1)
        y = F.linear(F.silu(tokens), self.base_weight)
        y = y + F.linear(self.splines(tokens).flatten(1), weight.flatten(1))
        return y.view(*x.shape[:-1], outputs)


def competitors(size: str) -> dict[str, nn.Module]:
    """The three networks by name; all but the twin compute the same."""
    ours = create_segmenter(f"ukan_{size}", in_chans=3, num_classes=1).train()
    recursive = copy.deepcopy(ours)
    for parent in list(recursive.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, KANLinear):
                setattr(parent, name, RecursiveKANLinear(child))
    twin = create_segmenter(f"ukan_{size}", in_chans=3, num_classes=1, plain=True).train()
    return {"ours": ours, "recursion": recursive, "MLP twin": twin}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", default="medium", choices=list(SIZES))
    parser.add_argument("--img-size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--channels-last", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    networks = {name: module.to(args.device) for name, module in competitors(args.size).items()}
    x = torch.randn(args.batch, 3, args.img_size, args.img_size, device=args.device)
    if args.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
        networks = {name: module.to(memory_format=torch.channels_last) for name, module in networks.items()}
    machine = torch.cuda.get_device_name() if x.is_cuda else platform.processor() or platform.machine()
    print(f"torch {torch.__version__}, {args.device} ({machine}), {args.threads} threads")
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the start")
    print(f"ukan_{args.size}, {tuple(x.shape)}, fp32, training; per image: ms of forward + backward, median")
    times = in_turns(list(networks.values()), x, args.repeats, args.warmup)
    medians = {
        name: statistics.median(record) / args.batch for name, record in zip(networks, times, strict=True)
    }
    print(f"{'':<18}{'ms':>8}{'ours is faster by':>20}{'kept MiB':>10}")
    for name, module in networks.items():
        kept = saved_bytes(module, x) / args.batch / 2**20
        print(f"{name:<18}{medians[name]:>8.1f}{medians[name] / medians['ours']:>20.2f}{kept:>10.1f}")


if __name__ == "__main__":
    main()
