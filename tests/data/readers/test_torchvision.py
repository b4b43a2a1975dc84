"""SVHN, STL-10 and Oxford Flowers: the files as they are downloaded, made small."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from torchvision import datasets

from tests.data import fake
from tests.data.reading import read, refusal


def svhn(folder: Path) -> dict[str, np.ndarray]:
    """(N, H, W, C) pixels as stored, by part."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = {}
    for seed, (part, number) in enumerate({"train": 20, "test": 10}.items()):
        images = np.random.default_rng(seed).integers(0, 256, (number, 32, 32, 3), dtype=np.uint8)
        labels = (np.arange(number) % 10 + 1).astype(np.uint8)[:, None]
        savemat(folder / f"{part}_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": labels})
        pixels[part] = images
    return pixels


def stl10(folder: Path) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = {}
    for seed, part in enumerate(("train", "test")):
        images = np.random.default_rng(seed).integers(0, 256, (10, 96, 96, 3), dtype=np.uint8)
        images.transpose(0, 3, 2, 1).tofile(folder / f"{part}_X.bin")
        np.arange(1, 11, dtype=np.uint8).tofile(folder / f"{part}_y.bin")
        pixels[part] = images
    return pixels


def flowers102(folder: Path) -> None:
    for number in range(1, 205):
        fake.picture(folder / "jpg" / f"image_{number:05d}.jpg", (4, 4), level=number % 180)
    savemat(folder / "imagelabels.mat", {"labels": np.arange(204)[None] % 102 + 1})
    numbers = np.arange(1, 205)[None]
    savemat(
        folder / "setid.mat",
        {"trnid": numbers[:, :102], "valid": numbers[:, 102:112], "tstid": numbers[:, 112:]},
    )


def test_svhn_is_read_as_stored_and_ten_is_zero(tmp_path: Path) -> None:
    pixels = svhn(tmp_path)
    splits = read("svhn", tmp_path, num_classes=10)
    assert np.array_equal(splits.train.pixels, pixels["train"])
    assert np.array_equal(splits.test.pixels, pixels["test"])
    assert splits.test.targets.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


def test_all_problems_of_svhn_come_in_one_message(tmp_path: Path) -> None:
    svhn(tmp_path)
    fake.truncated(tmp_path / "train_32x32.mat")
    savemat(tmp_path / "test_32x32.mat", {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[3]])})
    message = refusal("svhn", tmp_path, num_classes=11)
    assert "3 problems" in message
    assert "train_32x32.mat: is not a MATLAB file or is damaged" in message
    assert "test_32x32.mat: 1 labels for 2 images" in message
    savemat(tmp_path / "test_32x32.mat", {"X": np.zeros((4, 3)), "y": np.array([["a"]])})
    assert "'y' must hold whole numbers" in refusal("svhn", tmp_path)


@pytest.mark.parametrize("folder", [".", "stl10_binary"])
def test_stl10_is_stored_by_columns(tmp_path: Path, folder: str) -> None:
    pixels = stl10(tmp_path / folder)
    splits = read("stl10", tmp_path, num_classes=10)
    assert np.array_equal(splits.train.pixels, pixels["train"])
    assert splits.train.image(3).getpixel((5, 2)) == tuple(pixels["train"][3, 2, 5])
    assert splits.test.targets.tolist() == list(range(10))
    fake.truncated(tmp_path / folder / "test_X.bin")
    assert "but 10 labels need 276480; download the file again" in refusal("stl10", tmp_path)
    (tmp_path / folder / "train_y.bin").unlink()
    assert "train_y.bin: is missing" in refusal("stl10", tmp_path)


@pytest.mark.parametrize("folder", [".", "flowers-102"])
def test_official_training_and_validation_flowers_train(tmp_path: Path, folder: str) -> None:
    flowers102(tmp_path / folder)
    splits = read("flowers102", tmp_path, num_classes=102)
    assert (len(splits.train), len(splits.test), splits.val) == (112, 92, None)
    assert splits.train.targets[:3].tolist() == [0, 1, 2]
    assert splits.test.path(0).name == "image_00113.jpg"
    assert splits.test.targets[0] == 112 % 102
    assert len(splits.class_names) == 102
    (tmp_path / folder / "jpg" / "image_00113.jpg").unlink()
    assert "image_00113.jpg: is missing (1 such)" in refusal("flowers102", tmp_path)
    (tmp_path / folder / "setid.mat").unlink()
    assert "setid.mat: is missing" in refusal("flowers102", tmp_path)


@pytest.mark.parametrize(
    ("name", "known"), [("svhn", "SVHN"), ("stl10", "STL10"), ("flowers102", "Flowers102")]
)
def test_what_cannot_be_fetched_is_told(
    name: str, known: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, object]] = []

    def refuse(**arguments: object) -> None:
        asked.append(arguments)
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.setattr(datasets, known, refuse)
    from kanvision.data import READERS, DataError

    with pytest.raises(DataError, match=r"data\.download=true failed: File not found or corrupted"):
        READERS[name](tmp_path, download=True).prepare()
    assert asked == [{"root": tmp_path, "split": "train", "download": True}]
