"""Where the pictures of one split are: an array in memory, or encoded on disk.

Legend: N images, B batch, C channels, H W space.
"""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from kanvision.data.errors import DataError

from .pillow import MAX_PIXELS, PictureError, open_picture, pixel_limit, turn_upright

__all__ = ["DEFAULT", "ArraySource", "Decoding", "EncodedSource", "FileSource", "ImageSource", "eight_bit"]

Targets = NDArray[np.int64]


class Decoding(NamedTuple):
    """Options of decoding an image.

    Attributes:
        max_pixels: Most pixels of an image; None: no limit.
        upright: Turn images upright, as their EXIF orientation says.
        limit_key: Configuration key of `max_pixels`, for messages.
    """

    max_pixels: int | None = MAX_PIXELS
    upright: bool = True
    limit_key: str = "data.max_pixels"


DEFAULT: Final = Decoding()


class ImageSource(ABC):
    """Images of one split with their classes.

    Attributes:
        targets: (N,) class of each image.
    """

    targets: Targets

    def __len__(self) -> int:
        return len(self.targets)

    @abstractmethod
    def image(self, index: int) -> Image.Image:
        """The image as an 8-bit picture, in whatever mode it is stored."""

    @abstractmethod
    def select(self, indices: NDArray[np.int64]) -> ImageSource:
        """A source of these images only, in this order."""


class ArraySource(ImageSource):
    """Small images of one size, all in memory as one array.

    Args:
        pixels: (N, H, W) gray or (N, H, W, 3) color, uint8.
        targets: (N,) class of each image.
    """

    def __init__(self, pixels: NDArray[np.uint8], targets: Targets) -> None:
        assert len(pixels) == len(targets)
        # torch refuses to share read-only memory, which is what np.frombuffer gives.
        self.pixels = pixels if pixels.flags.writeable else pixels.copy()
        self.targets = targets

    def image(self, index: int) -> Image.Image:
        """A picture of these pixels."""
        return Image.fromarray(self.pixels[index])

    def select(self, indices: NDArray[np.int64]) -> ArraySource:
        """A copy of these images only."""
        return ArraySource(self.pixels[indices], self.targets[indices])

    def stack(self, indices: NDArray[np.int64]) -> Tensor:
        """The images as one tensor (B, C, H, W), uint8; the quick way round Pillow."""
        pixels = torch.from_numpy(self.pixels[indices])
        return pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)


class EncodedSource(ImageSource):
    """Images in some format that Pillow reads, decoded when they are asked for.

    Attributes:
        fail: Makes the error for an image that cannot be read, from a list of problems.
        decoding: Options of decoding.
    """

    unit: ClassVar[str]
    """What an image is kept in, for messages."""
    fail: Callable[[list[str]], DataError]
    decoding: Decoding = DEFAULT

    @abstractmethod
    def name(self, index: int) -> str:
        """Where the image is, for messages."""

    @abstractmethod
    def stored(self, index: int) -> bytes:
        """The encoded image.

        Raises:
            OSError: If it cannot be read.
        """

    def image(self, index: int) -> Image.Image:
        """The decoded picture.

        Raises:
            DataError: If it cannot be read as an image.
        """
        try:
            content = self.stored(index)
            if not content:
                raise ValueError("0 bytes")
            limit = pixel_limit(self.decoding.max_pixels, self.decoding.limit_key)
            with limit, open_picture(io.BytesIO(content)) as image:
                image.load()
                return eight_bit(turn_upright(image) if self.decoding.upright else image)
        except PictureError as error:
            raise self.fail([f"{self.name(index)}: {error}"]) from error
        # Pillow's plugins raise OSError, SyntaxError, struct.error, ValueError and more on broken files.
        except Exception as error:
            why = "unknown format" if isinstance(error, UnidentifiedImageError) else error
            what = f"cannot be read as an image ({why}); replace the {self.unit} or delete it"
            raise self.fail([f"{self.name(index)}: {what}"]) from error


class FileSource(EncodedSource):
    """Image files.

    Args:
        files: Paths.
        targets: (N,) class of each file.
        fail: Makes the error for a file that cannot be read, from a list of problems.
        decoding: Options of decoding.
    """

    unit: ClassVar = "file"

    def __init__(
        self,
        files: Sequence[str] | NDArray[np.bytes_],
        targets: Targets,
        fail: Callable[[list[str]], DataError],
        decoding: Decoding = DEFAULT,
    ) -> None:
        assert len(files) == len(targets)
        # One block of bytes instead of a million str objects: loader processes share it, because reading an
        # item changes no reference count inside it.
        self.files = (
            files if isinstance(files, np.ndarray) else np.array([os.fsencode(f) for f in files], "S")
        )
        self.targets = targets
        self.fail = fail
        self.decoding = decoding

    def path(self, index: int) -> Path:
        """File of this image."""
        return Path(os.fsdecode(self.files[index]))

    def name(self, index: int) -> str:
        """Path of the file."""
        return str(self.path(index))

    def stored(self, index: int) -> bytes:
        """The bytes of the file."""
        return self.path(index).read_bytes()

    def select(self, indices: NDArray[np.int64]) -> FileSource:
        """The same files, fewer of them."""
        return FileSource(self.files[indices], self.targets[indices], self.fail, self.decoding)


def eight_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit gray to 8 bits, which Pillow's own conversion would clip to white."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; 8 or 16 bits are legal")
    if not image.mode.startswith("I"):
        return image
    levels = np.asarray(image).astype(np.int64)
    if levels.min() < 0 or levels.max() > 65535:
        raise ValueError("its pixels have 32 bits; 8 or 16 bits are legal")
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))
