"""Prediction of images by a trained network, with the preprocessing and the class names of its run.

B batch, C channels, K classes, H W space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from kanvision.data.errors import DataError
from kanvision.data.transforms.classification import ImageSpec, build_evaluation_transform
from kanvision.data.transforms.normalize import Preprocessing
from kanvision.metrics import class_probabilities, decide_masks, foreground_probabilities, mask_probabilities
from kanvision.prediction import ArrayScene, Bands, MaskPredictor, Scene, name_outputs, open_scene
from kanvision.prediction.files import build_palette

from .images import IN_MEMORY, AnyImage, read_array, read_picture, scale_array, split_images
from .record import NetworkRecord

__all__ = ["ClassPrediction", "ImagePredictor", "MaskPrediction"]


@dataclass(frozen=True)
class ClassPrediction:
    """Classes of one image.

    Attributes:
        class_names: Names of the classes.
        probabilities: Probability of each class, (K,).
    """

    class_names: tuple[str, ...]
    probabilities: NDArray[np.float32]

    @property
    def label(self) -> str:
        """Name of the most probable class."""
        return self.class_names[int(self.probabilities.argmax())]

    @property
    def probability(self) -> float:
        """Probability of the most probable class."""
        return float(self.probabilities.max())

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """Return the most probable classes with their probabilities, the first one first."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.class_names[index], float(self.probabilities[index])) for index in order]


@dataclass(frozen=True)
class MaskPrediction:
    """Mask of one image.

    Attributes:
        class_names: Names of the classes with a probability; that of the foreground alone for binary masks.
        mask: Labels (H, W), or for multilabel masks 0 and 1, (K, H, W); `no_data` where there are no data.
        probabilities: Probability of each class, (K, H, W); NaN where the image has no data.
        no_data: Label of pixels without data.
    """

    class_names: tuple[str, ...]
    mask: NDArray[Any]
    probabilities: NDArray[np.float32]
    no_data: int

    def to_image(self) -> Image.Image:
        """Return a mask of labels as an image with a palette, as mode=predict writes it.

        Raises:
            ValueError: If a pixel may have several labels, or there are more than 255 of them.
        """
        if self.mask.dtype != np.uint8 or self.mask.ndim != 2:
            raise ValueError(f"a mask of shape {self.mask.shape} and type {self.mask.dtype} has no palette")
        picture = Image.fromarray(self.mask)
        picture.putpalette(build_palette(self.no_data).tobytes())
        return picture


class ImagePredictor:
    """Trained network as a function of images.

    Args:
        network: Maps normalized images (B, C, H, W) to logits (B, K) or (B, K, H, W).
        record: Record of the network.
        device: Device of the images that the network gets.
        batch_size: Number of images or tiles of a batch, B.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Any],
        record: NetworkRecord,
        *,
        device: str | torch.device = "cpu",
        batch_size: int = 32,
    ) -> None:
        self.network = network
        self.record = record
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.class_names = name_outputs(record.class_names, record.num_classes, record.mode)
        """Name of each probability."""
        spec = record.input
        self._transform = build_evaluation_transform(
            ImageSpec(spec.img_size, spec.in_chans, spec.mean, spec.std),
            interpolation=spec.interpolation,
            crop_pct=spec.crop_pct,
        )
        preprocessing = Preprocessing(spec.mean, spec.std, spec.preprocessing)
        self._bands = Bands(spec.in_chans, preprocessing, spec.bands, spec.max_value)

    @overload
    def __call__(self, images: AnyImage) -> Any: ...
    @overload
    def __call__(self, images: Sequence[AnyImage]) -> list[Any]: ...
    def __call__(self, images: Any) -> Any:
        """Predict an image, or each of a list of images.

        Args:
            images: File, image of Pillow, or array (H, W), (H, W, C) or (C, H, W) of bytes, 16-bit
                integers or numbers from 0 to 1; or a list of those.

        Returns:
            `ClassPrediction` or `MaskPrediction`, or a list of them for a list of images.

        Raises:
            DataError: If an image cannot be used, or the output of the network for it is not finite.
            FileError: If a file cannot be read as an image to be segmented.
        """
        given, is_single = split_images(images)
        if self.record.mode is None:
            found: list[Any] = list(self._predict_classes(given))
        else:
            found = [self._predict_mask(image) for image in given]
        return found[0] if is_single else found

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """Return the logits of normalized images (B, C, H, W), on the CPU."""
        output = self.network(images.to(self.device))
        first: Tensor = output if isinstance(output, Tensor) else output[0]
        return first.float().cpu()

    def _predict_classes(self, images: Sequence[AnyImage]) -> Iterator[ClassPrediction]:
        for first in range(0, len(images), self.batch_size):
            batch = images[first : first + self.batch_size]
            logits = self.logits(self._transform([read_picture(image) for image in batch]))
            for image, values in zip(batch, class_probabilities(logits).numpy(), strict=True):
                if not np.isfinite(values).all():
                    name = image if isinstance(image, str | Path) else IN_MEMORY
                    raise DataError(f"{name}: the output of the network is not finite (NaN or infinity)")
                yield ClassPrediction(self.class_names, values)

    def _predict_mask(self, image: AnyImage) -> MaskPrediction:
        if isinstance(image, str | Path):
            with open_scene(Path(image), self._bands) as scene:
                return self._predict_scene(scene)
        return self._predict_scene(self._array_scene(image))

    def _array_scene(self, image: Image.Image | NDArray[Any]) -> Scene:
        spec = self.record.input
        pixels = read_array(image, None if spec.bands else spec.in_chans)
        scale_array(pixels, spec.max_value)  # refuses values of unknown units
        return ArrayScene(pixels, IN_MEMORY, self._bands)

    def _predict_scene(self, scene: Scene) -> MaskPrediction:
        mode, spec = self.record.mode, self.record.input
        assert mode is not None

        def probabilities(images: Tensor, size: tuple[int, int]) -> Tensor:
            logits = self.logits(images)
            if logits.shape[-2:] != size:
                logits = F.interpolate(logits, size, mode="bilinear")
            return foreground_probabilities(mask_probabilities(logits, mode), mode)

        predictor = MaskPredictor(
            probabilities,
            lambda planes: decide_masks(planes, mode, self.record.thresholds),
            mode,
            self.class_names,
            img_size=spec.img_size,
            interpolation=spec.interpolation,
            tile=spec.img_size,
            overlap=spec.img_size // 4,
            batch_size=self.batch_size,
        )
        labels, values = predictor.predict_arrays(scene)
        mask = labels if mode == "multilabel" else labels[0]
        return MaskPrediction(self.class_names, mask, values, predictor.no_data)
