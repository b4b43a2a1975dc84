"""Sources of the images of one split: an array in memory, or encoded files.

N images, B batch, C channels, H W space.
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

__all__ = ["DEFAULT", "ArraySource", "Decoding", "EncodedSource", "FileSource", "ImageSource", "to_8_bit"]

Targets = NDArray[np.int64]


class Decoding(NamedTuple):
    """Options for decoding an image.

    Attributes:
        max_pixels: Largest number of pixels of an image; None: no limit.
        upright: Turn images upright by their EXIF orientation.
        limit_key: Configuration key of `max_pixels`, for messages.
    """

    max_pixels: int | None = MAX_PIXELS
    upright: bool = True
    limit_key: str = "data.max_pixels"


DEFAULT: Final = Decoding()


class ImageSource(ABC):
    """Images of one split with their classes.

    Attributes:
        targets: Class of each image, (N,).
    """

    targets: Targets

    def __len__(self) -> int:
        return len(self.targets)

    @abstractmethod
    def image(self, index: int) -> Image.Image:
        """Return an image with 8 bits a channel, in the color mode in which it is stored."""

    @abstractmethod
    def select(self, indices: NDArray[np.int64]) -> ImageSource:
        """Return a source of chosen images, in the order of the indices."""


class ArraySource(ImageSource):
    """Small images of one size in one array in memory.

    Args:
        pixels: Gray (N, H, W) or color (N, H, W, 3), uint8.
        targets: Class of each image, (N,).
    """

    def __init__(self, pixels: NDArray[np.uint8], targets: Targets) -> None:
        assert len(pixels) == len(targets)
        # torch does not share read-only memory, which np.frombuffer returns.
        self.pixels = pixels if pixels.flags.writeable else pixels.copy()
        self.targets = targets

    def image(self, index: int) -> Image.Image:
        """Return an image of the stored pixels."""
        return Image.fromarray(self.pixels[index])

    def select(self, indices: NDArray[np.int64]) -> ArraySource:
        """Return a source with copies of chosen images."""
        return ArraySource(self.pixels[indices], self.targets[indices])

    def stack(self, indices: NDArray[np.int64]) -> Tensor:
        """Return images as one tensor, (B, C, H, W) uint8, without Pillow."""
        pixels = torch.from_numpy(self.pixels[indices])
        return pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)


class EncodedSource(ImageSource):
    """Encoded images in a format that Pillow reads, decoded one by one on access.

    Attributes:
        fail: Builds the error for an image that cannot be read from a list of problems.
        decoding: Options for decoding.
    """

    unit: ClassVar[str]
    """Noun for messages: the kind of file that holds an image."""
    fail: Callable[[list[str]], DataError]
    decoding: Decoding = DEFAULT

    @abstractmethod
    def name(self, index: int) -> str:
        """Return the location of an image for messages."""

    @abstractmethod
    def read_bytes(self, index: int) -> bytes:
        """Return the bytes of an encoded image.

        Raises:
            OSError: If it cannot be read.
        """

    def image(self, index: int) -> Image.Image:
        """Return a decoded image.

        Raises:
            DataError: If it cannot be read as an image.
        """
        try:
            content = self.read_bytes(index)
            if not content:
                raise ValueError("0 bytes")
            limit = pixel_limit(self.decoding.max_pixels, self.decoding.limit_key)
            with limit, open_picture(io.BytesIO(content)) as image:
                image.load()
                return to_8_bit(turn_upright(image) if self.decoding.upright else image)
        except PictureError as error:
            raise self.fail([f"{self.name(index)}: {error}"]) from error
        # Pillow's plugins raise OSError, SyntaxError, struct.error, ValueError and more on broken files.
        except Exception as error:
            why = "unknown format" if isinstance(error, UnidentifiedImageError) else error
            what = f"cannot be read as an image ({why}); replace the {self.unit} or delete it"
            raise self.fail([f"{self.name(index)}: {what}"]) from error


class FileSource(EncodedSource):
    """Source of image files.

    Args:
        files: Paths.
        targets: Class of each file, (N,).
        fail: Builds the error for a file that cannot be read from a list of problems.
        decoding: Options for decoding.
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
        # One block of bytes instead of a million str objects: loader processes share its memory, because
        # reading an item changes no reference count in it.
        self.files = (
            files if isinstance(files, np.ndarray) else np.array([os.fsencode(f) for f in files], "S")
        )
        self.targets = targets
        self.fail = fail
        self.decoding = decoding

    def path(self, index: int) -> Path:
        """Return the path of an image."""
        return Path(os.fsdecode(self.files[index]))

    def name(self, index: int) -> str:
        """Return the path of an image as text."""
        return str(self.path(index))

    def read_bytes(self, index: int) -> bytes:
        """Return the bytes of an image file."""
        return self.path(index).read_bytes()

    def select(self, indices: NDArray[np.int64]) -> FileSource:
        """Return a source of chosen files, in the order of the indices."""
        return FileSource(self.files[indices], self.targets[indices], self.fail, self.decoding)


def to_8_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit gray to 8 bits, which conversion by Pillow would clip to white."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; 8 or 16 bits are legal")
    if not image.mode.startswith("I"):
        return image
    levels = np.asarray(image).astype(np.int64)
    if levels.min() < 0 or levels.max() > 65535:
        raise ValueError("its pixels have 32 bits; 8 or 16 bits are legal")
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))
