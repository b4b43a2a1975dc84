"""Tables and notes on predictions."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from kanvision.prediction import MaskPredictor, Outcome

__all__ = ["FileRow", "mask_notes", "print_classes", "print_image_classes", "print_masks", "write_table"]

MAX_ROWS = 20
MAX_OFFSET = 3.0
"""Standard deviations by which the mean of an image may differ from that of the training images."""
MAX_REDUCTION = 2
"""Factor by which an image may be reduced before a note is printed."""


class FileRow(NamedTuple):
    """Result of one file."""

    name: str
    outcome: Outcome
    tiles: int | None
    """Number of tiles; None: the image was resized."""
    seconds: float


def write_table(path: Path, rows: Sequence[FileRow], classes: Sequence[str]) -> None:
    """Write a row per image: size, pixels without a class, shares of the classes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(
            ["file", "width", "height", "no_data", "undecided", *(f"share_{name}" for name in classes)]
        )
        for row in rows:
            height, width = row.outcome.size
            shares = [f"{share:.6f}" for share in row.outcome.shares]
            table.writerow([row.name, width, height, row.outcome.no_data, row.outcome.undecided, *shares])


def print_classes(console: Console, counts: Counter[str], total: int, seconds: float) -> None:
    """Print the number of images of each class."""
    table = Table("class", "images", "share")
    for name, count in counts.most_common(MAX_ROWS):
        table.add_row(name or "none: the network gave no number", str(count), f"{count / total:.1%}")
    if len(counts) > MAX_ROWS:
        rest = sum(count for _, count in counts.most_common()[MAX_ROWS:])
        table.add_row(f"{len(counts) - MAX_ROWS} more", str(rest), f"{rest / total:.1%}")
    console.print(table)
    console.print(f"{total} images in {seconds:.1f} s")


def print_image_classes(console: Console, table: Path) -> None:
    """Print the most probable classes of the only image of a table of predictions."""
    with table.open(newline="", encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    if not row["class"]:
        return
    rest = [
        f"{row[f'class_{rank}']} {float(row[f'probability_{rank}']):.1%}"
        for rank in range(2, 6)
        if row.get(f"class_{rank}")
    ]
    more = f" (then {', '.join(rest)})" if rest else ""
    text = f"{row['file']}: {row['class']} {float(row['probability']):.1%}{more}"
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def print_masks(console: Console, rows: Sequence[FileRow], predictor: MaskPredictor) -> None:
    """Print the result of each image."""
    table = Table("file", "pixels", "predicted as", "no data", "classes", "seconds")
    for row in rows[:MAX_ROWS]:
        (height, width), found = row.outcome.size, zip(predictor.foreground, row.outcome.shares, strict=True)
        method = (
            f"{row.tiles} tiles of {predictor.tile}"
            if row.tiles
            else f"{predictor.img_size} x {predictor.img_size}"
        )
        best = sorted(found, key=lambda item: -item[1])[:3]
        shares = "\n".join(f"{name} {share:.1%}" for name, share in best)
        empty = row.outcome.no_data + row.outcome.undecided
        table.add_row(
            row.name,
            f"{width} x {height}",
            method,
            f"{empty / (height * width):.1%}" if empty else "",
            shares,
            f"{row.seconds:.1f}",
        )
    if len(rows) > MAX_ROWS:
        table.add_row(
            f"{len(rows) - MAX_ROWS} more", "", "", "", "", f"{sum(r.seconds for r in rows[MAX_ROWS:]):.1f}"
        )
    console.print(table)


def mask_notes(rows: Sequence[FileRow], predictor: MaskPredictor) -> Iterator[str]:
    """Yield notes on results that may be wrong."""
    for verb, name in (("hold no data", "no_data"), ("got no number from the network", "undecided")):
        counts = {row.name: getattr(row.outcome, name) for row in rows if getattr(row.outcome, name)}
        if counts:
            pixels = f"{sum(counts.values()):,} pixels in {_files(list(counts))}"
            yield f"{pixels} {verb}; masks have {predictor.no_data} there"
    far = {
        row.name: offset
        for row in rows
        if (offset := max(row.outcome.offsets, key=abs)) and abs(offset) > MAX_OFFSET
    }
    if far:
        worst = max(far.values(), key=abs)
        yield (
            f"{_files(list(far))}: values lie up to {abs(worst):.1f} standard deviations off those of "
            "the training images; are they scaled alike (predict.max_value, predict.bands)?"
        )
    limit = MAX_REDUCTION * predictor.img_size
    large = [row.name for row in rows if row.tiles is None and math.sqrt(math.prod(row.outcome.size)) > limit]
    if large:
        yield (
            f"{_files(large)}: resized to {predictor.img_size} x {predictor.img_size}, as evaluation does; "
            f"predict.tile={predictor.img_size} keeps their own resolution"
        )


def _files(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more files"
