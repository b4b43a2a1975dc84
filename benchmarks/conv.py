"""Training step of KAN convolutions against plain ones on as many channels: `python -m benchmarks.conv`.

A KAN convolution is a basis expansion and one convolution of the expanded maps, so the fair yardstick is a
plain convolution whose input already has that many channels, with the same norm and activation behind it. The
ratio of the two medians is the price of the expansion. The two are timed in turns, so that a busy machine
slows both.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kanvision.layers import PRESETS, KANConv2d, get_preset

_DEFAULT = ("bspline", "gram", "kan", "kagn")
_BLOCK: dict[str, Any] = {"norm": "batch", "act": "silu"}


class Row(NamedTuple):
    """One line of the table; times in milliseconds."""

    name: str
    num_channels: int
    kan: list[float]
    plain: list[float]
    kan_saved: float
    plain_saved: float


def build(name: str, in_channels: int, out_channels: int, checkpoint: bool) -> KANConv2d:
    """A 3x3 layer from the name of a preset, or of a basis (then with batch norm and SiLU)."""
    options = get_preset(name) if name in PRESETS else {"basis": name, **_BLOCK}
    return KANConv2d(in_channels, out_channels, 3, padding=1, checkpoint=checkpoint, **options)


def plain_counterpart(layer: KANConv2d, with_base: bool) -> tuple[int, nn.Sequential]:
    """Expanded channels of `layer`, and a plain convolution on as many, with the same norm and activation."""
    expanded = layer.in_channels * (layer.basis.num_basis + (with_base and layer.base_act is not None))
    conv = nn.Conv2d(expanded, layer.out_channels, 3, padding=1, bias=False)
    return expanded, nn.Sequential(conv, copy.deepcopy(layer.norm), copy.deepcopy(layer.act))


def training_step(module: nn.Module, x: Tensor) -> Callable[[], None]:
    """Forward and backward with a fixed gradient; the input requires one, as inside a net."""
    with torch.no_grad():
        grad = torch.randn_like(module(x))

    def step() -> None:
        module(x).backward(grad)
        if x.is_cuda:
            torch.cuda.synchronize()

    return step


def saved_bytes(module: nn.Module, x: Tensor) -> int:
    """Bytes that autograd keeps between forward and backward, parameters not counted."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    storages: dict[int, int] = {}
    kept: list[Tensor] = []  # alive, so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(x)
    return sum(storages.values())


def measure(name: str, args: argparse.Namespace) -> Row:
    """Time one layer and its counterpart in turns."""
    torch.manual_seed(0)
    shape = (args.batch, args.channels, args.size, args.size)
    layer = build(name, args.channels, args.channels, args.checkpoint).to(args.device)
    expanded, plain = plain_counterpart(layer, args.with_base)
    x = torch.randn(shape, device=args.device)
    maps = torch.randn(args.batch, expanded, args.size, args.size, device=args.device)
    if args.channels_last:
        x, maps = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, maps))
    x.requires_grad_()
    maps.requires_grad_()
    plain = plain.to(args.device)
    steps = (training_step(layer, x), training_step(plain, maps))
    times: tuple[list[float], list[float]] = ([], [])
    for repetition in range(args.warmup + args.repeats):
        for step, record in zip(steps, times, strict=True):
            start = time.perf_counter()
            step()
            if repetition >= args.warmup:
                record.append(1e3 * (time.perf_counter() - start))
    unit = x.numel() * x.element_size()
    return Row(name, expanded, *times, saved_bytes(layer, x) / unit, saved_bytes(plain, maps) / unit)


def spread(times: list[float]) -> str:
    """Median with quartiles."""
    low, middle, high = statistics.quantiles(times, n=4)
    return f"{middle:7.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=_DEFAULT, help="bases or presets")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--checkpoint", action="store_true", help="recompute basis and convolution")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument(
        "--with-base",
        action="store_true",
        help="count the base branch among the channels of the plain convolution",
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    machine = (
        torch.cuda.get_device_name()
        if args.device.startswith("cuda")
        else platform.processor() or platform.machine()
    )
    print(f"torch {torch.__version__}, {args.device} ({machine}), {args.threads} threads")
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the start")
    shape = (args.batch, args.channels, args.size, args.size)
    print(f"{shape} -> {args.channels}, 3x3, forward + backward, ms: median [quartiles]")
    print("ratio: of the medians; best: of the fastest steps, which a busy machine moves less")
    print("saved: bytes kept for backward over bytes of the input (B, C, H, W)")
    heads = f"{'layer':<12}{'channels':>9}  {'KAN':<26}{'plain':<26}"
    print(f"{heads}{'ratio':>6}{'best':>6}{'saved':>8}{'plain':>7}")
    for name in args.names:
        row = measure(name, args)
        ratio = statistics.median(row.kan) / statistics.median(row.plain)
        best = min(row.kan) / min(row.plain)
        print(
            f"{row.name:<12}{row.num_channels:>9}  {spread(row.kan):<26}{spread(row.plain):<26}"
            f"{ratio:>6.2f}{best:>6.2f}{row.kan_saved:>8.1f}{row.plain_saved:>7.1f}"
        )


if __name__ == "__main__":
    main()
