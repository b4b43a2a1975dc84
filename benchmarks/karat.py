"""Vision transformers with KArAt against the same ones with softmax: `python -m benchmarks.karat`.

Each line is a whole network. `softmax` has torch's scaled_dot_product_attention; `naive` evaluates every unit
by itself with its two published scales, as the paper's memory suggests that its code does; `gemm`,
`recompute` and `triton` are described at `kanvision.layers.KArAtOperator` and give the same numbers.

kept: what autograd keeps between forward and backward, each storage once, parameters not counted, in MiB and
relative to softmax. ms, images/s: medians of training steps (forward and backward), taken in turns; on a CPU
of processor time, all threads together, which other programs on the machine hardly change. peak: largest
allocation of a step beyond the network, on a GPU only.

    python -m benchmarks.karat --size base --batch 4 --skip-time             memory on a CPU
    python -m benchmarks.karat --size tiny --batch 64 --device cuda --dtype bfloat16 --share universal
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.conv import saved_bytes
from kanvision.models import choose_patch_size, create_model

IMPLEMENTATIONS = ("naive", "gemm", "recompute", "triton")
MIB = 2**20


class UnderAutocast(nn.Module):
    """A network in mixed precision, as a trainer runs it."""

    def __init__(self, network: nn.Module, device: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self.device = device
        self.dtype = dtype

    def _precision(self) -> AbstractContextManager[None]:
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device, dtype=self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        with self._precision():
            logits: Tensor = self.network(x)
        return logits


def network(kind: str, frequencies: int, args: argparse.Namespace) -> UnderAutocast:
    """The transformer with softmax, or with KArAt in one implementation; the same start for all of those."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"img_size": args.img_size, "patch_size": choose_patch_size(args.img_size)}
    if args.depth is not None:
        sizes["depth"] = args.depth
    if kind == "softmax":
        made = create_model(f"vit_{args.size}_patch16_224", **sizes)
    else:
        made = create_model(
            f"karat_{args.size}_patch16_224",
            share=args.share,
            rank=args.rank,
            basis_kwargs={"num_frequencies": frequencies},
            unit_scales=True,
            implementation=kind,
            **sizes,
        )
    return UnderAutocast(made.to(args.device), args.device, getattr(torch, args.dtype))


def training_step(module: nn.Module, x: Tensor) -> Callable[[], None]:
    """Forward and backward."""

    def step() -> None:
        module.zero_grad(set_to_none=True)
        module(x).float().square().mean().backward()
        if x.is_cuda:
            torch.cuda.synchronize()

    return step


def peak_bytes(step: Callable[[], None], x: Tensor) -> int:
    """Largest allocation of a step beyond what there is without it; 0 on a CPU."""
    if not x.is_cuda:
        return 0
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    return torch.cuda.max_memory_allocated() - before


def compare(frequencies: int, kinds: list[str], x: Tensor, args: argparse.Namespace) -> None:
    """Print the table for one number of frequencies."""
    modules = {kind: network(kind, frequencies, args) for kind in kinds}
    kept = {kind: saved_bytes(module, x) / MIB for kind, module in modules.items()}
    clock = time.perf_counter if x.is_cuda else time.process_time
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    peaks = dict.fromkeys(kinds, 0.0)
    if not args.skip_time:
        steps = {kind: training_step(module, x) for kind, module in modules.items()}
        for repetition in range(args.warmup + args.repeats):
            for kind, step in steps.items():
                start = clock()
                step()
                if repetition >= args.warmup:
                    times[kind].append(1e3 * (clock() - start))
        peaks = {kind: peak_bytes(step, x) / MIB for kind, step in steps.items()}
    letter = "B" if args.share == "blockwise" else "U"
    print(f"\nG{frequencies}{letter}, rank {args.rank}")
    heads = ("kept MiB", "/ softmax", "ms", "images/s", "/ softmax", "peak MiB")
    print(" " * 10 + "".join(f"{head:>10}" for head in heads))
    base = kinds[0]
    for kind in kinds:
        line = f"{kind:<10}{kept[kind]:>10.1f}{kept[kind] / kept[base]:>10.3f}"
        if times[kind]:
            ms, base_ms = statistics.median(times[kind]), statistics.median(times[base])
            line += f"{ms:>10.1f}{1e3 * x.shape[0] / ms:>10.2f}{base_ms / ms:>10.3f}{peaks[kind]:>10.1f}"
        print(line, flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="tiny", choices=("micro", "tiny", "small", "base"))
    parser.add_argument("--depth", type=int, help="blocks; the size's own unless given")
    parser.add_argument("--share", default="blockwise", choices=("blockwise", "universal"))
    parser.add_argument("--frequencies", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--rank", type=int, default=12)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--img-size", type=int, default=224)
    parser.add_argument("--only", nargs="+", choices=IMPLEMENTATIONS, help="implementations beside softmax")
    parser.add_argument("--skip-time", action="store_true", help="memory only")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    on_gpu = args.device.startswith("cuda")
    usual = ("gemm", "recompute", "triton") if on_gpu else ("naive", "gemm", "recompute")
    kinds = ["softmax", *(args.only or usual)]
    torch.set_num_threads(args.threads)
    x = torch.randn(args.batch, 3, args.img_size, args.img_size, device=args.device)
    machine = torch.cuda.get_device_name() if on_gpu else platform.machine()
    print(f"torch {torch.__version__}, {machine}, {args.threads} threads, {os.cpu_count()} cores", end=", ")
    print(f"load average {os.getloadavg()[0]:.1f} at the start")
    print(f"ViT-{args.size}, {args.batch} images of {args.img_size} pixels, {args.dtype}", end="")
    print("" if args.depth is None else f", {args.depth} blocks")
    for frequencies in args.frequencies:
        compare(frequencies, kinds, x, args)


if __name__ == "__main__":
    main()
