"""Command `eval.py mode=report`: compare runs over seeds and images."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from kanvision.analysis.html_page import write_page
from kanvision.analysis.report_charts import ScoreLine, learning_chart, score_chart
from kanvision.analysis.results import AnalysisResult, Picture, ResultTable
from kanvision.config import CONF, ConfigError, Problem, ReportConfig
from kanvision.config.experiments import Experiment, find_experiment
from kanvision.console import build_console
from kanvision.sweep import Row, Run, SweepTable, read_runs, tables
from kanvision.sweep.comparison import Comparison, compare_rows
from kanvision.sweep.report import markdown_row, mean_and_interval, print_tables, to_csv, to_markdown
from kanvision.sweep.table import MORE_NUMBERS, NUMBERS, Spread

from .run_record import environment

__all__ = ["report"]

LIMITS = (
    "An interval over seeds describes repetitions of the training on these data, not other data.",
    "A test over images describes other images of the same kind, not another seed of the training.",
    "Seconds are comparable on one machine alone, and only if it had no other work.",
)


def report(cfg: ReportConfig) -> dict[str, float]:
    """Compare the runs of some folders; return the mean of the first metric of each row by its settings.

    Writes `report.csv`, `report.md`, pictures, tables of the tests, and a page `index.html` to `cfg.output`
    or `<run_root>/reports/<time>`.

    Raises:
        ConfigError: A folder does not exist, or holds no run.
    """
    runs, problems = list[Run](), list[Problem]()
    for place in cfg.input:
        try:
            runs += read_runs(Path(place).expanduser().resolve())
        except ValueError as error:
            problems.append(Problem(("input",), (f"input={place}",), str(error), "give folders of runs"))
    if problems:
        raise ConfigError(problems)
    runs = list({run.folder: run for run in runs}.values())
    root = Path(os.path.commonpath([run.folder.parent for run in runs]))
    folder = Path(cfg.output or Path(cfg.run_root, "reports", f"{datetime.now():%Y-%m-%d_%H-%M-%S}"))
    found = tables(runs)
    comparisons = [compare_rows(table) for table in found]
    result = _build_result(found, comparisons, root)
    result.write(folder)
    (folder / "report.csv").write_text(to_csv(found, root), "utf-8")
    texts = [
        to_markdown([table], root) + _tests_markdown(each)
        for table, each in zip(found, comparisons, strict=True)
    ]
    (folder / "report.md").write_text("\n".join(texts), "utf-8")
    page = write_page(
        folder, "Report of runs", {"runs": len(runs), "folder": str(root), **environment()}, result
    )
    console = build_console()
    print_tables(found, root, console)
    for sentence in result.sentences:
        console.print(f"- {sentence}", highlight=False, markup=False)
    console.print(f"Written: {page}", soft_wrap=True, highlight=False, markup=False)
    return dict(result.numbers)


def _build_result(
    found: Sequence[SweepTable], comparisons: Sequence[Sequence[Comparison]], root: Path
) -> AnalysisResult:
    sentences: list[str] = []
    numbers: dict[str, float] = {}
    pictures: list[Picture] = []
    shown: list[ResultTable] = []
    for index, (table, compared) in enumerate(zip(found, comparisons, strict=True), 1):
        end = f"_{index}" if len(found) > 1 else ""
        names = {id(row): name_row(row) for row in table.rows}
        sentences += _sentences(table, compared, names)
        by = table.metrics[0] if table.metrics else ""
        published = {id(row): _published(row, by) for row in table.rows}
        lines = [
            ScoreLine(names[id(row)], _values(row, by), row.metrics[by].interval, published[id(row)][0])
            for row in table.rows
            if by in row.metrics
        ]
        numbers |= {f"{by}/{line.name}": sum(line.values) / len(line.values) for line in lines}
        if lines:
            caption = "Dots: seeds; bar: mean; line: 95 % interval of the mean (Student's t)."
            if any(line.published is not None for line in lines):
                caption += " Diamond: published number."
            pictures.append(Picture(f"scores{end}", score_chart(lines, by), caption))
        if curves := _curves(table, names):
            caption = "Mean over the seeds of each setting; thin lines: single seeds."
            pictures.append(Picture(f"curves{end}", learning_chart(curves), caption))
        shown += [_results(table, names, published, f"results{end}"), *_tests(compared, names, f"tests{end}")]
        if table.failures:
            rows = [
                [
                    "failed" if each.is_finished else "not finished",
                    _relative(each.run, root),
                    each.run.seed,
                    each.headline,
                ]
                for each in table.failures
            ]
            shown.append(
                ResultTable(
                    f"missing{end}", ["state", "run", "seed", "reason"], rows, "Runs without a result.", 50
                )
            )
    return AnalysisResult(sentences, LIMITS, numbers, pictures, shown)


def name_row(row: Row) -> str:
    """Return the settings of a row as words of a command line."""
    return " ".join(f"{key}={value}" for key, value in row.settings.items() if value) or _model(row)


def _model(row: Row) -> str:
    runs = [*row.runs, *(failure.run for failure in row.failures)]
    record_of = runs[0].record
    words = [
        record_of.get("model") or runs[0].setting("model"),
        record_of.get("data") or runs[0].setting("data"),
    ]
    return " on ".join(str(word) for word in words if word) or "the defaults"


def _values(row: Row, metric: str) -> list[float]:
    return [float(run.record[metric]) for run in row.runs if isinstance(run.record.get(metric), int | float)]


def _sentences(table: SweepTable, compared: Sequence[Comparison], names: Mapping[int, str]) -> list[str]:
    by = table.metrics[0] if table.metrics else "no metric"
    failed = sum(each.is_finished for each in table.failures)
    rest = [f"{failed} failed"] if failed else []
    rest += [f"{len(table.failures) - failed} not finished"] if failed < len(table.failures) else []
    sentences = [
        f"{table.num_runs} runs in {len(table.rows)} settings, compared by {by}"
        f"{''.join(f', {text}' for text in rest)}."
    ]
    scored = [row for row in table.rows if by in row.metrics]
    if scored:
        best = scored[0].metrics[by]
        spread = "" if best.std is None else f" ± {best.std:.4f}"
        sentences.append(f"Best: {names[id(scored[0])]}, {best.mean:.4f}{spread} ({best.count} seeds).")
    tested = [each for each in compared if each.p_seeds_holm is not None]
    if tested:
        clear = sum(each.p_seeds_holm < 0.05 for each in tested if each.p_seeds_holm is not None)
        sentences.append(
            f"{clear} of {len(tested)} differences are significant over seeds (paired t, Holm, 5 %)."
        )
    elif len(scored) > 1:
        sentences.append("No two settings have two common seeds, so no difference can be tested over seeds.")
    by_image = [each.p_images_holm for each in compared if each.p_images_holm is not None]
    if by_image:
        clear = sum(value < 0.05 for value in by_image)
        sentences.append(f"{clear} of {len(by_image)} differences are significant over images (Holm, 5 %).")
    elif len(scored) > 1:
        sentences.append(
            "No test over images, which needs the scores of images of both runs; eval.py ckpt=<run> writes "
            "them."
        )
    return sentences


def _results(
    table: SweepTable, names: Mapping[int, str], published: Mapping[int, tuple[float | None, str]], name: str
) -> ResultTable:
    main = table.metrics[:1]
    columns = [
        "settings",
        "runs",
        *(f"{metric}{part}" for metric in main for part in ("", " sd", " low", " high")),
    ]
    columns += [*table.metrics[1:], *NUMBERS, *MORE_NUMBERS, "published", "protocol of the published number"]
    rows: list[list[object]] = []
    for row in table.rows:
        cells: list[object] = [names[id(row)], len(row.runs)]
        for metric in main:
            cells += mean_and_interval(row.metrics.get(metric))
        cells += [_mean(row.metrics.get(metric)) for metric in table.metrics[1:]]
        cells += [_mean(row.numbers.get(number)) for number in (*NUMBERS, *MORE_NUMBERS)]
        rows.append([*cells, *published[id(row)]])
    return ResultTable(
        name,
        columns,
        rows,
        "Means over seeds; sd: sample standard deviation; low, high: 95 % interval of the mean (Student's "
        "t). Costs: parameters; FLOPs of one image; seconds, CPU seconds and peak memory of a training. "
        "Published numbers are those of the experiment's card, as fractions.",
        200,
    )


def _mean(spread: Spread | None) -> float | None:
    return None if spread is None else spread.mean


def _tests(compared: Sequence[Comparison], names: Mapping[int, str], name: str) -> list[ResultTable]:
    if not compared:
        return []
    rows = [
        {
            "first": names[id(each.first)],
            "second": names[id(each.second)],
            "seeds": len(each.seeds),
            "difference": each.difference,
            **_ends(each.interval, "low", "high"),
            "p (t)": each.p_seeds,
            "p (t, Holm)": each.p_seeds_holm,
            "p (Wilcoxon)": each.p_wilcoxon,
            "images": each.num_images or None,
            "difference over images": each.difference_images,
            **_ends(each.interval_images, "low (images)", "high (images)"),
            "p (images)": each.p_images,
            "p (images, Holm)": each.p_images_holm,
            "note": each.note,
        }
        for each in compared
    ]
    caption = (
        f"Differences of {compared[0].metric}, first minus second, paired by seed: 95 % interval, paired "
        "t-test, Wilcoxon's test. Over images: mean over the common seeds, bootstrap interval, McNemar's "
        "test (one seed of a classifier) or a paired t-test. Holm: adjusted for the number of tests."
    )
    return [ResultTable(name, list(rows[0]), [list(row.values()) for row in rows], caption, 100)]


def _ends(interval: tuple[float, float] | None, low: str, high: str) -> dict[str, float | None]:
    return dict(zip((low, high), interval or (None, None), strict=True))


def _tests_markdown(compared: Sequence[Comparison]) -> str:
    """Return a table of the tests in Markdown; empty if there are none."""
    if not compared:
        return ""
    heads = ["first", "second", "seeds", "difference", "95 % interval", "p (t, Holm)", "p (images, Holm)"]
    rows = [
        [
            name_row(each.first),
            name_row(each.second),
            str(len(each.seeds)),
            _number(each.difference),
            " to ".join(map(_number, each.interval)) if each.interval else "",
            _number(each.p_seeds_holm),
            _number(each.p_images_holm),
        ]
        for each in compared
    ]
    lines = [heads, [":--"] * 2 + ["--:"] * 5, *rows]
    table = "\n".join(map(markdown_row, lines))
    return f"\n## Paired tests of {compared[0].metric}\n\n{table}\n"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _published(row: Row, metric: str) -> tuple[float | None, str]:
    """Return the published number of a row's experiment as a fraction, and its protocol."""
    experiments = {experiment.name: experiment for run in row.runs if (experiment := _experiment(run))}
    if len(experiments) != 1:
        return None, ""
    (experiment,) = experiments.values()
    value = experiment.published.get(metric.partition("/")[2])
    number = re.match(r"[\d.]+", str(value)) if isinstance(value, str | int | float) else None
    if number is None:
        return None, ""
    return float(number[0]) / 100, f"{experiment.source}; {experiment.protocol or 'protocol not stated'}"


def _experiment(run: Run) -> Experiment | None:
    name = run.record.get("experiment") or run.setting("experiment")
    return find_experiment([CONF], str(name)) if name else None


def _curves(table: SweepTable, names: Mapping[int, str]) -> dict[str, dict[str, list[dict[int, float]]]]:
    """Return the loss of training and the monitored metric of each run by epoch, by metric and row."""
    monitors = {str(run.config.get("monitor")) for row in table.rows for run in row.runs}
    metrics = ["train/loss", *(monitors if len(monitors) == 1 else ())]
    curves: dict[str, dict[str, list[dict[int, float]]]] = {metric: {} for metric in metrics}
    for row in table.rows:
        for run in row.runs:
            for metric, values in _read_log(run.folder / "csv" / "metrics.csv", metrics).items():
                if values:
                    curves[metric].setdefault(names[id(row)], []).append(values)
    return {metric: by_row for metric, by_row in curves.items() if by_row}


def _read_log(path: Path, metrics: Sequence[str]) -> dict[str, dict[int, float]]:
    """Return the last value of each epoch, counted from 1, of some columns of the log of a run."""
    found: dict[str, dict[int, float]] = {metric: {} for metric in metrics}
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                for metric in metrics:
                    if row.get(metric):
                        found[metric][int(row["epoch"]) + 1] = float(row[metric])
    return found


def _relative(run: Run, root: Path) -> str:
    return run.folder.relative_to(root).as_posix()
