"""`eval.py mode=check_data`: look at every file of a data set before a run meets it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from kanvision.checkpoints import find_checkpoint, load_checkpoint
from kanvision.config import CheckConfig, EvalConfig
from kanvision.config.schema.data import AnyData
from kanvision.console import build_console
from kanvision.data import DataError, build_datamodule
from kanvision.data.cores import num_cores
from kanvision.data.inspection import DataIssue, Inspection, write_issues

from . import record
from .evaluation_results import results_folder
from .restore import override_data, read_checkpoint_config

__all__ = ["check_data"]


def check_data(cfg: CheckConfig | EvalConfig) -> list[DataIssue]:
    """Look at every file of a data set, print what is wrong, and write the whole list to check_data.csv.

    Args:
        cfg: Names the data set, or a checkpoint whose data set is meant.

    Returns:
        What was found, if nothing of it is bad.

    Raises:
        DataError: If something is bad, after everything has been looked at and written.
        CheckpointError: If the checkpoint is none of ours.
    """
    record.silence_libraries()
    data, folder, classes = _asked_for(cfg)
    datamodule = build_datamodule(data.task, **data.model_dump(exclude={"task"}), known_classes=classes)
    datamodule.prepare_data()
    inspection = Inspection(datamodule.reader)
    console = build_console()
    workers = cfg.check.num_workers or num_cores()
    looking = inspection.inspect_samples(workers if workers > 1 else 0)
    title = f"{data.name}: looking at {len(inspection):,} samples"
    for _ in track(looking, title, total=len(inspection), console=console, disable=not len(inspection)):
        pass
    found = inspection.collect_issues()
    path = folder / "check_data.csv"
    write_issues(path, found)
    _print(console, found, data.root, cfg.check.num_rows)
    for what, text in datamodule.reader.facts.items():
        console.print(f"{what}: {text}", soft_wrap=True, highlight=False, markup=False)
    counts = Counter(issue.is_bad for issue in found)
    sizes = ", ".join(f"{inspector.split} {len(inspector):,}" for inspector in inspection.inspectors)
    told = f"{len(inspection):,} samples ({sizes or 'none could be found'}), {counts[False]} notes"
    if counts[True]:
        subject = f"data set {data.name}, data.root={data.root}"
        raise DataError(f"{subject}: {counts[True]} bad; {told}; all are in {path}")
    console.print(f"{data.name}: nothing bad in {told}. Written: {path}", soft_wrap=True)
    return found


def _asked_for(cfg: CheckConfig | EvalConfig) -> tuple[AnyData, Path, tuple[str, ...]]:
    """The data set, where the list goes, and the classes that a trained network knows."""
    if isinstance(cfg, CheckConfig):
        return cfg.data, Path(cfg.output or Path(cfg.run_root, "checks", cfg.data.name)), ()
    path = find_checkpoint(cfg.ckpt, runs_root=cfg.run_root)
    checkpoint = load_checkpoint(path)
    data = override_data(read_checkpoint_config(path, checkpoint), cfg)
    kept = checkpoint["kanvision"]
    return data, results_folder(cfg, path, kept["config"], "eval"), tuple(kept.get("class_names", ()))


def _print(console: Console, found: Sequence[DataIssue], root: str | None, rows: int) -> None:
    """A table of the first issues, with paths below the root."""
    if not found:
        return
    table = Table("", "split", "file", "what is wrong; what would be right")
    table.columns[2].overflow = table.columns[3].overflow = "fold"
    prefix = f"{Path(root).expanduser()}/" if root is not None else ""
    for issue in found[:rows]:
        kind, text = (
            "bad" if issue.is_bad else "note",
            "; ".join(filter(None, (issue.wrong, issue.right))),
        )
        words = (text.replace(prefix, "") if prefix else text, issue.file.removeprefix(prefix))
        table.add_row(kind, issue.split, words[1], words[0])
    console.print(table)
    if len(found) > rows:
        console.print(f"and {len(found) - rows} more (check.num_rows={rows})")
