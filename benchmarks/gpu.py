"""Everything that a CUDA device has to tell, in one table: `python -m benchmarks.gpu`.

The columns are those of `python -m benchmarks`; ratios are those of wall time, and the peak is that of CUDA's
allocator. Networks and convolutions run under autocast in bfloat16. The cases are KAN convolutions (also with
the fused kernel, KANVISION_FUSED_CONV=on), the group rational in bfloat16 and float32 (GELU moves as many
bytes and is the floor), KAT-B beside ViT-B, KArAt beside softmax, VGG-KAN and U-KAN beside their plain twins.
The table of `python -m benchmarks.kernels` needs no GPU.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch

from kanvision.expansion import fused_conv

from .__main__ import add_common_arguments, run
from .cases import Case, Contenders, convolution_case, network_case, rational_case

__all__ = ["list_gpu_cases", "main"]


def list_gpu_cases() -> list[Case]:
    """Return all cases, the small ones first."""
    return [
        *(
            _with_fused_kernel(convolution_case(basis, (64, 64, 32, 32)))
            for basis in ("gram", "bspline", "rbf")
        ),
        rational_case((256, 197, 768), dtype="bfloat16"),
        rational_case((256, 197, 768)),
        network_case("vgg_kan_11", (256, 3, 32, 32)),
        network_case("vgg_kan_11", (256, 3, 32, 32), basis="bspline"),
        network_case("ukan_medium", (16, 3, 256, 256)),
        network_case("karat_tiny_patch16_224", (64, 3, 224, 224)),
        network_case("karat_tiny_patch16_224", (64, 3, 224, 224), share="universal"),
        network_case("kat_base_patch16_224", (128, 3, 224, 224), attn_init="default"),
    ]


def _with_fused_kernel(case: Case) -> Case:
    def build() -> Contenders:
        found = case.build()
        return {**found, "fused": found["kanvision"]._replace(environment={fused_conv.SWITCH: "on"})}

    return case._replace(build=build)


def main(words: Sequence[str] | None = None) -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_common_arguments(parser, "speed_gpu", repeats=10)
    parser.set_defaults(autocast="bfloat16", warmup=3)
    args = parser.parse_args(words)
    if not torch.cuda.is_available() and not args.list:
        sys.exit(
            f"benchmarks.gpu needs a CUDA device, and torch {torch.__version__} finds none on this machine. "
            "On a CPU: python -m benchmarks; registers and spills of kernels: python -m benchmarks.kernels"
        )
    run(list_gpu_cases(), parser, args, "cuda")


if __name__ == "__main__":
    main()
