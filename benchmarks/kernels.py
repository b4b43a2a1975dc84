"""Registers, spills and shared memory of all Triton kernels, compiled without a GPU.

    python -m benchmarks.kernels
    python -m benchmarks.kernels --only 'GroupRational 192' --capability 80

Each layer runs a training step whose kernels are compiled for a GPU of the capability instead of being run,
with the very arguments and options of a GPU; numbers are those of ptxas. `spills` counts bytes that are
written to memory because registers do not suffice. Results of such a step have no meaning.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import nn

from kanvision.bases.registry import SINGLE_BASES
from kanvision.expansion import fused_conv, triton_kernels, triton_support
from kanvision.layers import GroupRational, KANConv2d, KANLinear, KArAttention

__all__ = ["Kernel", "compile_step", "list_layers", "main"]

_DTYPES = (torch.bfloat16, torch.float32)


class Kernel(NamedTuple):
    """Facts of a compiled kernel."""

    name: str
    registers: int
    spills: int
    shared: int
    """Bytes of shared memory of a program."""
    wide_accesses: int
    """Loads and stores of 16 bytes in its code."""


class _Device:
    """Stand-in for Triton's driver that describes a GPU and runs nothing.

    Args:
        capability: Compute capability, 90 for 9.0.
    """

    def __init__(self, capability: int) -> None:
        from triton.backends.compiler import GPUTarget

        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> Any:
        """Return the architecture to compile for."""
        return self.target

    def get_current_device(self) -> int:
        """Return the number of the device."""
        return 0

    def get_current_stream(self, _: int) -> int:
        """Return the number of the stream."""
        return 0


@contextmanager
def _compile_only(capability: int) -> Iterator[list[Any]]:
    """Compile kernels at their launches, instead of running them, and collect them."""
    from triton.runtime.driver import driver
    from triton.runtime.jit import JITFunction

    found: list[Any] = []
    launch = JITFunction.run

    def compile_kernel(self: Any, *args: Any, warmup: bool, **options: Any) -> Any:
        found.append(launch(self, *args, warmup=True, **options))
        return found[-1]

    with (
        mock.patch.object(driver, "_active", _Device(capability)),
        mock.patch.object(JITFunction, "run", compile_kernel),
        mock.patch.object(triton_support, "is_interpreted", return_value=True),
        mock.patch.object(triton_kernels, "is_interpreted", return_value=True),
        mock.patch.dict(os.environ, {fused_conv.SWITCH: "on"}),
    ):
        yield found


def compile_step(layer: nn.Module, shape: Sequence[int], dtype: torch.dtype, capability: int) -> list[Kernel]:
    """Return the kernels that a training step of a layer launches, each once."""
    x = torch.zeros(*shape, dtype=dtype).requires_grad_()
    with _compile_only(capability) as launched:
        layer.to(dtype)(x).sum().backward()
    by_code = {kernel.asm["ptx"]: kernel for kernel in launched}
    return [_inspect(kernel, capability) for kernel in by_code.values()]


def _inspect(kernel: Any, capability: int) -> Kernel:
    from triton import knobs

    code = kernel.asm["ptx"]
    architecture = f"sm_{capability}a" if capability >= 90 else f"sm_{capability}"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(code, "utf-8")
        # the options of Triton
        command = [knobs.nvidia.ptxas.path, "-v", "--regAllocOptLevel=2", f"--gpu-name={architecture}"]
        command += [str(source), "-o", str(source.with_suffix(".cubin"))]
        log = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    numbers = [re.search(pattern, log) for pattern in (r"Used (\d+) registers", r"(\d+) bytes spill stores")]
    registers, spills = (int(found[1]) if found else 0 for found in numbers)
    wide = len(re.findall(r"(?:ld|st)\.global\S*\.v(?:4\.b32|2\.b64|8\.b16)", code))
    return Kernel(kernel.metadata.name, registers, spills, kernel.metadata.shared, wide)


def list_layers() -> Iterator[tuple[str, Callable[[], nn.Module], tuple[int, ...]]]:
    """Yield label, constructor and shape of the input of all layers with kernels."""
    for basis in SINGLE_BASES:
        yield f"KANLinear {basis}", lambda basis=basis: KANLinear(256, 16, basis, base_act=None), (64, 256)
    for basis in ("gram", "bspline", "rbf"):
        yield (
            f"KANConv2d {basis}, fused convolution",
            lambda basis=basis: KANConv2d(64, 64, 3, padding=1, basis=basis, base_act=None),
            (2, 64, 8, 8),
        )
    for width in (192, 384, 768, 3072):
        yield (
            f"GroupRational {width}",
            lambda width=width: GroupRational(width, init="swish"),
            (64, width),
        )
    for rank in (12, 64):
        yield (
            f"KArAttention rank {rank}",
            lambda rank=rank: KArAttention(
                192, 3, num_tokens=65, options={"rank": rank, "implementation": "triton"}
            ),
            (2, 65, 192),
        )


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kernels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--capability", type=int, default=90, help="90 for 9.0 (H100, H200), 80 for 8.0 (A100)"
    )
    parser.add_argument("--only", default="*", help="part of a label, or a pattern")
    args = parser.parse_args(words)
    try:
        import triton
    except ImportError:
        sys.exit("benchmarks.kernels needs triton, which is not installed: pip install triton")
    chosen = [each for each in list_layers() if args.only in each[0] or fnmatch(each[0], args.only)]
    if not chosen:
        parser.error(f"--only {args.only!r} fits no layer: {', '.join(label for label, *_ in list_layers())}")
    print(f"Triton {triton.__version__}, compiled for compute capability {args.capability / 10}\n")
    print("| layer | x | kernel | registers | spilled bytes | shared memory, bytes | 16-byte accesses |")
    print("|---|---|---|---|---|---|---|")
    for label, make, shape in chosen:
        for dtype in _DTYPES:
            for kernel in compile_step(make(), shape, dtype, args.capability):
                cells = [label, str(dtype).removeprefix("torch."), *map(str, kernel)]
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
