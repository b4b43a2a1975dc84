"""Command `eval.py mode=export`: files of a trained network for other programs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table
from torch import Tensor, nn

from kanvision.checkpoints import find_checkpoint
from kanvision.config import EvalConfig, lock_folder
from kanvision.console import build_console
from kanvision.export import ExportedFile, NetworkRecord, export_network
from kanvision.export.formats import FORMATS, onnx

from .evaluate import measure
from .load_run import load_network
from .restore import restore
from .results_folder import run_folder
from .run_record import environment, write_metrics

__all__ = ["export"]

NAME = "model"
"""Name of the files without their ending."""


def export(cfg: EvalConfig) -> list[Path]:
    """Write files of a network for other programs, each compared with torch; return their paths.

    Raises:
        CheckpointError: If the checkpoint is none of ours, is damaged, or does not fit its configuration.
        ExportError: If the network cannot be exported, or a file does not compute what it computes.
        DataError: If `quantize` is set, and the images of its scores cannot be used.
    """
    assert cfg.format is not None
    path = find_checkpoint(cfg.ckpt, runs_root=cfg.run_root)
    network, description = load_network(path)
    if cfg.export.img_size is not None:
        description = replace(description, input=replace(description.input, img_size=cfg.export.img_size))
    folder = Path(cfg.output).expanduser() if cfg.output else run_folder(path) / "export"
    with lock_folder(folder, key="output"):
        files = export_network(
            network,
            description,
            folder,
            list(dict.fromkeys(cfg.format)),
            name=NAME,
            dynamic_size=cfg.export.dynamic_size,
            sizes=[(height, width) for height, width in cfg.export.sizes],
            tolerance=cfg.export.tolerance,
        )
        paths = [file.path for file in files]
        scores: dict[str, dict[str, float]] = {}
        if cfg.quantize is not None:
            paths.append(folder / f"{NAME}.{cfg.quantize}{FORMATS['onnx'].suffix}")
            source = folder / f"{NAME}{FORMATS['onnx'].suffix}"
            onnx.QUANTIZERS[cfg.quantize](source, paths[-1])
            scores = {file.name: _score(cfg, file, folder) for file in (source, paths[-1])}
        _write_facts(folder / "export.json", path, files, paths, description, scores)
    _print(files, paths, scores, description)
    return [*paths, folder / "export.json"]


class _FileNetwork(nn.Module):
    """Network of an exported file, as the model of a task."""

    def __init__(self, run: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.run = run

    def forward(self, images: Tensor) -> Any:
        return self.run(images).to(images.device)


def _score(cfg: EvalConfig, path: Path, folder: Path) -> dict[str, float]:
    """Return the metrics of a file on the split, as mode=test measures them."""
    run = restore(cfg)
    run.task.model = _FileNetwork(onnx.read(path)[0])
    return measure(run, folder)[0]


def _write_facts(
    path: Path,
    checkpoint: Path,
    files: list[ExportedFile],
    paths: list[Path],
    description: NetworkRecord,
    scores: dict[str, dict[str, float]],
) -> None:
    checked = {file.path: {"difference": file.difference, "sizes": file.sizes} for file in files}
    entries = {
        file.name: {
            "bytes": file.stat().st_size,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            **checked.get(file, {}),
            **({"scores": scores[file.name]} if file.name in scores else {}),
        }
        for file in paths
    }
    facts = {"checkpoint": str(checkpoint), "files": entries, "record": description.to_dict()}
    write_metrics(path, facts | environment())


def _print(
    files: list[ExportedFile],
    paths: list[Path],
    scores: dict[str, dict[str, float]],
    description: NetworkRecord,
) -> None:
    console = build_console()
    console.print(f"{description.name}: exported", style="bold")
    measured = list(next(iter(scores.values()), {}))
    table = Table()
    for title in ("file", "MB", "difference from torch", *measured):
        is_name = title == "file"
        table.add_column(title, justify="left" if is_name else "right", no_wrap=is_name)
    differences = {file.path: f"{file.difference:.1e}" for file in files}
    for path in paths:
        values = scores.get(path.name, {})
        cells = [f"{values[name]:.4f}" if name in values else "" for name in measured]
        table.add_row(path.name, f"{path.stat().st_size / 1e6:.2f}", differences.get(path, ""), *cells)
    console.print(table)
    console.print(f"Written: {paths[0].parent}", soft_wrap=True)
    console.print(f"Next: kanvision.load_run('{paths[0]}')('photo.png')", soft_wrap=True, highlight=False)
