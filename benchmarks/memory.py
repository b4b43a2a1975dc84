"""Memory of KAN convolutions for the backward pass, and its cost in time: `python -m benchmarks.memory`.

Every tensor that autograd saves is counted once by its storage, in sizes of the input of the layer, which is
one of them; parameters and buffers are not counted. The maps of the basis are never kept. `full` is the
default; `lean` (`checkpoint=True`) also computes norm and activation again in the backward pass. The
first table has the convolution over each basis, the second the published layers with norms and activations;
`conv` is the layer that they replace, Conv2d + BatchNorm2d + SiLU. Training steps of all three are timed in
turns, so that the load of the machine affects all.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.conv import saved_bytes, training_step
from kanvision.bases import BASES
from kanvision.layers import PRESETS, KANConv2d, get_preset


class Row(NamedTuple):
    """Saved memory of one layer in both modes, and the milliseconds of each step of (lean, full, conv)."""

    name: str
    num_basis: int
    lean: float
    full: float
    times: tuple[list[float], list[float], list[float]]


def layer(name: str, channels: int, checkpoint: bool) -> KANConv2d:
    """Build a 3x3 layer from the name of a preset, or a convolution without norm from that of a basis."""
    options: dict[str, Any] = get_preset(name) if name in PRESETS else {"basis": name}
    return KANConv2d(channels, channels, 3, padding=1, checkpoint=checkpoint, **options)


def plain(channels: int) -> nn.Sequential:
    """Build the layer that a KAN layer replaces."""
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.SiLU())


def kept(module: nn.Module, x: Tensor) -> float:
    """Bytes that a training step of `module` keeps, over the bytes of its input."""
    return saved_bytes(module.train(), x) / (x.numel() * x.element_size())


def in_turns(modules: Sequence[nn.Module], x: Tensor, repeats: int, warmup: int) -> list[list[float]]:
    """Milliseconds of forward and backward of each module, taken in turns."""
    steps = [training_step(module, x) for module in modules]
    times: list[list[float]] = [[] for _ in steps]
    for repetition in range(warmup + repeats):
        for step, record in zip(steps, times, strict=True):
            start = time.perf_counter()
            step()
            if repetition >= warmup:
                record.append(1e3 * (time.perf_counter() - start))
    return times


def measure(name: str, x: Tensor, repeats: int, warmup: int) -> Row:
    """Both modes of one layer."""
    channels = x.shape[1]
    torch.manual_seed(0)
    lean = layer(name, channels, checkpoint=True).to(x.device)
    full = layer(name, channels, checkpoint=False).to(x.device)
    full.load_state_dict(lean.state_dict())
    modules: list[nn.Module] = [lean, full, plain(channels).to(x.device)]
    if x.is_contiguous(memory_format=torch.channels_last):
        modules = [module.to(memory_format=torch.channels_last) for module in modules]
    times = in_turns(modules, x, repeats, warmup)
    return Row(name, lean.basis.num_basis, kept(lean, x), kept(full, x), (times[0], times[1], times[2]))


def _print(title: str, names: Sequence[str], x: Tensor, args: argparse.Namespace) -> None:
    print(f"\n{title}")
    heads = f"{'':<14}{'K':>3}{'kept lean':>11}{'full':>7}   {'ms lean':>8}{'full':>8}{'conv':>8}"
    print(f"{heads}   {'lean/full':>9}{'lean/conv':>10}")
    for name in names:
        row = measure(name, x, args.repeats, args.warmup)
        lean, full, conv = map(statistics.median, row.times)
        print(
            f"{row.name:<14}{row.num_basis:>3}{row.lean:>11.2f}{row.full:>7.2f}   "
            f"{lean:>8.2f}{full:>8.2f}{conv:>8.2f}   {lean / full:>9.2f}{lean / conv:>10.2f}"
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="bases or presets; all of them without a name")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--channels-last", action="store_true")
    args = parser.parse_args()
    legal = [*BASES, *PRESETS]
    if unknown := [name for name in args.names if name not in legal]:
        parser.error(f"unknown: {', '.join(unknown)}; legal: {', '.join(legal)}")
    torch.set_num_threads(args.threads)
    shape = (args.batch, args.channels, args.size, args.size)
    x = torch.randn(shape, device=args.device)
    if args.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    machine = torch.cuda.get_device_name() if x.is_cuda else platform.processor() or platform.machine()
    print(f"torch {torch.__version__}, {args.device} ({machine}), {args.threads} threads")
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the start")
    print(f"{shape} -> {args.channels}, 3x3, fp32, training; Conv2d + BatchNorm2d + SiLU keeps", end=" ")
    print(f"{kept(plain(args.channels).to(x.device), x):.2f}")
    print("kept: bytes over those of the input; ms: medians of forward + backward")
    wanted = args.names or legal
    for title, names in (
        ("bare convolution (base branch and basis, no norm, no activation)", BASES),
        ("published layers", PRESETS),
    ):
        if chosen := [name for name in names if name in wanted]:
            _print(title, chosen, x, args)


if __name__ == "__main__":
    main()
