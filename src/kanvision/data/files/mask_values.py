"""Codes for the stored values of masks, which are numbers or colors, and counts of the codes.

H W space.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MaskValues",
    "count_values",
    "encode_colors",
    "format_value",
    "format_values",
    "is_color",
    "parse_value",
    "split_color",
]

Codes = NDArray[np.int64]

COLOR: Final = 1 << 32
"""Smallest code of a color; a smaller code is the stored number itself."""
KEY: Final = re.compile(r"(?:#|0x)(?P<color>[0-9a-f]{6})|(?P<number>-?\d+)", re.IGNORECASE)
MAX_LISTED: Final = 6


def encode_colors(planes: NDArray[Any]) -> Codes:
    """Return the codes (H, W) of 8-bit RGB pixels (3, H, W); the code of a gray pixel is its level."""
    red, green, blue = planes.astype(np.int64)
    is_gray = (red == green) & (green == blue)
    codes: Codes = np.where(is_gray, red, COLOR | red << 16 | green << 8 | blue)
    return codes


def is_color(code: int) -> bool:
    """Return True if a code is a color that is not gray."""
    return code >= COLOR


def split_color(code: int) -> tuple[int, int, int]:
    """Return red, green and blue of a code; a number becomes the gray of its level."""
    if not is_color(code):
        return code, code, code
    return code >> 16 & 255, code >> 8 & 255, code & 255


def format_value(code: int, *, as_color: bool = False) -> str:
    """Return a code as it is typed: 7, or #ff0000 for a color.

    Args:
        code: The code.
        as_color: Write a gray level as a color too.
    """
    if is_color(code) or (as_color and 0 <= code <= 255):
        return "#{:02x}{:02x}{:02x}".format(*split_color(code))
    return str(code)


def parse_value(text: str) -> tuple[int, bool]:
    """Return the code of a typed value, and True if it is typed as a color.

    Raises:
        ValueError: If it is neither a color nor a number.
    """
    match = KEY.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text} is neither a color nor a number; legal: #rrggbb, 0xrrggbb, or a stored number"
        )
    if (number := match["number"]) is not None:
        return int(number), False
    color = int(match["color"], 16)
    return int(encode_colors(np.array(split_color(COLOR | color)).reshape(3, 1, 1))[0, 0]), True


def format_values(codes: Iterable[int], *, as_color: bool = False) -> str:
    """Return codes as text: 0, 1 and 2, or the first and the last of many."""
    names = [format_value(code, as_color=as_color) for code in sorted(codes)]
    if len(names) > MAX_LISTED:
        return f"{', '.join(names[:3])}, ..., {names[-1]} ({len(names)} values)"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


@dataclass(frozen=True)
class MaskValues:
    """Counts of the stored values of masks.

    Attributes:
        num_masks: Number of masks that were counted.
        num_all: Number of masks of the data set.
        pixels: Number of pixels of each code.
        files: First file that holds each code.
    """

    num_masks: int = 0
    num_all: int = 0
    pixels: Counter[int] = field(default_factory=Counter)
    files: dict[int, Path] = field(default_factory=dict)

    def describe(self, ignore_index: int | None = None, names: Callable[[int], str] = format_value) -> str:
        """Return a text of the values with their shares of the pixels, the most frequent values first."""
        total, shares = sum(self.pixels.values()), []
        for code, num_pixels in self.pixels.most_common(MAX_LISTED):
            ignored = ", not counted" if code == ignore_index else ""
            shares.append(f"{names(code)} ({num_pixels / total:.1%}{ignored})")
        if (more := len(self.pixels) - MAX_LISTED) > 0:
            shares.append(f"{more} more values")
        count = (
            f"all {self.num_all:,}"
            if self.num_masks == self.num_all
            else f"{self.num_masks:,} of {self.num_all:,}"
        )
        return f"{', '.join(shares)} in {count} masks"


def count_values(
    paths: Sequence[Path], read: Callable[[Path], Codes], num_all: int
) -> tuple[MaskValues, list[str]]:
    """Count the values of masks.

    Args:
        paths: Mask files.
        read: Reads the codes (H, W) of a file; raises ValueError for a file that cannot be used.
        num_all: Number of masks of the data set.

    Returns:
        The counts, and the problems with files that cannot be used.
    """

    def count(path: Path) -> tuple[dict[int, int], str]:
        try:
            codes, counts = np.unique(read(path), return_counts=True)
        except ValueError as problem:
            return {}, str(problem)
        return dict(zip(codes.tolist(), counts.tolist(), strict=True)), ""

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(count, paths))
    problems = [problem for _, problem in found if problem]
    values = MaskValues(len(paths) - len(problems), num_all)
    for path, (counts, _) in zip(paths, found, strict=True):
        values.pixels.update(counts)
        for code in counts:
            values.files.setdefault(code, path)
    return values, problems
