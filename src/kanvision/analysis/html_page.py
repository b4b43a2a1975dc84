"""Static HTML pages of analyses: one file each, with embedded pictures."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from .results import AnalysisResult, ResultTable, cell_text

__all__ = ["PAGE", "SUMMARY", "write_index", "write_page"]

PAGE, SUMMARY = "index.html", "summary.json"
STYLE = """
body { font: 15px/1.45 sans-serif; color: #222; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
img { max-width: 100%; height: auto }
figure { margin: 2rem 0 }
.wide { overflow-x: auto }
figcaption, .caption { color: #444; max-width: 50rem }
table { border-collapse: collapse; font-size: 13px; margin: .5rem 0 1.5rem }
td, th { padding: .15rem .6rem }
th { text-align: left; border-bottom: 1px solid #999 }
td { border-bottom: 1px solid #e5e5e5 }
td.number { text-align: right; font-variant-numeric: tabular-nums }
"""


def write_page(folder: Path, title: str, about: Mapping[str, object], result: AnalysisResult) -> Path:
    """Write the page of an analysis whose files are in the folder already, and return its path.

    The page works without the folder; `about` has checkpoint, data and settings of the analysis.
    """
    parts = [f"<h1>{escape(title)}</h1>", _list(result.sentences)]
    parts += [_figure(folder, picture.name, picture.caption) for picture in result.pictures]
    if result.limits:
        parts += ["<h2>What this does not show</h2>", _list(result.limits)]
    parts += [_table(table) for table in result.tables]
    parts += ["<h2>About</h2>", _rows(((key, _format(value)) for key, value in about.items()), ["", ""])]
    return _write(folder / PAGE, title, parts)


def write_index(root: Path) -> Path:
    """Write an index of the pages of all analyses in the subfolders of a folder, and return its path."""
    parts = ["<h1>Analyses</h1>"]
    for summary in sorted(root.glob(f"*/{SUMMARY}")):
        folder, facts = summary.parent, json.loads(summary.read_text("utf-8"))
        link = f"{folder.name}/{PAGE}"
        parts += [
            f'<h2><a href="{escape(link)}">{escape(facts["title"])}</a></h2>',
            _list(facts["sentences"]),
        ]
        parts += [
            f'<a href="{escape(link)}">'
            f'<img src="{escape(folder.name)}/{escape(name)}.png" width="420" alt=""></a>'
            for name in facts["pictures"][:2]
        ]
        parts.append(f'<p class="caption">{escape(str(facts["checkpoint"]))}</p>')
    return _write(root / PAGE, "Analyses", parts)


def _write(path: Path, title: str, parts: Iterable[str]) -> Path:
    head = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>"
    )
    body = "\n".join(parts)
    path.write_text(f"{head}\n<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n", "utf-8")
    return path


def _format(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_format(each)}" for key, each in value.items())
    return "null" if value is None else str(value)


def _list(sentences: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"


def _figure(folder: Path, name: str, caption: str) -> str:
    data = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
    files = " ".join(f'<a href="{escape(f"{name}.{end}")}">{end}</a>' for end in ("png", "svg"))
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(name)}">'
        f"<figcaption>{escape(caption)} [{files}]</figcaption></figure>"
    )


def _table(table: ResultTable) -> str:
    count = len(table.rows)
    rest = f" {count} rows" + (f", the first {table.num_shown} here" if count > table.num_shown > 0 else "")
    link = f'<a href="{escape(table.name)}.csv">{escape(table.name)}.csv</a>'
    caption = f'<p class="caption"><b>{link}</b>:{rest}. {escape(table.caption)}</p>'
    return caption + (_rows(table.rows[: table.num_shown], table.columns) if table.num_shown else "")


def _rows(rows: Iterable[Sequence[Any]], columns: Sequence[str]) -> str:
    def cell(value: object, tag: str = "td") -> str:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        mark = ' class="number"' if is_number else ""
        return f"<{tag}{mark}>{escape(cell_text(value, digits=4))}</{tag}>"

    head = "".join(cell(column, "th") for column in columns)
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'
