"""Picture files as Pillow opens them: formats that are pictures, a limit of pixels, upright."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import IO, Final, NamedTuple

from PIL import ExifTags, Image

__all__ = [
    "MAX_PIXELS",
    "PictureError",
    "check_pixels",
    "has_more_bits",
    "open_picture",
    "picture_formats",
    "pixel_limit",
    "read_orientation",
    "turn_upright",
]

MAX_PIXELS: Final = 178_956_970
"""Most pixels of an image unless a configuration says otherwise; Pillow's own limit."""

UNUSED: Final = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"}
"""Formats of Pillow that run another program, open a second file of any format, or hold no picture."""
USUAL: Final = {"BMP", "GIF", "JPEG", "PNG", "PPM"}
EXIF_IN_PNG: Final = ("exif", "Raw profile type exif", "XML:com.adobe.xmp")
LATE_EXIF: Final = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
"""Beginnings of EXIF data in a PNG file, which may stand behind its pixels."""
TAIL: Final = 2**16

TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture upright, by its EXIF orientation."""


class PictureError(ValueError):
    """A sound file is refused; the message lacks its name, and says what would be right."""


class _Limit(NamedTuple):
    most: int | None
    key: str


DEFAULT: Final = _Limit(MAX_PIXELS, "data.max_pixels")
_LIMIT: ContextVar[_Limit] = ContextVar("pixel_limit", default=DEFAULT)
_OPENING = threading.Lock()


@contextmanager
def pixel_limit(most: int | None, key: str = "data.max_pixels") -> Iterator[None]:
    """Set the most pixels of an image that this thread reads whole.

    A file of some kilobytes can claim to hold billions of pixels, which would fill the memory.

    Args:
        most: Height times width; None: no limit.
        key: Configuration key of the limit, for messages.
    """
    token = _LIMIT.set(_Limit(most, key))
    try:
        yield
    finally:
        _LIMIT.reset(token)


def check_pixels(height: int, width: int) -> None:
    """Refuse an image that is too large to be read whole.

    Raises:
        PictureError: If it has more pixels than `pixel_limit` allows.
    """
    limit = _LIMIT.get()
    if limit.most is not None and height * width > limit.most:
        raise PictureError(
            f"has {width} x {height} pixels, more than {limit.key}={limit.most}; "
            f"set {limit.key}={height * width} if the file is what it should be"
        )


@lru_cache(maxsize=1)
def picture_formats() -> tuple[str, ...]:
    """Return the formats that are read as pictures, in the order in which Pillow tries them."""
    Image.init()
    return tuple(
        sorted((name for name in Image.ID if name not in UNUSED), key=lambda name: name not in USUAL)
    )


@contextmanager
def open_picture(file: Path | IO[bytes]) -> Iterator[Image.Image]:
    """Open a picture of a legal format; its pixels are not decoded yet.

    Raises:
        PictureError: If it has more pixels than `pixel_limit` allows.
        OSError: If it cannot be opened, or has another format.
    """
    with _OPENING:
        # Pillow has one limit for the whole process.
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            picture = Image.open(file, formats=picture_formats())
        finally:
            Image.MAX_IMAGE_PIXELS = before
    with picture:
        check_pixels(picture.height, picture.width)
        yield picture


def read_orientation(picture: Image.Image) -> int:
    """Return how a picture is stored, as EXIF numbers it: 1 is upright, 2 to 8 are mirrored or turned.

    The pixels of a PNG file are decoded only if an orientation may stand behind them.
    """
    if picture.format == "TIFF":  # Pillow turns it, and gives its size upright
        return 1
    if picture.format == "PNG" and not (
        any(name in picture.info for name in EXIF_IN_PNG) or _may_have_late_exif(picture)
    ):
        return 1
    try:
        found = picture.getexif().get(ExifTags.Base.Orientation, 1)
    # EXIF data are written by anybody, and damaged ones say nothing about the pixels.
    except Exception:
        return 1
    return int(found) if found in range(1, 9) else 1


def turn_upright(picture: Image.Image) -> Image.Image:
    """Return a decoded picture upright, as its EXIF orientation says."""
    turn = TURNS.get(read_orientation(picture))
    return picture if turn is None else picture.transpose(turn)


def has_more_bits(picture: Image.Image) -> bool:
    """Return whether a picture that is not decoded yet has more bits a channel than Pillow keeps."""
    if picture.mode.startswith(("I", "F")) or not (tiles := getattr(picture, "tile", None)):
        return False
    if picture.format == "JPEG2000":
        start = _read_part(picture, 0, TAIL)
        offset = start.find(b"\xff\x4f\xff\x51") + 42  # the bits of the first channel, in the codestream
        return 42 <= offset < len(start) and (start[offset] & 0x7F) >= 8
    args = tiles[0][3]
    args = args if isinstance(args, tuple) else (args,)
    if picture.format == "PPM":
        return isinstance(args[-1], int) and args[-1] > 255
    return ";16" in str(args[0])


def _may_have_late_exif(picture: Image.Image) -> bool:
    if getattr(picture, "fp", None) is None:  # decoded already, so that everything is known
        return True
    end = _read_part(picture, -TAIL, TAIL)
    return any(word in end for word in LATE_EXIF)


def _read_part(picture: Image.Image, start: int, length: int) -> bytes:
    """Bytes of the file of a picture from a place on, counted from the end if negative."""
    file: IO[bytes] = picture.fp  # type: ignore[attr-defined]
    before, size = file.tell(), file.seek(0, os.SEEK_END)
    file.seek(max(0, size + start) if start < 0 else start)
    content = file.read(length)
    file.seek(before)
    return content
