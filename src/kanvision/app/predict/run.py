"""`eval.py mode=predict`: what a trained network says of images that nobody has labeled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kanvision.app import record
from kanvision.app.build import create_datamodule
from kanvision.app.restore import Restored, restore, run_folder
from kanvision.config import ConfigError, EvalConfig, TrainConfig, lock_folder
from kanvision.config.errors import problem_at
from kanvision.console import build_console
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
    open_scene,
    predict_classes,
    raise_problems,
    resolve_output_file,
)
from kanvision.tasks import NonFiniteError, SegmentationTask

from .inference import Predictor
from .report import FileRow, class_lines, mask_lines, mask_notes, write_table

__all__ = ["predict"]

ADVANCE = Callable[[int], object]


def predict(cfg: EvalConfig) -> list[Path]:
    """Predict images, and write masks, probabilities and overlays, or a table of classes.

    Returns:
        What was written.

    Raises:
        CheckpointError: If the checkpoint is none of ours, is damaged, or does not fit its configuration.
        DataError: If images cannot be used, or results exist; nothing is predicted then.
        ConfigError: If a setting does not fit the checkpoint.
        NonFiniteError: If the network gave no number for any image.
    """
    restored = restore(cfg)
    assert cfg.input is not None
    source = Path(cfg.input).expanduser()
    is_masks = isinstance(restored.task, SegmentationTask)
    suffix = getattr(restored.run.data, "mask_suffix", "")
    inputs = find_inputs(source, classes=not is_masks, mask_suffix=suffix)
    is_multilabel = isinstance(restored.task, SegmentationTask) and restored.task.mode == "multilabel"
    file = resolve_output_file(cfg.output, len(inputs.names), classes=not is_masks, multilabel=is_multilabel)
    default = run_folder(restored.path) / "predict" / source.stem
    folder = file.parent if file else Path(cfg.output).expanduser() if cfg.output else default
    job = _Job(cfg, restored, create_datamodule(restored.run), folder, file, build_console())
    started = time.perf_counter()
    # single files may have one folder
    lock = nullcontext() if file else lock_folder(folder, key="output")
    with lock, pixel_limit(cfg.predict.max_pixels, "predict.max_pixels"):
        written = _masks(job, inputs) if is_masks else _classes(job, inputs)
    about: dict[str, Any] = {"checkpoint": str(restored.path), "input": str(source)}
    about |= {"model": job.run.model.name, "data": job.run.data.name, "images": len(inputs.names)}
    about |= {"predict": cfg.predict.model_dump(), "class_names": list(restored.task.class_names)}
    about |= {"protocol": restored.task.metric_notes(), "seconds": round(time.perf_counter() - started, 2)}
    record.write_metrics(job.record, about | record.environment())
    job.say(f"Written: {folder}")
    for what in [*written, f"{job.record.name}: how they were made"]:
        job.say(f"  {what}")
    for why, names in (("no images", inputs.others), ("masks of other images", inputs.masks)):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            job.say(f"Left out, being {why}: {', '.join(map(str, names[:5]))}{more}")
    if file:
        return [file, job.record]
    return sorted(path for path in folder.rglob("*") if path.is_file())


class _Job(NamedTuple):
    """What both kinds of prediction need."""

    cfg: EvalConfig
    restored: Restored
    datamodule: ImageDataModule
    folder: Path
    file: Path | None
    """The only result, but for the record; None: the folder has them."""
    console: Console

    @property
    def record(self) -> Path:
        """File that says how the results were made."""
        return self.file.with_suffix(".json") if self.file else self.folder / "predictions.json"

    @property
    def run(self) -> TrainConfig:
        return self.restored.run

    def say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)

    def applied(self) -> Predictor:
        return Predictor(self.cfg, self.run, self.restored.task)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[ADVANCE]:
        """A bar with the time that is left, at a terminal; gives what counts."""
        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        off = not (self.cfg.trainer.enable_progress_bar and self.console.is_terminal)
        with Progress(*columns, console=self.console, disable=off, transient=True) as bar:
            bar_task = bar.add_task(what, total=total)
            yield lambda count: bar.advance(bar_task, count)


def _classes(job: _Job, inputs: Inputs) -> list[str]:
    """Write the table of the classes of pictures; returns what was written, in words."""
    data, predicted = job.datamodule, job.cfg.predict.model_dump(exclude={"tta", "overwrite", "max_pixels"})
    defaults = type(job.cfg.predict)().model_dump()
    if given := [f"predict.{key}" for key, value in predicted.items() if value != defaults[key]]:
        why = f"{job.run.model.name} names the class of a whole image"
        raise ConfigError([problem_at(job.cfg, given, why, "leave out what is for masks")])
    assert isinstance(data, ClassificationDataModule)
    table, limit = job.file or job.folder / "predictions.csv", job.cfg.predict.max_pixels
    with job.progress("checking", len(inputs.names)) as advance:
        problems = find_unusable_pictures(inputs.paths, limit, advance)
    raise_problems(
        [*problems, *find_overwritten_files([table, job.record], inputs, job.cfg.predict.overwrite)]
    )
    names = _names(job, job.run.data.num_classes or 0)
    started = time.perf_counter()
    with job.progress("predicting", len(inputs.names)) as advance:
        counts = predict_classes(
            inputs,
            table,
            job.applied().classes,
            data.eval_transform,
            names,
            data.eval_batch_size,
            max_pixels=limit,
            advance=advance,
        )
    class_lines(job.console, counts, len(inputs.names), time.perf_counter() - started)
    if counts[""] == len(inputs.names):
        raise _without_numbers(job, inputs, table)
    return [f"{table.name}: {len(inputs.names)} images, the first {min(5, len(names))} classes of each"]


def _masks(job: _Job, inputs: Inputs) -> list[str]:
    """Write masks, probabilities and overlays of images; returns what was written, in words."""
    cfg, data = job.cfg.predict, job.datamodule
    assert isinstance(data, SegmentationDataModule)
    bands = Bands(
        data.spec.in_chans,
        data.preprocessing,
        tuple(cfg.bands) if cfg.bands else _bands(job.run),
        cfg.max_value or getattr(job.run.data, "max_value", None),
    )
    predictor = _predictor(job, data)
    outputs = [predictor.plan_outputs(name, job.folder, cfg.probabilities) for name in inputs.names]
    table, tiles = job.folder / "predictions.csv", list[int]()
    if job.file:
        outputs = [Outputs((job.file,))]

    def look(scene: Scene) -> None:
        if predictor.is_resized(scene):
            scene.check_size()
        tiles.append(predictor.num_tiles(scene))

    with job.progress("checking", len(inputs.names)) as advance:
        problems = find_unusable_scenes(inputs.paths, bands, look, advance)
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
    mask_lines(job.console, rows, predictor)
    for note in mask_notes(rows, predictor):
        job.say(f"Note: {note}")
    if all(row.outcome.undecided and not any(row.outcome.shares) for row in rows):
        raise _without_numbers(job, inputs, job.file or table)
    return _described(outputs, predictor)


def _without_numbers(job: _Job, inputs: Inputs, table: Path) -> NonFiniteError:
    return NonFiniteError(
        f"{job.restored.path}: the output of the network is not finite (NaN or infinity) for all of "
        f"{len(inputs.names)} images; {table} and the files beside it hold no prediction"
    )


def _predictor(job: _Job, data: SegmentationDataModule) -> MaskPredictor:
    cfg, task, size = job.cfg.predict, job.restored.task, data.spec.img_size
    assert isinstance(task, SegmentationTask)
    names = _names(job, 1 if task.mode == "binary" else task.num_classes)
    tile = cfg.tile or size
    is_tiled = cfg.tile is not None or cfg.overlap is not None
    applied = job.applied()
    return MaskPredictor(
        applied.masks,
        task.predicted_masks,
        task.mode,
        tuple(names),
        img_size=size,
        interpolation=data.interpolation,
        tile=tile,
        overlap=tile // 4 if cfg.overlap is None else cfg.overlap,
        # As many pixels as a batch of the run's evaluation has, whatever the size of tiles.
        batch_size=job.cfg.data.batch_size or max(1, data.eval_batch_size * size**2 // tile**2),
        resize=False if is_tiled else cfg.resize,
        rgb=data.rgb if cfg.bands is None else (),
        colors=data.colors,
    )


def _bands(run: TrainConfig) -> tuple[int, ...] | None:
    """Bands of a file that the run used, where it counted them; names are those of separate files."""
    bands = getattr(run.data, "bands", None) or ()
    return tuple(bands) if bands and all(isinstance(band, int) for band in bands) else None


def _names(job: _Job, count: int) -> list[str]:
    """Names of classes from the checkpoint, or numbers where it is too old to hold them."""
    task = job.restored.task
    names = list(task.class_names)
    if isinstance(task, SegmentationTask) and task.mode == "binary":
        return names[-1:] or ["foreground"]
    if len(names) == count:
        return names
    if isinstance(task, SegmentationTask):
        return [f"class_{number}" for number in range(count)]
    return [str(number) for number in range(count)]


def _described(outputs: Sequence[Any], predictor: MaskPredictor) -> list[str]:
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
