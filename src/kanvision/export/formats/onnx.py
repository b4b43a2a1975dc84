"""Files of ONNX, which onnxruntime and many other programs run."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from kanvision.export.errors import import_extra
from kanvision.export.program import FirstLogits
from kanvision.export.record import KEY, NetworkRecord, decode, encode
from kanvision.spec.evaluation import Quantization

__all__ = ["QUANTIZERS", "read", "write"]

EXTRA = "onnx"
INPUT, OUTPUT = "image", "logits"
QUANTIZED = ("Conv", "MatMul", "Gemm")
"""Operators with 8-bit weights; the products of learned functions would lose accuracy in 8 bits."""


def write(path: Path, network: FirstLogits, program: ExportedProgram | None, record: NetworkRecord) -> None:
    """Write the graph with its weights as one file.

    Raises:
        ExportError: If onnx or onnxscript is not installed.
    """
    for module in ("onnx", "onnxscript"):
        import_extra(module, EXTRA)
    with _silence("torch.onnx", "onnxscript", "onnx_ir"):
        exported: Any = torch.onnx.export(
            program,  # type: ignore[arg-type]
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    exported.model.metadata_props[KEY] = encode(record)
    exported.save(path, external_data=False)


@contextmanager
def _silence(*names: str) -> Iterator[None]:
    """Suppress warnings, and messages below errors of loggers."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def read(path: Path) -> tuple[Callable[[Tensor], Any], NetworkRecord]:
    """Return the file as a function by onnxruntime on the CPU, and the record of the network.

    Raises:
        ExportError: If onnxruntime is not installed.
        RecordError: If the file has no record.
    """
    runtime = import_extra("onnxruntime", EXTRA)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(None, {session.get_inputs()[0].name: images.cpu().numpy()})
        return torch.from_numpy(logits)

    return run, decode(session.get_modelmeta().custom_metadata_map, path)


def _quantize_int8(source: Path, target: Path) -> None:
    """Write a file with 8-bit integer weights of linear maps, whose inputs are quantized when it runs.

    The source has float32 weights.

    Raises:
        ExportError: If onnx or onnxruntime is not installed.
    """
    import_extra("onnx", EXTRA)
    library = import_extra("onnxruntime.quantization", EXTRA)
    with _silence(""):  # the root logger advises to run a preprocessing that torch has done
        library.quantize_dynamic(
            source, target, op_types_to_quantize=list(QUANTIZED), weight_type=library.QuantType.QInt8
        )


QUANTIZERS: dict[Quantization, Callable[[Path, Path], None]] = {"int8": _quantize_int8}
"""Functions of an ONNX file and of a new file with weights of few bits, by number format."""
