"""Command `eval.py mode=benchmark`: cost of several models side by side. B batch."""

from __future__ import annotations

import gc
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from rich.table import Table
from torch import Tensor, nn

from kanvision.analysis.cost import cost
from kanvision.analysis.html_page import write_page
from kanvision.analysis.results import AnalysisResult, ResultTable
from kanvision.checkpoints import find_checkpoint, load_checkpoint, match_structure
from kanvision.config import BenchmarkConfig, ConfigError, Problem
from kanvision.console import build_console

from .run_record import environment

__all__ = ["benchmark"]

WARM_UP = 3
"""Passes before the measurement."""
WIDTH_OF_FILE = 160
ONLY_IN_FILES = ("image", "gflop_functions")
"""Columns that are not printed."""
LIMITS = (
    "Latencies depend on machine, threads and other work; models take turns, so that such work reaches all "
    "of them. Compare ratios.",
    "Peak memory on a CPU is that of tensors allocated by torch in one pass, by its profiler.",
)


@dataclass
class Candidate:
    """Model to measure."""

    name: str
    model: nn.Module
    shape: tuple[int, int, int]


def benchmark(cfg: BenchmarkConfig) -> dict[str, float]:
    """Measure parameters, FLOPs, latency and memory; return them by `<model>/<batch size>/<name>`.

    Writes `benchmark.csv` and a page to `cfg.output` or `<run_root>/benchmarks/<models>`.

    Raises:
        ConfigError: A model is not known, has no plain twin, or does not take the size of the images.
        CheckpointError: A file is none of ours, or damaged.
    """
    os.environ.setdefault(
        "KINETO_LOG_LEVEL", "99"
    )  # torch's profiler prints lines without a meaning for users
    device = Fabric(accelerator=cfg.accelerator, devices=1).device
    candidates = _build(cfg, device)
    rows: list[list[object]] = []
    numbers: dict[str, float] = {}
    for batch_size in cfg.batch_sizes:
        passes = [_prepare(candidate, batch_size, device, cfg.training) for candidate in candidates]
        seconds = _time_in_turns(passes, cfg.num_passes, device)
        for candidate, run, times in zip(candidates, passes, seconds, strict=True):
            size = cost(candidate.model, candidate.shape)
            middle, slow = (float(np.quantile(times, share)) for share in (0.5, 0.95))
            values = {
                "parameters": float(size.parameters),
                "gflop": size.flops / 1e9,
                "gflop_functions": size.basis_flops / 1e9,
                "p50_ms": 1e3 * middle,
                "p95_ms": 1e3 * slow,
                "images_per_s": batch_size / middle,
                "peak_memory_mb": _peak_memory_mb(run, device),
            }
            rows.append([candidate.name, "x".join(map(str, candidate.shape)), batch_size, *_shown(values)])
            numbers |= {f"{candidate.name}/{batch_size}/{name}": value for name, value in values.items()}
        del passes
        gc.collect()
    columns = ["model", "image", "batch", *values]
    caption = (
        f"{'Training steps without the optimizer' if cfg.training else 'Predictions'} on {device}, "
        f"{torch.get_num_threads()} threads, {cfg.num_passes} passes of each model in turns; gflop: one "
        "image."
    )
    result = AnalysisResult(
        _sentences(candidates, numbers, cfg.batch_sizes),
        LIMITS,
        numbers,
        (),
        [ResultTable("benchmark", columns, rows, caption, 200)],
    )
    folder = Path(cfg.output or Path(cfg.run_root, "benchmarks", _folder_name(candidates)))
    result.write(folder)
    page = write_page(folder, "Cost of models", environment(), result)
    _print(columns, rows, result, page)
    return numbers


def _shown(values: dict[str, float]) -> list[object]:
    return [int(value) if name == "parameters" else value for name, value in values.items()]


def _build(cfg: BenchmarkConfig, device: torch.device) -> list[Candidate]:
    found, problems = list[Candidate](), list[Problem]()
    for name in cfg.models:
        try:
            model, shape = _load(cfg, name)
        except (ValueError, TypeError, ConfigError) as error:
            fix = "give a name of kanvision or timm, <name>:plain, a run folder or a checkpoint"
            problems.append(Problem(("models",), (f"models: {name}",), str(error), fix))
            continue
        found.append(Candidate(name, model.train(cfg.training).to(device), shape))
    if problems:
        raise ConfigError(problems)
    return found


def _load(cfg: BenchmarkConfig, name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    """Return a model by its registered name or from a run, with the shape of its images."""
    from kanvision.models import create_model

    if Path(name).exists() or name == "latest":
        return _load_run(cfg, name)
    base, _, twin = name.partition(":")
    if twin not in ("", "plain"):
        raise ValueError(f"{name}: after the colon only plain is legal")
    options: dict[str, Any] = {"num_classes": cfg.num_classes, "in_chans": cfg.in_chans}
    if twin:
        options["plain"] = True
    if cfg.img_size is not None and re.search(r"(?:kat|karat|vit)_", base):
        options["img_size"] = cfg.img_size
    model = create_model(base, **options)
    size = cfg.img_size or int(
        (getattr(model, "pretrained_cfg", {}) or {}).get("input_size", (3, 224, 224))[-1]
    )
    return model, (cfg.in_chans, size, size)


def _load_run(cfg: BenchmarkConfig, name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    from .checkpoint_record import read_checkpoint_config
    from .model import build_model

    path = find_checkpoint(name, runs_root=cfg.run_root)
    checkpoint = load_checkpoint(path)
    train_cfg = read_checkpoint_config(path, checkpoint)
    model = build_model(
        train_cfg.model_copy(update={"model": train_cfg.model.without_weights()}), fetch=False
    )

    match_structure(model, checkpoint)
    size = cfg.img_size or train_cfg.data.img_size
    return model, (train_cfg.data.in_chans, size, size)


def _prepare(
    candidate: Candidate, batch_size: int, device: torch.device, training: bool
) -> Callable[[], Any]:
    """Return a function that runs one pass on a fixed batch."""
    images = torch.randn(batch_size, *candidate.shape, generator=torch.Generator().manual_seed(0)).to(device)

    def predict() -> Any:
        with torch.inference_mode():
            return candidate.model(images)

    def train() -> Any:
        candidate.model.zero_grad(set_to_none=True)
        outputs = candidate.model(images)
        parts: Sequence[Tensor] = outputs if isinstance(outputs, tuple) else (outputs,)
        torch.stack([part.float().square().mean() for part in parts]).sum().backward()  # type: ignore[no-untyped-call]

    return train if training else predict


def _time_in_turns(
    passes: Sequence[Callable[[], Any]], number: int, device: torch.device
) -> list[list[float]]:
    """Return the seconds of each pass; the functions take turns."""
    seconds: list[list[float]] = [[] for _ in passes]
    for turn in range(WARM_UP + number):
        for place, run in enumerate(passes):
            _wait(device)
            started = time.perf_counter()
            run()
            _wait(device)
            if turn >= WARM_UP:
                seconds[place].append(time.perf_counter() - started)
    return seconds


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _peak_memory_mb(run: Callable[[], Any], device: torch.device) -> float:
    """Return the largest memory that tensors of one pass hold at once, in MB, without weights and images."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True, record_shapes=False
    ) as profile:
        run()
    used = most = 0
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        used += event.nbytes()
        most = max(most, used)
    return most / 1e6


def _sentences(
    candidates: Sequence[Candidate], numbers: dict[str, float], batch_sizes: Sequence[int]
) -> list[str]:
    first, sentences = candidates[0], []
    for other in candidates[1:]:
        for batch_size in batch_sizes:
            ratio = {
                name: numbers[f"{first.name}/{batch_size}/{name}"]
                / numbers[f"{other.name}/{batch_size}/{name}"]
                for name in ("p50_ms", "peak_memory_mb", "parameters")
                if numbers[f"{other.name}/{batch_size}/{name}"]
            }
            words = ", ".join(f"{name.removesuffix('_ms')} {value:.3g}" for name, value in ratio.items())
            sentences.append(f"{first.name} over {other.name}, batch {batch_size}: {words}.")
    return sentences


def _folder_name(candidates: Sequence[Candidate]) -> str:
    return re.sub(r"[^0-9A-Za-z_.+-]+", "-", "+".join(candidate.name for candidate in candidates))[:100]


def _print(
    columns: Sequence[str], rows: Sequence[Sequence[object]], result: AnalysisResult, page: Path
) -> None:
    console, table = build_console(), Table()
    if not console.is_terminal:
        console.width = WIDTH_OF_FILE
    shown = [place for place, column in enumerate(columns) if column not in ONLY_IN_FILES]
    for place in shown:
        left = columns[place] == "model"
        table.add_column(columns[place], justify="left" if left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row[place]) for place in shown))
    console.print(table)
    for sentence in result.sentences:
        console.print(f"- {sentence}", highlight=False)
    console.print(f"Written: {page}", soft_wrap=True, highlight=False)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
