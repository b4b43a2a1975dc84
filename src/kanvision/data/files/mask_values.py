"""Stored values of masks: numbers and colors as one kind of code, and how often each is there.

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
    "is_color",
    "is_jpeg",
    "list_values",
    "name_value",
    "parse_value",
    "split_color",
]

Codes = NDArray[np.int64]

COLOR: Final = 1 << 32
"""Codes from here on are colors; a smaller one is the stored number itself."""
KEY: Final = re.compile(r"(?:#|0x)(?P<color>[0-9a-f]{6})|(?P<number>-?\d+)", re.IGNORECASE)
MOST_LISTED: Final = 6


def encode_colors(planes: NDArray[Any]) -> Codes:
    """Return the codes (H, W) of red, green and blue in 8 bits (3, H, W); a gray pixel has its level."""
    red, green, blue = planes.astype(np.int64)
    is_gray = (red == green) & (green == blue)
    codes: Codes = np.where(is_gray, red, COLOR | red << 16 | green << 8 | blue)
    return codes


def is_color(code: int) -> bool:
    """Return whether a code is a color that is not gray."""
    return code >= COLOR


def split_color(code: int) -> tuple[int, int, int]:
    """Return red, green and blue of a code; those of a number are the gray of this level."""
    if not is_color(code):
        return code, code, code
    return code >> 16 & 255, code >> 8 & 255, code & 255


def name_value(code: int, *, as_color: bool = False) -> str:
    """Return a code as one types it: 7, or #ff0000 for a color, and for a gray level if that is wanted."""
    if is_color(code) or (as_color and 0 <= code <= 255):
        return "#{:02x}{:02x}{:02x}".format(*split_color(code))
    return str(code)


def parse_value(text: str) -> tuple[int, bool]:
    """Return the code of a typed value, and whether it is typed as a color.

    Raises:
        ValueError: If it is neither a color nor a number.
    """
    match = KEY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text} is no color and no number; legal: #rrggbb, 0xrrggbb, or a stored number")
    if (number := match["number"]) is not None:
        return int(number), False
    color = int(match["color"], 16)
    return int(encode_colors(np.array(split_color(COLOR | color)).reshape(3, 1, 1))[0, 0]), True


def list_values(codes: Iterable[int], *, as_color: bool = False) -> str:
    """Return codes as a text: 0, 1 and 2, or the first and the last of many."""
    names = [name_value(code, as_color=as_color) for code in sorted(codes)]
    if len(names) > MOST_LISTED:
        return f"{', '.join(names[:3])}, ..., {names[-1]} ({len(names)} values)"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


@dataclass(frozen=True)
class MaskValues:
    """Values that masks hold.

    Attributes:
        num_masks: Number of masks that were looked at.
        num_all: Number of masks that there are.
        pixels: Number of pixels of each code.
        files: The first file that holds each code.
    """

    num_masks: int = 0
    num_all: int = 0
    pixels: Counter[int] = field(default_factory=Counter)
    files: dict[int, Path] = field(default_factory=dict)

    def describe(self, ignore_index: int | None = None, names: Callable[[int], str] = name_value) -> str:
        """Return the values with their shares of the pixels, the most frequent ones first."""
        total, shares = sum(self.pixels.values()), []
        for code, num_pixels in self.pixels.most_common(MOST_LISTED):
            ignored = ", not counted" if code == ignore_index else ""
            shares.append(f"{names(code)} ({num_pixels / total:.1%}{ignored})")
        if (more := len(self.pixels) - MOST_LISTED) > 0:
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
        paths: Their files.
        read: Reads the codes (H, W) of one; raises ValueError for a file that cannot be used.
        num_all: Number of masks that there are.

    Returns:
        The values, and complaints about files that cannot be used.
    """

    def look(path: Path) -> tuple[dict[int, int], str]:
        try:
            codes, counts = np.unique(read(path), return_counts=True)
        except ValueError as problem:
            return {}, str(problem)
        return dict(zip(codes.tolist(), counts.tolist(), strict=True)), ""

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(look, paths))
    problems = [problem for _, problem in found if problem]
    values = MaskValues(len(paths) - len(problems), num_all)
    for path, (counts, _) in zip(paths, found, strict=True):
        values.pixels.update(counts)
        for code in counts:
            values.files.setdefault(code, path)
    return values, problems


def is_jpeg(path: Path) -> bool:
    """Return whether a file holds a JPEG, which changes the values that were saved."""
    with path.open("rb") as file:
        return file.read(3) == b"\xff\xd8\xff"
