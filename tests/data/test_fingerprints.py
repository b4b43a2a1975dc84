"""Which images a data set serves, as one word."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kanvision.data.errors import DataError
from kanvision.data.files.images import FileSource
from kanvision.data.fingerprints import fingerprint
from kanvision.data.loading.image_dataset import ImageDataset
from kanvision.data.readers import ArraySource


def of_files(root: str, names: list[str], targets: list[int], indices: list[int] | None = None) -> str:
    files = [str(Path(root, name)) for name in names]
    source = FileSource(files, np.array(targets), lambda problems: DataError("; ".join(problems)))
    return fingerprint(ImageDataset(source, None if indices is None else np.array(indices)))


def of_arrays(targets: list[int]) -> str:
    classes: NDArray[np.int64] = np.array(targets)
    return fingerprint(ImageDataset(ArraySource(np.zeros((len(targets), 2, 2), np.uint8), classes)))


def test_a_moved_folder_is_the_same_and_other_images_are_not() -> None:
    own = of_files("here", ["ant/1.png", "ant/2.png", "bee/1.png"], [0, 0, 1])
    assert own == of_files("moved/there", ["ant/1.png", "ant/2.png", "bee/1.png"], [0, 0, 1])
    others = [
        of_files("here", ["ant/1.png", "ant/2.png", "bee/1.png", "bee/2.png"], [0, 0, 1, 1]),
        of_files("here", ["ant/0.png", "ant/1.png", "bee/1.png"], [0, 0, 1]),  # one went, one came
        of_files("here", ["ant/1.png", "ant/2.png", "ant/3.png"], [0, 0, 0]),
        of_files("here", ["ant/1.png", "ant/2.png", "bee/1.png"], [0, 0, 1], [2, 1, 0]),
    ]
    assert len({own, *others}) == 5


def test_images_in_memory_are_told_by_their_classes() -> None:
    assert of_arrays([0, 1, 1]) == of_arrays([0, 1, 1])
    assert len({of_arrays([0, 1, 1]), of_arrays([1, 0, 1]), of_arrays([0, 1])}) == 3
