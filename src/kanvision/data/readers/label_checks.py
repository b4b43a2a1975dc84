"""Checks of the stored values of masks against the mode in which they are read, with remedies to type.

K classes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from kanvision.data.files.mask_values import MaskValues, format_value, format_values, is_color

__all__ = ["check_foreground", "check_labels", "find_absent_labels"]

BORDERS: Final = (255, 65535)
"""Values with which data sets mark pixels that do not count."""
MANY, BRIGHT = 8, 223
"""Number of gray levels, and level of the brightest, that may be black and white with soft edges."""


def check_foreground(values: MaskValues, mode: str, ignore_index: int | None) -> list[str]:
    """Return the problem of several stored values that would become one foreground, if there is one.

    Args:
        values: Stored values of the masks.
        mode: binary or multilabel.
        ignore_index: Value of pixels that do not count.
    """
    found = sorted(set(values.pixels) - {0, ignore_index})
    if len(found) < 2:
        return []
    several = f"{values.files[found[-1]]}: the masks hold {format_values(found)} besides 0"
    merged = f"data.mode={mode} would make {'both' if len(found) == 2 else 'all'} of them one foreground"
    border = _border(found)
    if len(found) >= MANY and BRIGHT <= found[-1] <= 255 and found[-2] > 127:
        fix = "data.threshold=127 keeps the bright ones, if they are soft edges of black and white"
    elif border is not None and len(found) == 2:
        fix = f"data.ignore_index={border} if pixels of {border} do not count"
    elif mode == "multilabel":
        fix = "a folder for each class"
    elif any(map(is_color, found)) or _is_sparse([0, *found[: -1 if border else None]]):
        is_colored = any(map(is_color, found))
        fix = f"data.mode=multiclass and {_palette([0, *found], as_color=is_colored)} tell them apart"
    else:
        ignored = "" if border is None else f" data.ignore_index={border}"
        fix = f"data.mode=multiclass{ignored} tells them apart"
    return [
        f"{several}, and {merged}; {fix}, data.foreground=all merges them, and data.foreground=[...] chooses"
    ]


def check_labels(values: MaskValues, ignore_index: int | None) -> list[str]:
    """Return the problem of labels that are not class numbers, if there is one.

    Args:
        values: Stored values of all masks.
        ignore_index: Label of pixels that do not count.
    """
    found = sorted(set(values.pixels) - {ignore_index})
    if not found:
        return []
    if found[0] < 0:
        fix = f"data.ignore_index={found[0]} if these pixels do not count, or data.palette names classes"
        return [f"{values.files[found[0]]}: holds label {found[0]}, and classes are numbered from 0; {fix}"]
    largest, rest = found[-1], found[:-1]
    others = format_values(rest or [0])
    here = f"{values.files[largest]}: holds label {largest}, where the masks hold {others} besides"
    count = f"data.num_classes={largest + 1} if there are that many classes"
    border, ways = _border(found), []
    if border is not None:
        ways.append(f"data.ignore_index={border} if these pixels do not count")
        if rest in ([], [0]):
            ways.append("data.mode=binary if it is the foreground")
    if _is_sparse(found if border is None else rest or [0]):
        ways.append(f"{_palette(found)} names the classes")
    return [f"{here}; {', '.join(ways)}, or {count}"] if ways else []


def find_absent_labels(values: MaskValues, num_classes: int) -> list[int]:
    """Return the labels below `num_classes` that no mask holds."""
    return [label for label in range(num_classes) if label not in values.pixels]


def _palette(codes: Sequence[int], *, as_color: bool = False) -> str:
    """Return the typed form of a palette of values, with 0x for #, which a command line does not allow."""
    keys = (format_value(code, as_color=as_color).replace("#", "0x") for code in codes[:3])
    more = ",..." * (len(codes) > 3)
    return f"'data.palette={{{','.join(f'{key}:<class>' for key in keys)}{more}}}'"


def _is_sparse(found: Sequence[int]) -> bool:
    """Return True if most numbers up to the largest are missing, so that they are hardly class numbers."""
    return 2 * len(found) < found[-1] + 1


def _border(found: Collection[int]) -> int | None:
    """Return the largest value if it marks pixels that do not count, because it is far from all others."""
    *rest, largest = sorted(found)
    return largest if largest in BORDERS and max(rest, default=0) < largest - 1 else None
