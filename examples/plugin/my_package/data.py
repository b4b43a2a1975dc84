"""Generated images of stripes, whose class is their direction."""

from typing import Any

import numpy as np

from kanvision.data import register_reader
from kanvision.data.readers import ArraySource, DatasetInfo, Reader, Splits


@register_reader
class Stripes(Reader):
    """Gray images of 16 x 16 pixels with horizontal, vertical or diagonal stripes and noise."""

    info = DatasetInfo(name="stripes", tree="(no files)", source="generated")

    def __init__(self, *arguments: Any, num_images: int = 400, noise: float = 0.2) -> None:
        super().__init__(*arguments)
        self.num_images, self.noise = num_images, noise

    def present(self) -> bool:
        """Return True: nothing is read."""
        return True

    def read(self) -> Splits:
        """Generate the images; the last fifth is the test."""
        random = np.random.default_rng(0)
        targets = np.arange(self.num_images) % 3
        angles = np.array([0.0, np.pi / 2, np.pi / 4])[targets][:, None, None]
        rows, columns = np.mgrid[:16, :16]
        waves = np.sin(rows * np.cos(angles) + columns * np.sin(angles) + random.uniform(0, 6, angles.shape))
        values = 0.5 + 0.3 * waves + random.normal(0, self.noise, (self.num_images, 16, 16))
        everything = ArraySource((values.clip(0, 1) * 255).astype(np.uint8), targets.astype(np.int64))
        last = self.num_images - self.num_images // 5
        train, test = everything.select(np.arange(last)), everything.select(np.arange(last, self.num_images))
        return Splits(("horizontal", "vertical", "diagonal"), train, test)
