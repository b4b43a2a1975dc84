"""Inspectors of single images, which read them completely and check their formats and contents."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from PIL import Image

from kanvision.data.errors import DataError
from kanvision.data.files.pillow import PictureError, has_high_bit_depth, open_picture, pixel_limit
from kanvision.data.readers import ArraySource, EncodedSource

from .issues import REPLACE, DataIssue, InspectedSample, Inspector, parse_issue

__all__ = ["ArrayInspector", "PictureInspector", "compute_digest", "detect_format"]

MAGIC: Final = {
    b"version https://git-lfs": "a pointer of Git LFS (the file itself was not fetched: git lfs pull)",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
    b"<?xml": "XML",
    b"<VRTDataset": "a virtual raster, which names other files",
    b"<GDAL_WMS": "an address of maps on a server",
    b"%PDF": "PDF",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"{": "JSON",
}


def compute_digest(content: bytes | memoryview) -> bytes:
    """Return a digest of twelve bytes."""
    return blake2b(content, digest_size=12).digest()


def detect_format(content: bytes) -> str:
    """Return the kind of contents of a file that is not an image, by its beginning; "" if it is unknown."""
    start = content[:64].lstrip()
    for beginning, kind in MAGIC.items():
        if start[: len(beginning)].lower() == beginning.lower():
            return kind
    if not content.strip(b"\0"):
        return "zeros only"
    return "text" if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start) else ""


class PictureInspector(Inspector[EncodedSource]):
    """Inspector of images that Pillow decodes."""

    def inspect(self, index: int) -> InspectedSample:
        """Read and decode one image, and return its issues."""
        name = self.source.name(index)
        labels = (int(self.source.targets[index]),)
        try:
            content = self.source.read_bytes(index)
        except OSError as error:
            wrong = f"cannot be read ({error.strerror or error})"
            return InspectedSample((DataIssue(name, wrong, REPLACE, self.split),), name, b"", labels)
        issues = tuple(
            found._replace(file=name, split=self.split)
            for found in self._check_contents(content, index, name)
        )
        return InspectedSample(issues, name, compute_digest(content) if content else b"", labels)

    def _check_contents(self, content: bytes, index: int, name: str) -> Iterator[DataIssue]:
        if not content:
            yield DataIssue("", "is empty (0 bytes)", REPLACE)
            return
        try:
            with pixel_limit(self.source.decoding.max_pixels), open_picture(io.BytesIO(content)) as picture:
                kind, mode, frames = picture.format or "", picture.mode, getattr(picture, "n_frames", 1)
                is_deep = has_high_bit_depth(picture)
                if mode.startswith("I") or mode == "F":
                    self.source.image(index)  # raises the error for modes that it refuses
                # The whole file is read, but a JPEG is decoded at an eighth of its size, which is faster.
                picture.draft(None, (1, 1))
                picture.load()
                extrema = picture.getextrema()
        except DataError as error:
            yield from (parse_issue(problem) for problem in error.problems)
            return
        except PictureError as error:
            yield parse_issue(f": {error}")
            return
        # Pillow's plugins raise OSError, SyntaxError, struct.error, ValueError and more on broken files.
        except Exception as error:
            what = detect_format(content)
            reason = f"holds {what}" if what else " ".join(str(error).split()) or type(error).__name__
            reason = "unknown format" if "BytesIO" in reason else reason
            yield DataIssue("", f"cannot be read as an image ({reason})", REPLACE)
            return
        named = _formats().get(os.path.splitext(name)[1].lower(), kind)
        if {kind, named} not in ({"JPEG", "MPO"}, {kind}):
            yield DataIssue("", f"holds {kind}, though its name says {named}", "rename it", is_bad=False)
        if mode == "CMYK":
            yield DataIssue("", "is in printing colors (CMYK)", "converted to RGB", is_bad=False)
        if is_deep or mode.startswith("I"):
            yield DataIssue("", "has more than 8 bits a channel", "converted to 8 bits", is_bad=False)
        if frames > 1:
            yield DataIssue("", f"holds {frames} pictures", "the first one is used", is_bad=False)
        ranges = extrema if isinstance(extrema[0], tuple) else (extrema,)
        if all(low == high for low, high in ranges):
            yield DataIssue("", "all pixels are equal", "check it", is_bad=False)


@lru_cache(maxsize=1)
def _formats() -> dict[str, str]:
    """Return the format of each suffix in lower case."""
    return dict(Image.registered_extensions())


class ArrayInspector(Inspector[ArraySource]):
    """Inspector of images in memory, whose files were checked when they were read."""

    def inspect(self, index: int) -> InspectedSample:
        """Check the pixels of one image and return its issues."""
        name, pixels = f"{self.split}[{index}]", self.source.pixels[index]
        issues: tuple[DataIssue, ...] = ()
        if pixels.min() == pixels.max():
            issues = (DataIssue(name, "all pixels are equal", "check it", self.split, is_bad=False),)
        return InspectedSample(
            issues, name, compute_digest(pixels.tobytes()), (int(self.source.targets[index]),)
        )
