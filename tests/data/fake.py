"""Tiny data sets in each layout that people have on disk."""

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
from PIL import Image

WNIDS = ("n01440764", "n02097658", "n04389033")  # places 0, 201 and 847 of ImageNet's official order


def picture(path: Path, size: tuple[int, int] = (10, 8), level: int = 100) -> Path:
    """A color picture with a gradient; size is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ramp = np.linspace(0, 60, size[0] * size[1] * 3).reshape(size[1], size[0], 3)
    Image.fromarray((ramp + level).astype(np.uint8)).save(path)
    return path


def truncated(path: Path) -> Path:
    """Cut the end off a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    return path


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def mnist_arrays(num: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (num, 28, 28), dtype=np.uint8)
    return {"images": pixels, "labels": (np.arange(num) % 10).astype(np.uint8)}


def mnist(folder: Path, packed: bool = True, num: tuple[int, int] = (40, 20)) -> dict[str, np.ndarray]:
    """The four idx files; returns their arrays by name."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for seed, (prefix, size) in enumerate(zip(("train", "t10k"), num, strict=True)):
        for kind, array in mnist_arrays(size, seed).items():
            name = f"{prefix}-{kind}-idx{array.ndim}-ubyte"
            content = idx(array)
            path = folder / (name + (".gz" if packed else ""))
            path.write_bytes(gzip.compress(content) if packed else content)
            written[name] = array
    return written


def cifar_batch(num: int, key: str, num_classes: int, seed: int) -> dict[str, object]:
    data = np.random.default_rng(seed).integers(0, 256, (num, 3072), dtype=np.uint8)
    return {
        "data": data,
        key: [i % num_classes for i in range(num)],
        "filenames": [f"{i}.png" for i in range(num)],
    }


def cifar10(folder: Path, protocol: int = 2, num: int = 20) -> dict[str, dict[str, object]]:
    """Five training batches, a test batch and the names; returns the batches by file name."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    batches = {name: cifar_batch(num, "labels", 10, seed) for seed, name in enumerate(names)}
    meta = {"label_names": [f"class{i}" for i in range(10)], "num_vis": 3072}
    for name, content in {**batches, "batches.meta": meta}.items():
        (folder / name).write_bytes(pickle.dumps(content, protocol=protocol))
    return batches


def cifar100(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, num) in enumerate({"train": 200, "test": 100}.items()):
        batch = cifar_batch(num, "fine_labels", 100, seed) | {"coarse_labels": [0] * num}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    meta = {"fine_label_names": [f"fine{i}" for i in range(100)], "coarse_label_names": ["coarse"]}
    (folder / "meta").write_bytes(pickle.dumps(meta, protocol=2))


def class_folders(
    folder: Path, names: tuple[str, ...] = ("ant", "bee"), num: int = 4, ext: str = ".png"
) -> None:
    for level, name in enumerate(names):
        for i in range(num):
            picture(folder / name / f"{name}_{i}{ext}", level=20 + 60 * level)


def tiny_imagenet(folder: Path, resorted: bool = False) -> None:
    (folder / "train").mkdir(parents=True)
    (folder / "wnids.txt").write_text("\n".join(reversed(WNIDS)) + "\n")
    (folder / "words.txt").write_text("".join(f"{wnid}\tword {wnid}, other\n" for wnid in WNIDS))
    rows = []
    for wnid in WNIDS:
        for i in range(2):
            picture(folder / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", (64, 64))
        name = f"val_{len(rows)}.JPEG"
        rows.append(f"{name}\t{wnid}\t0\t0\t10\t10\n")
        picture(folder / "val" / (f"{wnid}/images" if resorted else "images") / name, (64, 64))
    if not resorted:
        (folder / "val" / "val_annotations.txt").write_text("".join(rows))


def imagenet(folder: Path, flat_val: bool = False) -> None:
    for wnid in WNIDS:
        for i in range(2):
            picture(folder / "train" / wnid / f"{wnid}_{i}.JPEG", (40, 30))
        val = folder / "val" if flat_val else folder / "val" / wnid
        picture(val / f"ILSVRC2012_val_{wnid}.JPEG", (40, 30))


def solution(path: Path) -> None:
    rows = [f"ILSVRC2012_val_{wnid},{wnid} 1 2 3 4 \n" for wnid in WNIDS]
    path.write_text("ImageId,PredictionString\n" + "".join(rows))
