"""Layers and networks beside their limits and twins, in one table: `python -m benchmarks`.

Each row is one contender of a case (`benchmarks/cases.py` describes them): training step (forward and
backward) and forward pass as in evaluation, in milliseconds of processor time of all threads and of wall
time; what autograd keeps between the two passes, the most memory that a step has, and the first step of all.
Contenders take their turns in one process, so that a busy machine slows all; ratios then hold, times do not.
`kanvision / this` below 1 means that kanvision is faster. Each finished case is written to the files at once.

    python -m benchmarks --only 'KANConv2d gram*' ukan      cases by pattern or by a part of their label
    python -m benchmarks --quick                            small cases, in half a minute
    python -m benchmarks --only kat --variants bfloat16     ours in bfloat16 as well
    python -m benchmarks --list                             labels of all cases
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

from kanvision.layers import fuse_norms

from .cases import Case, list_cases
from .measure import Clocks, Contender, measure
from .table import RATIOS, describe_run, list_rows, write_table

__all__ = ["add_common_arguments", "main", "run", "run_cases", "select"]

VARIANTS = ("compiled", "bfloat16", "fused")


def select(cases: Sequence[Case], patterns: Sequence[str]) -> list[Case]:
    """Return the cases whose label fits a pattern or has it as a part.

    Raises:
        ValueError: A pattern fits no case.
    """

    def fits(case: Case, pattern: str) -> bool:
        label, pattern = case.label.lower(), pattern.lower()
        return pattern in label or fnmatch(label, pattern)

    for pattern in patterns:
        if not any(fits(case, pattern) for case in cases):
            labels = ", ".join(case.label for case in cases)
            raise ValueError(f"--only {pattern!r} fits no case; cases: {labels}")
    return [case for case in cases if not patterns or any(fits(case, pattern) for pattern in patterns)]


def run_cases(cases: Sequence[Case], args: argparse.Namespace, device: str) -> list[dict[str, Any]]:
    """Measure cases, and write the table after each of them."""
    is_cuda = device.startswith("cuda")
    threads = torch.get_num_threads()
    facts = describe_run(device=device, threads=threads, autocast=args.autocast, repeats=args.repeats)
    facts["ratios of"] = "wall time" if is_cuda else "processor time"
    print(*(f"{key}: {value}" for key, value in facts.items()), sep="\n")
    print(
        "\nms of a step: cpu, wall; of a forward pass: cpu, wall; kanvision / this: step, forward; "
        "MiB: kept, peak"
    )
    rows: list[dict[str, Any]] = []
    for case in cases:
        torch.manual_seed(0)
        contenders = case.build()
        contenders |= _make_variants(contenders, args.variants)
        dtype, autocast = getattr(torch, case.dtype), getattr(torch, args.autocast or "", None)
        placed = {
            name: each._replace(module=each.module.to(device, dtype)) for name, each in contenders.items()
        }
        options = {"repeats": args.repeats, "warmup": args.warmup, "device": device}
        try:
            measured = measure(placed, case.shape, **options, dtype=dtype, autocast=autocast)
        except torch.OutOfMemoryError as error:
            print(f"\n{case.label}: left out, {error}", flush=True)
            continue
        found = list_rows(case, measured, is_cuda)
        rows += found
        print(f"\n{case.label}", flush=True)
        for row in found:
            times = [
                f"{row[f'{part} {clock} ms']:9.2f}"
                for part in ("step", "forward")
                for clock in Clocks._fields
            ]
            ratios = [f"{row[key]:6.2f}" for key in RATIOS]
            print(
                f"  {row['contender']:<30}", *times, *ratios, f"{row['kept MiB']:9.2f} {row['peak MiB']:9.2f}"
            )
        write_table(args.output, facts, rows)
    if not rows:
        raise SystemExit("No case was measured.")
    print(f"\nWrote {args.output}.csv and {args.output}.md")
    return rows


def _make_variants(contenders: Mapping[str, Contender], kinds: Sequence[str]) -> dict[str, Contender]:
    """Return ours in other modes, and for torch.compile the plain twin as well."""
    found: dict[str, Contender] = {}
    ours = contenders["kanvision"]
    for kind in kinds:
        if kind == "bfloat16":
            found["kanvision, bfloat16"] = ours._replace(autocast=torch.bfloat16)
        elif kind == "fused":
            fused = copy.deepcopy(ours.module).eval()
            fuse_norms(fused)
            found["kanvision, fused"] = Contender(fused)
        else:
            for name in ("kanvision", "plain twin"):
                if name in contenders:
                    compiled: Any = torch.compile(contenders[name].module)
                    found[f"{name}, compiled"] = Contender(compiled)
    return found


def add_common_arguments(parser: argparse.ArgumentParser, output: str, repeats: int) -> None:
    """Add the arguments of every table."""
    parser.add_argument("--only", nargs="+", default=[], metavar="PATTERN", help="cases to measure")
    parser.add_argument("--list", action="store_true", help="print the labels of the cases")
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--autocast", choices=("bfloat16", "float16"), help="dtype of linear maps")
    parser.add_argument("--variants", nargs="+", default=[], choices=VARIANTS, help="ours in other modes too")
    parser.add_argument("--output", type=Path, default=Path(output), help="files, without .csv and .md")


def run(
    cases: Sequence[Case], parser: argparse.ArgumentParser, args: argparse.Namespace, device: str
) -> None:
    """Measure the cases that the arguments choose, or list them."""
    try:
        chosen = select(cases, args.only)
    except ValueError as error:
        parser.error(str(error))
    if args.list:
        print(*(case.label for case in chosen), sep="\n")
    else:
        run_cases(chosen, args, device)


def main(words: Sequence[str] | None = None) -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_common_arguments(parser, "speed", repeats=7)
    parser.add_argument("--quick", action="store_true", help="small cases only")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(words)
    torch.set_num_threads(args.threads)
    run([case for case in list_cases() if case.is_quick or not args.quick], parser, args, "cpu")


if __name__ == "__main__":
    main()
