"""Palettes of masks, which name the class of each stored color or number.

K classes, H W space.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from numpy.typing import NDArray

from .image_mask_pairs import MaskPart
from .mask_pixels import detect_lossy_format, read_label_values
from .mask_values import Codes, encode_colors, format_values, parse_value, split_color
from .pixels import FileError, read_pixels

__all__ = ["IGNORE", "Palette", "PaletteMask", "load_palette"]

IGNORE: Final = "ignore"
"""Name of the class whose pixels do not count."""
LARGEST_NUMBER: Final = 65535
COLUMNS: Final = "name with one of color, value, or r, g and b"


@dataclass(frozen=True)
class Palette:
    """Mapping from the stored values of masks to classes.

    Attributes:
        given: Class name of each value as it was typed.
        names: Class names, (K,), in the order in which they were given.
        labels: Label of each code; None for pixels that do not count.
        by_color: Values are colors, not stored numbers.
    """

    given: Mapping[str, str]
    names: tuple[str, ...]
    labels: Mapping[int, int | None]
    by_color: bool

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Palette:
        """Return the palette of a mapping from colors or numbers to names of classes.

        Raises:
            ValueError: If a key is neither a color nor a number or is given twice, or the palette names fewer
                than two classes.
        """
        codes = {key: parse_value(key) for key in given}
        typed = {is_typed_color for _, is_typed_color in codes.values()}
        if len(typed) == 2:
            raise ValueError("mixes colors and numbers; a level of gray is #555555 among colors")
        if large := [key for key, (code, color) in codes.items() if not color and code > LARGEST_NUMBER]:
            raise ValueError(f"{large[0]} is not a 16-bit number; a color must be quoted in yaml: '#rrggbb'")
        names = tuple(dict.fromkeys(name for name in given.values() if name != IGNORE))
        if len(names) < 2:
            raise ValueError(f"names {len(names)} classes; give at least two, the first one being background")
        labels: dict[int, int | None] = {}
        for key, (code, _) in codes.items():
            if code in labels:
                raise ValueError(f"{key} is given twice; keep one of them")
            labels[code] = None if given[key] == IGNORE else names.index(given[key])
        return cls(dict(given), names, labels, typed == {True})

    @property
    def colors(self) -> tuple[tuple[int, int, int], ...]:
        """Red, green and blue of the first color of each class, (K,); empty for numbers."""
        if not self.by_color:
            return ()
        first: dict[int | None, int] = {}
        for code, label in self.labels.items():
            first.setdefault(label, code)
        return tuple(split_color(first[label]) for label in range(len(self.names)))

    def read(self, path: Path) -> Codes:
        """Return the codes of a mask, (H, W).

        Raises:
            FileError: If the file cannot be read, or does not hold colors where the palette names them.
        """
        if not self.by_color:
            return read_label_values(path)
        pixels = read_pixels(path)
        if len(pixels) not in (1, 3):
            raise FileError(f"{path}: has {len(pixels)} channels; a mask of colors has red, green and blue")
        if pixels.dtype != np.uint8:
            raise FileError(f"{path}: its colors are {pixels.dtype.name}; those of data.palette have 8 bits")
        return encode_colors(np.broadcast_to(pixels, (3, *pixels.shape[1:])))


@dataclass(frozen=True)
class PaletteMask:
    """Reader of a mask whose colors or numbers a palette names.

    Attributes:
        palette: Mapping from stored values to classes.
        ignore_index: Label of pixels that do not count; None: the palette names none.
    """

    palette: Palette
    ignore_index: int | None = None

    def read_values(self, path: Path) -> Codes:
        """Return the stored colors or numbers of one file, (H, W)."""
        return self.palette.read(path)

    def __call__(self, paths: Sequence[Path]) -> dict[MaskPart, NDArray[np.int64]]:
        """Return `mask`, (H, W)."""
        (path,) = paths
        codes = self.read_values(path)
        known = np.array(sorted(self.palette.labels), dtype=np.int64)
        indices = np.searchsorted(known, codes).clip(max=len(known) - 1)
        if (is_unknown := known[indices] != codes).any():
            raise FileError(self._describe_unknown(path, codes[is_unknown]))
        labels = (self.palette.labels[code] for code in known.tolist())
        numbers = np.array(
            [self.ignore_index if label is None else label for label in labels], dtype=np.int64
        )
        return {"mask": numbers[indices]}

    def _describe_unknown(self, path: Path, codes: Codes) -> str:
        values, as_color = np.unique(codes).tolist(), self.palette.by_color
        what = "color" if as_color else "value"
        listed = f"{what}{'s' * (len(values) > 1)} {format_values(values, as_color=as_color)}"
        fix = f"name the class of each, which may be {IGNORE} (its label is data.ignore_index)"
        if kind := detect_lossy_format(path):
            fix = f"{kind} does not keep colors: save masks as PNG"
        return f"{path}: holds the {listed} in {len(codes)} pixels, which data.palette does not name; {fix}"


def load_palette(setting: str | Mapping[str, str]) -> Palette:
    """Return the palette of `data.palette`, which is a mapping or a file (.csv, .yaml, .yml) with one.

    Raises:
        ValueError: If the file cannot be read, or its content or the mapping is not a palette.
    """
    if not isinstance(setting, str):
        try:
            return Palette.parse(setting)
        except ValueError as problem:
            raise ValueError(f"data.palette: {problem}") from None
    path = Path(setting).expanduser()
    try:
        if path.suffix.lower() not in (".csv", ".yaml", ".yml"):
            raise ValueError("is not a table; legal: a .csv, .yaml or .yml file, or the mapping itself")
        with path.open(newline="", encoding="utf-8-sig") as file:
            given = (
                _parse_csv(csv.DictReader(file)) if path.suffix.lower() == ".csv" else yaml.safe_load(file)
            )
        if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given.values()):
            raise ValueError("must map each color or number to the name of its class")
        return Palette.parse({str(key): name for key, name in given.items()})
    except (OSError, ValueError, yaml.YAMLError) as problem:
        reason = getattr(problem, "strerror", None) or " ".join(str(problem).split())
        raise ValueError(f"data.palette={setting}: {reason}") from None


def _parse_csv(table: Any) -> dict[str, str]:
    """Return the mapping of a table, whose column names may be in upper or lower case."""
    given: dict[str, str] = {}
    for number, row in enumerate(table, start=2):
        cells = {str(key).strip().lower(): str(value or "").strip() for key, value in row.items()}
        key = cells.get("color") or cells.get("value")
        if key is None and {"r", "g", "b"} <= cells.keys():
            levels = [cells[channel] for channel in "rgb"]
            if not all(level.isdecimal() and int(level) <= 255 for level in levels):
                raise ValueError(f"line {number} has r, g, b = {', '.join(levels)}; legal: 0 to 255")
            key = "#{:02x}{:02x}{:02x}".format(*map(int, levels))
        if not key or not cells.get("name"):
            raise ValueError(f"line {number} must have the columns {COLUMNS}")
        if key in given:
            raise ValueError(f"line {number} gives {key} a second time; keep one of them")
        given[key] = cells["name"]
    return given
