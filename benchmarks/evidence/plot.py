"""Drawing of a table: the mean of each row with its interval, and the mean of the baseline as a line."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from .results import TableResult

__all__ = ["draw_table"]

LINE, LABELS, WIDTH, MARGIN = 22, 190, 420, 20
"""Height of a row, width of the names, width of the scale, and margin, in pixels."""
COLORS = {"better": "#2e7d32", "worse": "#c62828", "not separated": "#607d8b", None: "#212121"}
"""Color of a row by its verdict; that of the baseline is black."""


def draw_table(table: TableResult) -> str:
    """Return the picture as SVG, the best row first."""
    bounds = [bound for row in table.rows for bound in (*row.score.interval, row.score.mean)]
    low, high = min(bounds), max(bounds)
    scale = WIDTH / max(high - low, 1e-9)

    def place(score: float) -> float:
        return LABELS + MARGIN + (score - low) * scale

    height = LINE * (len(table.rows) + 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LABELS + WIDTH + 3 * MARGIN}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="100%" height="{height}" fill="white"/>',
    ]
    if table.baseline is not None:
        x = place(table.baseline.score.mean)
        parts.append(
            f'<path d="M{x:.1f} {LINE / 2}V{height - LINE}" stroke="#9e9e9e" stroke-dasharray="4 3"/>'
        )
    for number, row in enumerate(table.rows):
        parts += _draw_row(row.name, row.score.mean, row.score.interval, COLORS[row.verdict], number, place)
    for score, anchor in ((low, "start"), (high, "end")):
        parts.append(
            f'<text x="{place(score):.1f}" y="{height - 6}" text-anchor="{anchor}">{score:.2f} %</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _draw_row(
    name: str,
    mean: float,
    interval: tuple[float, float],
    color: str,
    number: int,
    place: Callable[[float], float],
) -> list[str]:
    y = LINE * (number + 1)
    low, high = map(place, interval)
    return [
        f'<text x="{LABELS}" y="{y + 4}" text-anchor="end" fill="{color}">{escape(name)}</text>',
        f'<path d="M{low:.1f} {y}H{high:.1f}" stroke="{color}" stroke-width="2"/>',
        f'<circle cx="{place(mean):.1f}" cy="{y}" r="4" fill="{color}"/>',
    ]
