"""Image files opened by Pillow, with a list of formats, a limit of pixels and EXIF orientation."""

from __future__ import annotations

import os
import re
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
    "check_pixel_count",
    "detect_lossy_encoding",
    "has_high_bit_depth",
    "list_formats",
    "open_picture",
    "pixel_limit",
    "read_orientation",
    "turn_upright",
]

MAX_PIXELS: Final = 178_956_970
"""Default limit of the number of pixels of an image, which is that of Pillow."""

UNUSED: Final = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"}
"""Formats of Pillow that run another program, open a second file of any format, or hold no image."""
USUAL: Final = {"BMP", "GIF", "JPEG", "PNG", "PPM"}
EXIF_IN_PNG: Final = ("exif", "Raw profile type exif", "XML:com.adobe.xmp")
LATE_EXIF: Final = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
"""Beginnings of EXIF data in a PNG file, which may follow its pixels."""
TAIL: Final = 2**16
LOSSY: Final = {
    **{"JPEG": "a JPEG", "MPO": "a JPEG", "JPEG2000": "a JPEG 2000", "AVIF": "an AVIF"},
    **{"BLP": "a BLP", "DDS": "a DDS", "FTEX": "an FTEX"},
}
"""Formats that change pixels when they are saved, or may have changed them without a trace in the file."""
HIGH_BIT_DEPTH: Final = 0x40
"""Flag of more than 8 bits in the third byte of AVIF's box av1C."""

TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Transposition that turns an image upright, by its EXIF orientation."""


class PictureError(ValueError):
    """Error for an intact file that is refused; the message has the remedy, but not the name of the file."""


class _Limit(NamedTuple):
    max_pixels: int | None
    key: str


DEFAULT: Final = _Limit(MAX_PIXELS, "data.max_pixels")
_LIMIT: ContextVar[_Limit] = ContextVar("pixel_limit", default=DEFAULT)
_OPENING = threading.Lock()


@contextmanager
def pixel_limit(max_pixels: int | None, key: str = "data.max_pixels") -> Iterator[None]:
    """Limit the number of pixels of images that this thread reads inside the block.

    A file of some kilobytes can claim to hold billions of pixels, which would fill the memory.

    Args:
        max_pixels: Largest height times width; None: no limit.
        key: Configuration key of the limit, for messages.
    """
    token = _LIMIT.set(_Limit(max_pixels, key))
    try:
        yield
    finally:
        _LIMIT.reset(token)


def check_pixel_count(height: int, width: int) -> None:
    """Check that an image is small enough to be read whole.

    Raises:
        PictureError: If it has more pixels than `pixel_limit` allows.
    """
    limit = _LIMIT.get()
    if limit.max_pixels is not None and height * width > limit.max_pixels:
        raise PictureError(
            f"has {width} x {height} pixels, more than {limit.key}={limit.max_pixels}; "
            f"set {limit.key}={height * width} to accept the file"
        )


@lru_cache(maxsize=1)
def list_formats() -> tuple[str, ...]:
    """Return the names of the formats that are read, in the order in which Pillow tries them."""
    Image.init()
    return tuple(
        sorted((name for name in Image.ID if name not in UNUSED), key=lambda name: name not in USUAL)
    )


@contextmanager
def open_picture(file: Path | IO[bytes]) -> Iterator[Image.Image]:
    """Open an image of a legal format without decoding its pixels.

    Raises:
        PictureError: If it has more pixels than `pixel_limit` allows.
        OSError: If it cannot be opened, or has another format.
    """
    with _OPENING:
        # Pillow has one limit for the whole process, not one for each thread.
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            picture = Image.open(file, formats=list_formats())
        finally:
            Image.MAX_IMAGE_PIXELS = before
    with picture:
        check_pixel_count(picture.height, picture.width)
        yield picture


def read_orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation of an image: 1 is upright, 2 to 8 are mirrored or rotated.

    The pixels of a PNG file are decoded only if an orientation may follow them.
    """
    if picture.format == "TIFF":  # Pillow turns it upright, size included
        return 1
    if picture.format == "PNG" and not (
        any(name in picture.info for name in EXIF_IN_PNG) or _may_have_late_exif(picture)
    ):
        return 1
    try:
        found = picture.getexif().get(ExifTags.Base.Orientation, 1)
    # Damaged EXIF data do not make the pixels unusable.
    except Exception:
        return 1
    return int(found) if found in range(1, 9) else 1


def turn_upright(picture: Image.Image) -> Image.Image:
    """Return a decoded image turned upright by its EXIF orientation."""
    turn = TURNS.get(read_orientation(picture))
    return picture if turn is None else picture.transpose(turn)


def has_high_bit_depth(picture: Image.Image) -> bool:
    """Return True if an image that is not decoded yet has more bits a channel than Pillow keeps."""
    if picture.mode.startswith(("I", "F")) or not (tiles := getattr(picture, "tile", None)):
        return False
    if picture.format == "JPEG2000":
        start = _read_part(picture, 0, TAIL)
        offset = start.find(b"\xff\x4f\xff\x51") + 42  # bit depth of the first channel in the codestream
        return 42 <= offset < len(start) and (start[offset] & 0x7F) >= 8
    if picture.format == "AVIF":
        start = _read_part(picture, 0, TAIL)
        boxes = re.finditer(rb"av1C.{2}(.)", start, re.DOTALL)  # one for colors, one for transparency
        return any(box[1][0] & HIGH_BIT_DEPTH for box in boxes)
    codec, *_, args = tiles[0]
    args = args if isinstance(args, tuple) else (args,)
    if picture.format == "PPM":
        return isinstance(args[-1], int) and args[-1] > 255
    return codec == "SGI16" or ";16" in str(args[0])


def detect_lossy_encoding(picture: Image.Image) -> str:
    """Return the format of an open picture that does not keep pixels, such as "a JPEG"; else ""."""
    kind = picture.format or ""
    if kind in LOSSY:
        return LOSSY[kind]
    if kind == "WEBP" and b"VP8 " in _webp_chunks(_read_part(picture, 0)):
        return "a lossy WebP"
    return ""


def _webp_chunks(content: bytes, start: int = 12) -> list[bytes]:
    """Return the names of the chunks of a WebP file; those of frames of an animation too."""
    names = []
    while start + 8 <= len(content):
        name, size = content[start : start + 4], int.from_bytes(content[start + 4 : start + 8], "little")
        names.append(name)
        if name == b"ANMF":
            names += _webp_chunks(content[start + 8 : start + 8 + size], 16)
        start += 8 + size + size % 2
    return names


def _may_have_late_exif(picture: Image.Image) -> bool:
    if getattr(picture, "fp", None) is None:  # decoded already, so that all EXIF data are known
        return True
    end = _read_part(picture, -TAIL, TAIL)
    return any(word in end for word in LATE_EXIF)


def _read_part(picture: Image.Image, start: int, length: int = -1) -> bytes:
    """Return bytes of the file of an image from an offset on, which counts from the end if negative."""
    file: IO[bytes] = picture.fp  # type: ignore[attr-defined]
    before, size = file.tell(), file.seek(0, os.SEEK_END)
    file.seek(max(0, size + start) if start < 0 else start)
    content = file.read(length)
    file.seek(before)
    return content
