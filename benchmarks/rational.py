"""Group rational against its plain formula: `python -m benchmarks.rational`.

Three tables; in each of them everything is timed in turns, so that a busy machine slows all of it.

time: one activation, forward and backward, and what it keeps between the two. The plain formula is
    differentiated by autograd. GELU is the floor: what the activation of a plain transformer costs.
bandwidth: bytes that the activation must move (forward x and y; backward x, the gradient and its own) by the
    time that it takes, against a copy of the same tensor.
training: images a second of KAT and of the ViT of that size.

With no arguments: the first table on the CPU, the others on the GPU if there is one. The same code runs on a
CPU, for instance with `--device cpu --shape 2 17 64 --size micro --img-size 32 --batch 2`.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.conv import saved_bytes, spread, training_step
from kanvision.layers import RATIONAL_PRESETS, GroupRational
from kanvision.models import create_model
from kanvision.ops.rational import FORMS, rational_reference

TABLES = ("time", "bandwidth", "training")
_SLEEP = 20_000_000  # cycles of a GPU, about 10 ms


class PlainRational(GroupRational):
    """Group rational that autograd differentiates."""

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate the plain formula."""
        return rational_reference(x, self.numerator, self.denominator, self.channel_dim, self.form)


def inference(module: nn.Module, x: Tensor) -> Callable[[], None]:
    """Forward without a graph."""

    @torch.no_grad()
    def step() -> None:
        module(x)
        if x.is_cuda:
            torch.cuda.synchronize()

    return step


def candidates(args: argparse.Namespace, width: int) -> dict[str, nn.Module]:
    """The layers to compare, by the name in the table."""
    options = {"num_groups": args.num_groups, "init": args.init, "form": args.form}
    layers: dict[str, nn.Module] = {
        "ours": GroupRational(width, **options),
        "plain formula": PlainRational(width, **options),
        "gelu": nn.GELU(),
    }
    layers = {name: layer.to(args.device) for name, layer in layers.items()}
    if args.compile:
        layers["ours, compiled"] = torch.compile(layers["ours"], backend=args.backend)
        layers["plain, compiled"] = torch.compile(layers["plain formula"], backend=args.backend)
    return layers


def time_table(args: argparse.Namespace) -> None:
    """Print the first table."""
    shape = args.shape or (8, 197, 768)
    dtype = args.dtypes[0] if args.dtypes else "float32"
    x = torch.randn(*shape, device=args.device, dtype=getattr(torch, dtype), requires_grad=True)
    layers = candidates(args, shape[-1])
    steps = {name: (inference(layer, x), training_step(layer, x)) for name, layer in layers.items()}
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in layers}
    for repetition in range(args.warmup + args.repeats):
        for name, pair in steps.items():
            for step, record in zip(pair, times[name], strict=True):
                start = time.perf_counter()
                step()
                if repetition >= args.warmup:
                    record.append(1e3 * (time.perf_counter() - start))
    print(f"\n{tuple(shape)} {dtype}, {args.num_groups} groups, {args.init}, form {args.form}")
    print("milliseconds: median [quartiles]; kept for the backward pass: in sizes of x")
    print("speedup: how many times faster than the plain formula, forward + backward")
    print(f"{'':16} {'forward':>24} {'forward + backward':>26} {'speedup':>8} {'kept':>6}")
    plain = statistics.median(times["plain formula"][1])
    for name, layer in layers.items():
        forward, both = (spread(record) for record in times[name])
        speedup = plain / statistics.median(times[name][1])
        kept = saved_bytes(layer, x) / (x.numel() * x.element_size())
        print(f"{name:16} {forward:>24} {both:>26} {speedup:8.1f} {kept:6.1f}")


def lap_times(device: torch.device, laps: Sequence[Callable[[], object]]) -> list[float]:
    """Milliseconds of each lap, run one after the other.

    A GPU is kept busy until all of them are queued: what the host takes to start a kernel does not count.
    """
    if device.type != "cuda":
        marks = [time.perf_counter()]
        for lap in laps:
            lap()
            marks.append(time.perf_counter())
        return [1e3 * (end - start) for start, end in itertools.pairwise(marks)]
    events = [torch.cuda.Event(enable_timing=True) for _ in range(len(laps) + 1)]
    torch.cuda._sleep(_SLEEP)
    for event, lap in zip(events, (lambda: None, *laps), strict=True):
        lap()
        event.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in itertools.pairwise(events)]


def forward_and_backward(layer: nn.Module, x: Tensor, grad: Tensor) -> tuple[Callable[[], object], ...]:
    """The two halves of a training step, to be called in turns."""
    leaves = [x, *layer.parameters()]
    made: list[Tensor] = []
    return lambda: made.append(layer(x)), lambda: torch.autograd.grad(made.pop(), leaves, grad)


def bandwidth_table(args: argparse.Namespace) -> None:
    """Print the second table."""
    shape = args.shape or (1024, 197, 768)
    device = torch.device(args.device)
    print(f"\n{tuple(shape)}, {args.num_groups} groups, {args.init}, form {args.form}; medians")
    print("GB/s: forward of 2, backward of 3 tensors of that size, %: of the copy's")
    print(f"{'':10} {'':16} {'forward ms':>11} {'GB/s':>7} {'%':>4} {'backward ms':>12} {'GB/s':>7} {'%':>4}")
    for dtype in args.dtypes or ("bfloat16", "float32"):
        x = torch.randn(*shape, device=device, dtype=getattr(torch, dtype), requires_grad=True)
        grad, target = torch.randn_like(x), torch.empty_like(x)
        layers = candidates(args, shape[-1])
        del layers["plain formula"]  # fifteen tensors of that size, in the first table
        laps: dict[str, tuple[Callable[[], object], ...]] = {
            "copy": (lambda target=target, grad=grad: target.copy_(grad),),
            **{name: forward_and_backward(layer, x, grad) for name, layer in layers.items()},
        }
        times: dict[str, list[list[float]]] = {name: [[] for _ in pair] for name, pair in laps.items()}
        for repetition in range(args.warmup + args.repeats):
            for name, pair in laps.items():
                for record, lap in zip(times[name], lap_times(device, pair), strict=True):
                    if repetition >= args.warmup:
                        record.append(lap)
        gigabyte = x.numel() * x.element_size() / 1e9
        copied = 2 * gigabyte / (1e-3 * statistics.median(times["copy"][0]))
        for name, records in times.items():
            cells = []
            for tensors, width, record in zip((2, 3), (11, 12), records, strict=False):
                milliseconds = statistics.median(record)
                rate = tensors * gigabyte / (1e-3 * milliseconds)
                cells.append(f"{milliseconds:{width}.3f} {rate:7.1f} {100 * rate / copied:4.0f}")
            print(f"{dtype:10} {name:16} {' '.join(cells)}")


def networks(args: argparse.Namespace) -> dict[str, nn.Module]:
    """ViT, KAT, and with compilation KAT with the plain formula, and the first two compiled as a whole."""
    sizes = {"img_size": args.img_size} | ({"depth": args.depth} if args.depth else {})
    vit = create_model(f"vit_{args.size}_patch16_224", **sizes)
    kat, plain = (
        create_model(f"kat_{args.size}_patch16_224", attn_init="default", **sizes) for _ in range(2)
    )
    found = {"ViT": vit, "KAT": kat}
    if args.compile:
        for name, module in [*plain.named_modules()]:
            if isinstance(module, GroupRational):
                other = PlainRational(module.num_channels, module.num_groups, module.init)
                plain.set_submodule(name, torch.compile(other, backend=args.backend))
        found["KAT, plain formula compiled"] = plain
    found = {name: network.to(args.device).train() for name, network in found.items()}
    if args.compile:
        for name in ("ViT", "KAT"):
            found[f"{name}, all compiled"] = torch.compile(found[name], backend=args.backend)
    return found


def network_step(network: nn.Module, images: Tensor, labels: Tensor, dtype: str) -> Callable[[], None]:
    """A step of AdamW on one batch, under autocast."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=images.is_cuda)

    def step() -> None:
        with torch.autocast(images.device.type, getattr(torch, dtype), enabled=dtype != "float32"):
            loss = F.cross_entropy(network(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        if images.is_cuda:
            torch.cuda.synchronize()

    return step


def training_table(args: argparse.Namespace) -> None:
    """Print the third table."""
    dtype = args.dtypes[0] if args.dtypes else "bfloat16"
    images = torch.randn(args.batch, 3, args.img_size, args.img_size, device=args.device)
    labels = torch.arange(args.batch, device=args.device) % 1000
    steps = {name: network_step(net, images, labels, dtype) for name, net in networks(args).items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repetition in range(args.warmup + args.repeats):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if repetition >= args.warmup:
                times[name].append(time.perf_counter() - start)
    print(f"\n{args.size}, {args.img_size} pixels, batch {args.batch}, {dtype}, AdamW; medians")
    print(f"{'':28} {'images/s':>9} {'of ViT':>7}")
    vit = statistics.median(times["ViT"])
    for name, record in times.items():
        seconds = statistics.median(record)
        print(f"{name:28} {args.batch / seconds:9.1f} {vit / seconds:7.3f}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", nargs="+", choices=TABLES, help="all that --device can show")
    parser.add_argument("--device", help="of all tables; each has its own if not given")
    parser.add_argument(
        "--shape", type=int, nargs="+", help="the last is the channels; each table has its own"
    )
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--num-groups", type=int, default=8)
    parser.add_argument("--init", default="swish", choices=RATIONAL_PRESETS)
    parser.add_argument("--form", default="kernel", choices=FORMS)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument("--size", default="base", help="of KAT and ViT")
    parser.add_argument("--depth", type=int, help="blocks, if not those of that size")
    parser.add_argument("--img-size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=30)
    return parser


def main(words: Sequence[str] | None = None) -> None:
    """Print the tables."""
    args = _parser().parse_args(words)
    has_gpu = torch.cuda.is_available()
    devices: dict[str, Any] = {"time": "cpu", "bandwidth": "cuda", "training": "cuda"}
    if args.device:
        devices = dict.fromkeys(TABLES, args.device)
    wanted = args.tables or [name for name, device in devices.items() if has_gpu or device != "cuda"]
    torch.set_num_threads(args.threads)
    card = f", {torch.cuda.get_device_name()}" if has_gpu else ""
    print(f"torch {torch.__version__}, {platform.machine()}, {args.threads} threads{card}")
    for name, table in zip(TABLES, (time_table, bandwidth_table, training_table), strict=True):
        if name in wanted:
            torch.manual_seed(0)
            args.device = devices[name]
            table(args)
    if len(wanted) < len(TABLES) and not args.tables:
        print("\nNo GPU: tables of bandwidth and training left out; with --device cpu they run here.")


if __name__ == "__main__":
    main()
