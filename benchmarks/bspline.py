"""Cost of the ways to compute the same B-splines: `python -m benchmarks.bspline`.

Every row is one evaluation of `BSplineBasis` at one grid: milliseconds of a forward pass without gradients,
milliseconds of forward and backward with a fixed gradient of the maps, and the bytes that autograd keeps
between the two for each element of the input. The evaluations of a grid are timed in turns, so that a busy
machine slows them all. `plain` is the recursion of Cox and de Boor under plain autograd, as most published
code has it; all others recompute their values in the backward pass.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.conv import saved_bytes, spread
from kanvision.bases import BSplineBasis
from kanvision.expansion.define import evaluate
from kanvision.ops.bspline import EVALUATIONS, define_bspline, legal_evaluations

_GRIDS = ("5,3", "16,3", "5,5", "40,3", "5,10")


class PlainCoxDeBoor(nn.Module):
    """The recursion, differentiated step by step."""

    def __init__(self, basis: BSplineBasis) -> None:
        super().__init__()
        self.basis = basis

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C, K)."""
        knots = self.basis.knots
        definition = define_bspline(len(knots), self.basis.degree, uniform=False)
        return evaluate(definition, x, (knots,), x.ndim, x.ndim - 1)


def competitors(grid_size: int, degree: int, low: float, high: float) -> dict[str, nn.Module]:
    """Every legal evaluation of one B-spline basis by name, and the plain recursion."""
    found: dict[str, nn.Module] = {}
    for name in EVALUATIONS:
        if name != "auto" and name in legal_evaluations(degree, uniform=True):
            found[name] = BSplineBasis(grid_size, degree, (low, high), evaluation=name)
    found["plain"] = PlainCoxDeBoor(BSplineBasis(grid_size, degree, (low, high)))
    return found


def forward_step(module: nn.Module, x: Tensor) -> Callable[[], None]:
    """A forward pass as in evaluation."""

    @torch.no_grad()
    def step() -> None:
        module(x)
        if x.is_cuda:
            torch.cuda.synchronize()

    return step


def training_step(module: nn.Module, x: Tensor, grad: Tensor) -> Callable[[], None]:
    """A forward and a backward pass for the gradient of the input."""

    def step() -> None:
        x.grad = None
        module(x).backward(grad)
        if x.is_cuda:
            torch.cuda.synchronize()

    return step


def time_in_turns(steps: dict[str, Callable[[], None]], warmup: int, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each step, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repetition in range(warmup + repeats):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if repetition >= warmup:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("grids", nargs="*", default=_GRIDS, help="cells and degree, such as 5,3")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--warmup", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    machine = (
        torch.cuda.get_device_name()
        if args.device.startswith("cuda")
        else platform.processor() or platform.machine()
    )
    print(f"torch {torch.__version__}, {args.device} ({machine}), {args.threads} threads")
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the start")
    print(f"({args.rows}, {args.channels}) normal inputs on (-2, 2), float32, ms: median [quartiles]")
    print("saved: bytes kept for backward per element of the input")
    print(f"{'G, k':<8}{'evaluation':<13}{'forward':<26}{'forward + backward':<26}{'ratio':>6}{'saved':>8}")
    for grid in args.grids:
        grid_size, degree = (int(number) for number in grid.split(","))
        torch.manual_seed(0)
        modules = {
            name: module.to(args.device) for name, module in competitors(grid_size, degree, -2.0, 2.0).items()
        }
        x = torch.randn(args.rows, args.channels, device=args.device).requires_grad_()
        grad = torch.randn(args.rows, args.channels, grid_size + degree, device=args.device)
        forward = time_in_turns(
            {name: forward_step(module, x) for name, module in modules.items()}, args.warmup, args.repeats
        )
        training = time_in_turns(
            {name: training_step(module, x, grad) for name, module in modules.items()},
            args.warmup,
            args.repeats,
        )
        quickest = min(statistics.median(times) for times in training.values())
        for name, module in modules.items():
            saved = saved_bytes(module, x) / x.numel()
            ratio = statistics.median(training[name]) / quickest
            print(
                f"{f'{grid_size}, {degree}':<8}{name:<13}{spread(forward[name]):<26}"
                f"{spread(training[name]):<26}{ratio:>6.2f}{saved:>8.1f}"
            )


if __name__ == "__main__":
    main()
