"""Group rational with closed-form derivatives against its plain formula: `python -m benchmarks.rational`.

The plain formula is differentiated by autograd. GELU is the floor: what the activation of a plain transformer
costs on the same tensor. All are timed in turns, so that a busy machine slows all of them.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.conv import saved_bytes, spread, training_step
from kanvision.layers import RATIONAL_PRESETS, GroupRational
from kanvision.ops.rational import rational_reference


class PlainRational(GroupRational):
    """The same layer, differentiated by autograd."""

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate the plain formula."""
        return rational_reference(x, self.numerator, self.denominator, self.channel_dim)


def inference(module: nn.Module, x: Tensor) -> Callable[[], None]:
    """Forward without a graph."""

    @torch.no_grad()
    def step() -> None:
        module(x)
        if x.is_cuda:
            torch.cuda.synchronize()

    return step


def candidates(args: argparse.Namespace) -> dict[str, nn.Module]:
    """The layers to compare, by the name in the table."""
    width = args.shape[-1]
    layers: dict[str, nn.Module] = {
        "closed form": GroupRational(width, args.groups, args.init),
        "plain formula": PlainRational(width, args.groups, args.init),
        "gelu": nn.GELU(),
    }
    layers = {name: layer.to(args.device) for name, layer in layers.items()}
    if args.compile:
        layers["closed form, compiled"] = torch.compile(layers["closed form"])
        layers["plain formula, compiled"] = torch.compile(layers["plain formula"])
    return layers


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--shape", type=int, nargs="+", default=(8, 197, 768), help="the last is the channels"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--init", default="swish", choices=RATIONAL_PRESETS)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=30)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    x = torch.randn(*args.shape, device=args.device, dtype=getattr(torch, args.dtype), requires_grad=True)
    layers = candidates(args)
    steps = {name: (inference(layer, x), training_step(layer, x)) for name, layer in layers.items()}
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in layers}
    for repetition in range(args.warmup + args.repeats):
        for name, pair in steps.items():
            for step, record in zip(pair, times[name], strict=True):
                start = time.perf_counter()
                step()
                if repetition >= args.warmup:
                    record.append(1e3 * (time.perf_counter() - start))

    device = torch.cuda.get_device_name() if x.is_cuda else f"{platform.machine()}, {args.threads} threads"
    print(f"torch {torch.__version__}, {device}")
    print(f"{tuple(args.shape)} {args.dtype}, {args.groups} groups, {args.init}")
    print("milliseconds: median [quartiles]; kept for the backward pass: in sizes of x")
    print(f"{'':24} {'forward':>26} {'forward + backward':>26} {'kept':>6}")
    for name, layer in layers.items():
        forward, both = (spread(record) for record in times[name])
        kept = saved_bytes(layer, x) / (x.numel() * x.element_size())
        print(f"{name:24} {forward:>26} {both:>26} {kept:6.1f}")


if __name__ == "__main__":
    main()
