"""Export of a network to files, each compared with the network itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kanvision.models import Segmenter
from kanvision.prediction.files import write_atomically
from kanvision.spec.evaluation import ExportFormat

from .errors import ExportError
from .formats import FORMATS
from .program import BATCH_SIZES, FirstLogits, check_sizes, choose_sizes, random_images, trace
from .record import NetworkRecord

__all__ = ["ExportedFile", "compare", "export_network"]


@dataclass(frozen=True)
class ExportedFile:
    """File of an exported network.

    Attributes:
        path: The file.
        format: Its format.
        difference: Largest difference of its logits from those of torch, relative to the largest logit.
        sizes: Heights and widths of the compared images.
    """

    path: Path
    format: ExportFormat
    difference: float
    sizes: tuple[tuple[int, int], ...]


def export_network(
    network: nn.Module,
    record: NetworkRecord,
    folder: Path,
    formats: Sequence[ExportFormat],
    *,
    name: str = "model",
    dynamic_size: bool = False,
    sizes: Sequence[tuple[int, int]] = (),
    tolerance: float = 1e-4,
) -> list[ExportedFile]:
    """Write a network in several formats, and compare each file with the network.

    The compared images are batches of 1, 2 and 5 at each size. A file that differs, or that does not take a
    size, is not left behind. The files take normalized images (B, C, H, W) of any batch size.

    Args:
        network: The network, in float32 on the CPU.
        record: Its record, whose `input.img_size` is the side of the images.
        folder: Folder of the files.
        formats: Formats to write.
        name: Name of the files without their ending.
        dynamic_size: The files take images of any size, for a segmenter multiples of its stride.
        sizes: Further heights and widths that the files must take.
        tolerance: Largest difference of logits, relative to the largest logit.

    Returns:
        The files, in the order of the formats.

    Raises:
        ExportError: If the network cannot be exported, does not take a size, or a file differs.
    """
    module = FirstLogits(network.eval().requires_grad_(False))
    spec = record.input
    stride = network.stride if isinstance(network, Segmenter) and dynamic_size else 1
    checked = [*choose_sizes(spec.img_size, stride, dynamic_size), *sizes]
    if not dynamic_size and (others := [size for size in sizes if size != checked[0]]):
        listed = ", ".join(f"{height} x {width}" for height, width in others)
        raise ExportError(
            f"export.sizes: {listed}: a file for images of {spec.img_size} x {spec.img_size} takes no "
            "others; set export.dynamic_size=true, or export.img_size"
        )
    checked = list(dict.fromkeys(checked))
    check_sizes(module, spec.in_chans, checked, stride)
    program = None
    if any(FORMATS[item].needs_program for item in formats):
        program = trace(module, spec.in_chans, checked[0], stride=stride, dynamic=dynamic_size)
    written = []
    for item in formats:
        path = folder / f"{name}{FORMATS[item].suffix}"
        with write_atomically(path) as part:
            draft = part.with_suffix(path.suffix)  # readers go by the ending
            try:
                FORMATS[item].write(draft, module, program, record)
                difference = compare(
                    module, FORMATS[item].read(draft)[0], spec.in_chans, checked, tolerance, item
                )
                draft.replace(part)
            finally:
                draft.unlink(missing_ok=True)
        written.append(ExportedFile(path, item, difference, tuple(checked)))
    return written


@torch.inference_mode()
def compare(
    network: nn.Module, run: Any, in_chans: int, sizes: Sequence[tuple[int, int]], tolerance: float, name: str
) -> float:
    """Return the largest difference of two functions of images, relative to the largest logit.

    Raises:
        ExportError: If it exceeds the tolerance, or the second function fails.
    """
    worst = 0.0
    for size in sizes:
        for batch in BATCH_SIZES:
            images = random_images(batch, in_chans, size, seed=batch)
            what = f"{name}: images {tuple(images.shape)}"
            expected = network(images)
            try:
                found = run(images)
            # each runtime has its own errors
            except Exception as error:
                # the last line of TorchScript, whose message has the whole trace, and of others the first
                lines = str(error).strip().splitlines() or [type(error).__name__]
                reason = lines[-1 if name == "torchscript" else 0]
                raise ExportError(f"{what}: the file fails: {reason}") from error
            if found.shape != expected.shape:
                raise ExportError(
                    f"{what}: the file returns {tuple(found.shape)}, not {tuple(expected.shape)}"
                )
            difference = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
            if not difference <= tolerance:
                raise ExportError(
                    f"{what}: the logits of the file differ from those of torch by {difference:.1e} of the "
                    f"largest one, more than export.tolerance={tolerance:g}"
                )
            worst = max(worst, difference)
    return worst
