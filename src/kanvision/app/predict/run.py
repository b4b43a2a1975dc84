"""Command `eval.py mode=predict`: predict images without labels."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kanvision.app.build import create_datamodule
from kanvision.app.checkpoint_record import numbered_bands
from kanvision.app.restore import RestoredRun, restore
from kanvision.app.results_folder import run_folder
from kanvision.app.run_record import environment, write_metrics
from kanvision.config import ConfigError, EvalConfig, lock_folder
from kanvision.data import ClassificationDataModule, ImageDataModule, SegmentationDataModule
from kanvision.data.files.pillow import pixel_limit
from kanvision.prediction import (
    Bands,
    Inputs,
    MaskPredictor,
    Outputs,
    Scene,
    find_inputs,
    find_name_clashes,
    find_overwritten_files,
    find_unusable_pictures,
    find_unusable_scenes,
    name_outputs,
    open_scene,
    predict_classes,
    raise_problems,
    resolve_output_file,
)
from kanvision.tasks import NonFiniteError, SegmentationTask

from .inference import Predictor
from .output import FileRow, mask_notes, print_classes, print_image_classes, print_masks, write_table

__all__ = ["predict"]

ADVANCE = Callable[[int], object]


def predict(cfg: EvalConfig) -> list[Path]:
    """Predict images, and write masks with overlays, or a table of classes; return the paths of all files.

    Raises:
        CheckpointError: If the checkpoint is none of ours, is damaged, or does not fit its configuration.
        DataError: If images cannot be used, or results exist; nothing is predicted then.
        ConfigError: If a setting does not fit the checkpoint.
        NonFiniteError: If the model's output is not finite for all images.
    """
    assert cfg.input is not None
    job = _PredictionJob(restore(cfg), Path(cfg.input).expanduser())
    started = time.perf_counter()
    # several single files may be written to one folder
    lock = nullcontext() if job.file else lock_folder(job.folder, key="output")
    with lock, pixel_limit(cfg.predict.max_pixels, "predict.max_pixels"):
        written = _write_masks(job) if job.has_masks else _write_classes(job)
    run, inputs = job.run, job.inputs
    facts: dict[str, Any] = {
        "checkpoint": str(run.path),
        "input": str(job.input),
        "model": run.train_cfg.model.name,
        "data": run.train_cfg.data.name,
        "images": len(inputs.names),
        "predict": cfg.predict.model_dump(),
        "class_names": list(run.task.class_names),
        "protocol": run.task.metric_notes(),
        "seconds": round(time.perf_counter() - started, 2),
    }
    write_metrics(job.record, facts | environment())
    job.print(f"Written: {job.folder}")
    for line in [*written, f"{job.record.name}: how they were made"]:
        job.print(f"  {line}")
    for why, names in (("no images", inputs.others), ("masks of other images", inputs.masks)):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            job.print(f"Left out, being {why}: {', '.join(map(str, names[:5]))}{more}")
    if job.file:
        return [job.file, job.record]
    return sorted(path for path in job.folder.rglob("*") if path.is_file())


class _PredictionJob:
    """Inputs and outputs of a prediction."""

    def __init__(self, run: RestoredRun, path: Path) -> None:
        cfg, task = run.cfg, run.task
        self.run = run
        self.input = path
        self.has_masks = isinstance(task, SegmentationTask)
        suffix = getattr(run.train_cfg.data, "mask_suffix", "")
        self.inputs: Inputs = find_inputs(path, classes=not self.has_masks, mask_suffix=suffix)
        is_multilabel = isinstance(task, SegmentationTask) and task.mode == "multilabel"
        count = len(self.inputs.names)
        self.file: Path | None = resolve_output_file(
            cfg.output, count, classes=not self.has_masks, multilabel=is_multilabel
        )
        """Only result beside the record; None: results are in the folder."""
        default = run_folder(run.path) / "predict" / path.stem
        output = Path(cfg.output).expanduser() if cfg.output else default
        self.folder: Path = self.file.parent if self.file else output
        self.datamodule: ImageDataModule = create_datamodule(run.train_cfg)

    @property
    def record(self) -> Path:
        """File with the settings of the prediction."""
        return self.file.with_suffix(".json") if self.file else self.folder / "predictions.json"

    @cached_property
    def predictor(self) -> Predictor:
        """Model on its device."""
        return Predictor(self.run)

    def print(self, text: str) -> None:
        """Print a line."""
        self.run.console.print(text, soft_wrap=True)

    @contextmanager
    def progress(self, stage: str, total: int) -> Iterator[ADVANCE]:
        """Show a progress bar at a terminal; gives the function that advances it."""
        columns = (TextColumn(stage), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = self.run.console
        off = not (self.run.cfg.trainer.enable_progress_bar and console.is_terminal)
        with Progress(*columns, console=console, disable=off, transient=True) as bar:
            task_id = bar.add_task(stage, total=total)
            yield lambda count: bar.advance(task_id, count)


def _write_classes(job: _PredictionJob) -> list[str]:
    """Write the table of classes; return lines on what was written."""
    data, inputs, cfg = job.datamodule, job.inputs, job.run.cfg
    mask_options = cfg.predict.model_dump(exclude={"tta", "overwrite", "max_pixels"})
    defaults = type(cfg.predict)().model_dump()
    if given := [f"predict.{key}" for key, value in mask_options.items() if value != defaults[key]]:
        why = f"{job.run.train_cfg.model.name} names the class of a whole image"
        raise ConfigError.at(cfg, given, why, "leave out what is for masks")
    assert isinstance(data, ClassificationDataModule)
    table, limit = job.file or job.folder / "predictions.csv", cfg.predict.max_pixels
    with job.progress("checking", len(inputs.names)) as advance:
        problems = find_unusable_pictures(inputs.paths, limit, advance)
    raise_problems([*problems, *find_overwritten_files([table, job.record], inputs, cfg.predict.overwrite)])
    names = name_outputs(job.run.task.class_names, job.run.train_cfg.data.num_classes or 0)
    started = time.perf_counter()
    with job.progress("predicting", len(inputs.names)) as advance:
        counts = predict_classes(
            inputs,
            table,
            job.predictor.predict_classes,
            data.eval_transform,
            names,
            data.eval_batch_size,
            max_pixels=limit,
            advance=advance,
        )
    if len(inputs.names) == 1:
        print_image_classes(job.run.console, table)
    else:
        print_classes(job.run.console, counts, len(inputs.names), time.perf_counter() - started)
    if counts[""] == len(inputs.names):
        raise _non_finite_error(job, table)
    return [f"{table.name}: {len(inputs.names)} images, the first {min(5, len(names))} classes of each"]


def _write_masks(job: _PredictionJob) -> list[str]:
    """Write masks, probabilities and overlays of images; return lines on what was written."""
    cfg, data, inputs = job.run.cfg.predict, job.datamodule, job.inputs
    assert isinstance(data, SegmentationDataModule)
    bands = Bands(
        data.spec.in_chans,
        data.preprocessing,
        tuple(cfg.bands) if cfg.bands else numbered_bands(job.run.train_cfg),
        cfg.max_value or getattr(job.run.train_cfg.data, "max_value", None),
    )
    predictor = _build_mask_predictor(job, data)
    outputs = [predictor.plan_outputs(name, job.folder, cfg.probabilities) for name in inputs.names]
    table, tiles = job.folder / "predictions.csv", list[int]()
    if job.file:
        outputs = [Outputs((job.file,))]

    def check(scene: Scene) -> None:
        if predictor.is_resized(scene):
            scene.check_size()
        tiles.append(predictor.num_tiles(scene))

    with job.progress("checking", len(inputs.names)) as advance:
        problems = find_unusable_scenes(inputs.paths, bands, check, advance)
    files = [path for result in outputs for path in result.files]
    files += [job.record] if job.file else [table, job.record]
    raise_problems(
        [*problems, *find_name_clashes(inputs), *find_overwritten_files(files, inputs, cfg.overwrite)]
    )
    rows: list[FileRow] = []
    with job.progress("predicting", sum(tiles)) as advance:
        for name, path, result, count in zip(inputs.names, inputs.paths, outputs, tiles, strict=True):
            started = time.perf_counter()
            with open_scene(path, bands) as scene:
                resized = predictor.is_resized(scene)
                outcome = predictor.predict(scene, result, advance)
            seconds = time.perf_counter() - started
            rows.append(FileRow(name.as_posix(), outcome, None if resized else count, seconds))
    if not job.file:
        write_table(table, rows, predictor.foreground)
    print_masks(job.run.console, rows, predictor)
    for note in mask_notes(rows, predictor):
        job.print(f"Note: {note}")
    if all(row.outcome.undecided and not any(row.outcome.shares) for row in rows):
        raise _non_finite_error(job, job.file or table)
    return _describe_outputs(outputs, predictor)


def _non_finite_error(job: _PredictionJob, table: Path) -> NonFiniteError:
    return NonFiniteError(
        f"{job.run.path}: the output of the network is not finite (NaN or infinity) for all of "
        f"{len(job.inputs.names)} images; {table} and the files beside it hold no prediction"
    )


def _build_mask_predictor(job: _PredictionJob, data: SegmentationDataModule) -> MaskPredictor:
    cfg, task, size = job.run.cfg, job.run.task, data.spec.img_size
    assert isinstance(task, SegmentationTask)
    names = name_outputs(task.class_names, task.num_classes, task.mode)
    tile, overlap = cfg.predict.tile or size, cfg.predict.overlap
    is_tiled = cfg.predict.tile is not None or overlap is not None
    return MaskPredictor(
        job.predictor.predict_masks,
        task.predicted_masks,
        task.mode,
        tuple(names),
        img_size=size,
        interpolation=data.interpolation,
        tile=tile,
        overlap=tile // 4 if overlap is None else overlap,
        # as many pixels as in a batch of the run's evaluation, whatever the size of tiles
        batch_size=cfg.data.batch_size or max(1, data.eval_batch_size * size**2 // tile**2),
        resize=False if is_tiled else cfg.predict.resize,
        rgb=data.rgb if cfg.predict.bands is None else (),
        colors=data.colors,
    )


def _describe_outputs(outputs: Sequence[Any], predictor: MaskPredictor) -> list[str]:
    count = len(outputs)
    labels = "0 and 1" if predictor.mode != "multiclass" else f"0 to {len(predictor.names) - 1}"
    planes = "a band or folder for each of " if predictor.mode == "multilabel" else ""
    head = f"masks: {count}," if outputs[0].overlay else f"{outputs[0].masks[0].name}:"
    lines = [f"{head} {planes}{', '.join(predictor.names)}; {labels}, and {predictor.no_data} for no data"]
    if any(result.probabilities for result in outputs):
        lines.append(f"probabilities: {count}, of {', '.join(predictor.names)}; NaN for no data")
    if any(result.overlay for result in outputs):
        lines += [f"overlays: {count}", "predictions.csv: size and shares of classes of each image"]
    return lines
