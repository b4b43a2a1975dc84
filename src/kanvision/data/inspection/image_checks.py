"""Looks at single images: is the file what its name says, can all of it be read, does it show anything."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from PIL import Image

from kanvision.data.errors import DataError
from kanvision.data.files.pillow import PictureError, has_more_bits, open_picture, pixel_limit
from kanvision.data.readers import ArraySource, EncodedSource

from .issues import REPLACE, DataIssue, InspectedSample, Inspector, parse_issue

__all__ = ["ArrayInspector", "PictureInspector", "detect_format", "digest"]

STARTS: Final = {
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


def digest(content: bytes | memoryview) -> bytes:
    """Twelve bytes that only equal contents share."""
    return blake2b(content, digest_size=12).digest()


def detect_format(content: bytes) -> str:
    """What a file that is no image holds instead, as far as its beginning tells; empty if it does not."""
    start = content[:64].lstrip()
    for beginning, kind in STARTS.items():
        if start[: len(beginning)].lower() == beginning.lower():
            return kind
    if not content.strip(b"\0"):
        return "zeros only"
    return "text" if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start) else ""


class PictureInspector(Inspector[EncodedSource]):
    """Looks at images that Pillow decodes."""

    def look(self, index: int) -> InspectedSample:
        """Read and decode one image."""
        name = self.source.name(index)
        labels = (int(self.source.targets[index]),)
        try:
            content = self.source.stored(index)
        except OSError as error:
            wrong = f"cannot be read ({error.strerror or error})"
            return InspectedSample((DataIssue(name, wrong, REPLACE, self.split),), name, b"", labels)
        issues = tuple(
            found._replace(file=name, split=self.split) for found in self._judge(content, index, name)
        )
        return InspectedSample(issues, name, digest(content) if content else b"", labels)

    def _judge(self, content: bytes, index: int, name: str) -> Iterator[DataIssue]:
        if not content:
            yield DataIssue("", "is empty (0 bytes)", REPLACE)
            return
        try:
            with pixel_limit(self.source.decoding.max_pixels), open_picture(io.BytesIO(content)) as picture:
                kind, mode, frames = picture.format or "", picture.mode, getattr(picture, "n_frames", 1)
                is_deep = has_more_bits(picture)
                if mode.startswith("I") or mode == "F":
                    self.source.image(index)  # says which of these it refuses
                # All of the file is read, but a JPEG is decoded at an eighth of its size, which is quicker.
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
            yield DataIssue("", "has more than 8 bits a channel", "brought to 8 bits", is_bad=False)
        if frames > 1:
            yield DataIssue("", f"holds {frames} pictures", "the first one is used", is_bad=False)
        ranges = extrema if isinstance(extrema[0], tuple) else (extrema,)
        if all(low == high for low, high in ranges):
            yield DataIssue("", "all pixels are equal", "look at it", is_bad=False)


@lru_cache(maxsize=1)
def _formats() -> dict[str, str]:
    """Format by ending, in lower case."""
    return dict(Image.registered_extensions())


class ArrayInspector(Inspector[ArraySource]):
    """Looks at images that are in memory; whether their files are sound was found out by reading them."""

    def look(self, index: int) -> InspectedSample:
        """Look at one image."""
        name, pixels = f"{self.split}[{index}]", self.source.pixels[index]
        issues: tuple[DataIssue, ...] = ()
        if pixels.min() == pixels.max():
            issues = (DataIssue(name, "all pixels are equal", "look at it", self.split, is_bad=False),)
        return InspectedSample(issues, name, digest(pixels.tobytes()), (int(self.source.targets[index]),))
