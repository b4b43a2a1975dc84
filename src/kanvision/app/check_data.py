"""Command `eval.py mode=check_data`: check every file of a data set before a run reads it."""

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
from kanvision.console import build_console, silence_libraries
from kanvision.data import DataError, build_datamodule
from kanvision.data.cores import num_cores
from kanvision.data.inspection import DataIssue, Inspection, write_issues

from .checkpoint_record import read_checkpoint_config
from .restore import override_data
from .results_folder import results_folder

__all__ = ["check_data"]


def check_data(cfg: CheckConfig | EvalConfig) -> list[DataIssue]:
    """Check every file of a data set; print the issues, write all to check_data.csv, and return them.

    Raises:
        DataError: If an issue is an error, after all files were checked and all issues written.
        CheckpointError: If the checkpoint is none of ours.
    """
    silence_libraries()
    data, folder, classes = _resolve_data(cfg)
    datamodule = build_datamodule(data.task, **data.model_dump(exclude={"task"}), known_classes=classes)
    datamodule.prepare_data()
    inspection = Inspection(datamodule.reader)
    console = build_console()
    workers = cfg.check.num_workers or num_cores()
    samples = inspection.inspect_samples(workers if workers > 1 else 0)
    title = f"{data.name}: checking {len(inspection):,} samples"
    for _ in track(samples, title, total=len(inspection), console=console, disable=not len(inspection)):
        pass
    issues = inspection.collect_issues()
    path = folder / "check_data.csv"
    write_issues(path, issues)
    _print_issues(console, issues, data.root, cfg.check.num_rows)
    for name, text in datamodule.reader.facts.items():
        console.print(f"{name}: {text}", soft_wrap=True, highlight=False, markup=False)
    counts = Counter(issue.is_bad for issue in issues)
    sizes = ", ".join(f"{inspector.split} {len(inspector):,}" for inspector in inspection.inspectors)
    checked = f"{len(inspection):,} samples ({sizes or 'none could be found'}), {counts[False]} notes"
    if counts[True]:
        subject = f"data set {data.name}, data.root={data.root}"
        raise DataError(f"{subject}: {counts[True]} bad; {checked}; all are in {path}")
    console.print(f"{data.name}: nothing bad in {checked}. Written: {path}", soft_wrap=True)
    return issues


def _resolve_data(cfg: CheckConfig | EvalConfig) -> tuple[AnyData, Path, tuple[str, ...]]:
    """Return the data set, the folder of the results, and the class names of a trained model."""
    if isinstance(cfg, CheckConfig):
        return cfg.data, Path(cfg.output or Path(cfg.run_root, "checks", cfg.data.name)), ()
    path = find_checkpoint(cfg.ckpt, runs_root=cfg.run_root)
    checkpoint = load_checkpoint(path)
    data = override_data(read_checkpoint_config(path, checkpoint), cfg)
    saved = checkpoint["kanvision"]
    return data, results_folder(cfg, path, saved["config"], "eval"), tuple(saved.get("class_names", ()))


def _print_issues(console: Console, issues: Sequence[DataIssue], root: str | None, num_rows: int) -> None:
    """Print the first issues as a table, with paths relative to the root."""
    if not issues:
        return
    table = Table("", "split", "file", "what is wrong; what would be right")
    table.columns[2].overflow = table.columns[3].overflow = "fold"
    prefix = f"{Path(root).expanduser()}/" if root is not None else ""
    for issue in issues[:num_rows]:
        kind = "bad" if issue.is_bad else "note"
        text = "; ".join(filter(None, (issue.wrong, issue.right)))
        text = text.replace(prefix, "") if prefix else text
        table.add_row(kind, issue.split, issue.file.removeprefix(prefix), text)
    console.print(table)
    if len(issues) > num_rows:
        console.print(f"and {len(issues) - num_rows} more (check.num_rows={num_rows})")
