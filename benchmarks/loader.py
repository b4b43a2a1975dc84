"""Images a second of the loaders beside torchvision's own: `python -m benchmarks.loader`.

Each row is the same work done twice: by our datasets and loaders, and by torchvision's ImageFolder and
transforms under torch's DataLoader with its own collation (for images with masks: a dataset of a few lines
around Pillow and torchvision.transforms.v2). Photographs are those of `--photographs`, repeated, or, without
it, generated ones of 500 x 375. An epoch of each loader is run in turns, `--repeats` times, after one to warm
up; the table has the median of images a second and the least CPU time of an image (of this process and, with
workers, of theirs), which other programs on the machine disturb less. The last column is torchvision's CPU
time over ours.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms, tv_tensors
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from kanvision.data.loading.image_dataset import ImageDataset
from kanvision.data.loading.loaders import make_loader
from kanvision.data.loading.samplers import EvenBatchSampler, TrainBatchSampler
from kanvision.data.loading.segmentation_dataset import SegmentationDataset
from kanvision.data.readers import READERS, SEGMENTATION_READERS, Splits
from kanvision.data.transforms.classification import (
    ImageSpec,
    build_evaluation_transform,
    build_training_transform,
)
from kanvision.data.transforms.normalize import Preprocessing
from kanvision.data.transforms.segmentation import build_segmentation_augment
from kanvision.data.write_shards import write_shards

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BICUBIC = transforms.InterpolationMode.BICUBIC
Loader = DataLoader[Any]
Make = Callable[[int], Loader]


class Case(NamedTuple):
    """Equal work for two loaders."""

    name: str
    images: int
    ours: Make
    theirs: Make


def photographs(folder: Path, number: int, given: Path | None) -> None:
    """A folder train/<class>/ of photographs."""
    files = [] if given is None else sorted(path for path in given.rglob("*") if path.is_file())
    rng = np.random.default_rng(0)
    for index in range(number):
        target = folder / "train" / f"class{index % 12:02d}" / f"{index:05d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        if files:
            shutil.copyfile(files[index % len(files)], target)
        else:
            coarse = Image.fromarray(rng.integers(0, 256, (47, 63, 3), dtype=np.uint8))
            coarse.resize((500, 375), Image.Resampling.BICUBIC).save(target, quality=92)
    shutil.copytree(folder / "train", folder / "test")


def small_pictures(folder: Path, number: int) -> None:
    """A folder train/<class>/ of PNG files of 32 x 32."""
    rng = np.random.default_rng(1)
    for index in range(number):
        target = folder / "train" / f"class{index % 10}" / f"{index:05d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize((32, 32), Image.Resampling.BICUBIC).save(target)
    shutil.copytree(folder / "train", folder / "test")


def masked_pictures(folder: Path, number: int, side: int) -> None:
    """Color PNG files in images/ and discs in masks/."""
    rng = np.random.default_rng(2)
    rows, cols = np.mgrid[:side, :side]
    for index in range(number):
        coarse = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
        row, col, radius = rng.integers(side // 4, 3 * side // 4, 3)
        disc = ((rows - row) ** 2 + (cols - col) ** 2 < (radius // 2) ** 2).astype(np.uint8) * 255
        pictures = {
            "images": coarse.resize((side, side), Image.Resampling.BICUBIC),
            "masks": Image.fromarray(disc),
        }
        for kind, picture in pictures.items():
            (folder / kind).mkdir(parents=True, exist_ok=True)
            picture.save(folder / kind / f"{index:05d}.png")


def torch_loader(dataset: Dataset[Any], batch_size: int, *, training: bool) -> Make:
    """Torch's loader as everybody sets it up."""
    return lambda workers: DataLoader(
        dataset,
        batch_size,
        shuffle=training,
        drop_last=training,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def our_loader(dataset: Dataset[Any], batch_size: int, *, training: bool) -> Make:
    """Our loader as the datamodules set it up."""
    number = len(dataset)  # type: ignore[arg-type]

    def make(workers: int) -> Loader:
        batches = (
            TrainBatchSampler(dataset, batch_size, seed=0)
            if training
            else EvenBatchSampler(number, batch_size)
        )  # type: ignore[arg-type]
        return make_loader(dataset, batches, num_workers=workers)

    return make


def photograph_cases(folder: Path, splits: Splits, shards: Splits, batch_size: int) -> Iterator[Case]:
    """Training and evaluation as on ImageNet, from files and from shards."""
    spec = ImageSpec(224, 3, MEAN, STD)
    end = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    random = [transforms.RandomResizedCrop(224, interpolation=BICUBIC), transforms.RandomHorizontalFlip()]
    fixed = [transforms.Resize(256, interpolation=BICUBIC), transforms.CenterCrop(224)]
    train = build_training_transform(spec, crop="random_resized", interpolation="bicubic", hflip=0.5)
    test = build_evaluation_transform(spec, interpolation="bicubic", crop_pct=0.875)
    images = len(splits.train) // batch_size * batch_size
    for training, geometry, ours in ((True, random, train), (False, fixed, test)):
        theirs = ImageFolder(str(folder / "train"), transforms.Compose([*geometry, *end]))
        make = torch_loader(theirs, batch_size, training=training)
        for source, where in ((splits.train, "files"), (shards.train, "shards")):
            dataset = ImageDataset(source, transform=ours)
            name = f"photographs, {'training' if training else 'evaluation'}, {where}"
            number = images if training else len(source)
            yield Case(name, number, our_loader(dataset, batch_size, training=training), make)


def small_case(folder: Path, splits: Splits, batch_size: int) -> Case:
    """Training as on CIFAR."""
    spec = ImageSpec(32, 3, MEAN, STD)
    steps = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
    end = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    theirs = ImageFolder(str(folder / "train"), transforms.Compose([*steps, *end]))
    ours = ImageDataset(splits.train, transform=build_training_transform(spec, crop="pad", hflip=0.5))
    images = len(splits.train) // batch_size * batch_size
    makes = (
        make(data, batch_size, training=True) for make, data in ((our_loader, ours), (torch_loader, theirs))
    )
    return Case("32 x 32 PNG, training, files", images, *makes)


class Masks(Dataset[Any]):
    """Images with masks by Pillow and torchvision."""

    def __init__(self, folder: Path, names: list[str], side: int) -> None:
        self.folder = folder
        self.names = names
        self.transform = v2.Compose(
            [
                v2.RandomHorizontalFlip(),
                v2.RandomVerticalFlip(),
                v2.Resize((side, side), antialias=False),
                v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64}, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Any:
        paths = (self.folder / kind / f"{self.names[index]}.png" for kind in ("images", "masks"))
        image, mask = (Image.open(path) for path in paths)
        labels = (v2.functional.pil_to_tensor(mask.convert("L")) > 0).to(torch.uint8)
        return self.transform(tv_tensors.Image(image.convert("RGB")), tv_tensors.Mask(labels))


def masked_cases(folder: Path, side: int, batch_size: int) -> Iterator[Case]:
    """Training as of U-KAN, with both backends."""
    reader = SEGMENTATION_READERS["segmentation_folder"](
        folder, mode="binary", num_classes=2, in_chans=3, img_size=side, split_seed=0
    )
    source = reader.read().train
    theirs = torch_loader(Masks(folder, list(source.names), side), batch_size, training=True)
    images = len(source) // batch_size * batch_size
    for backend in ("albumentations", "torchvision"):
        dataset = SegmentationDataset(
            source,
            np.arange(len(source)),
            img_size=side,
            preprocessing=Preprocessing(MEAN, STD),
            augment=build_segmentation_augment(backend=backend, hflip=0.5, vflip=0.5),
        )
        ours = our_loader(dataset, batch_size, training=True)
        yield Case(f"masks to {side} x {side}, {backend}", images, ours, theirs)


def cpu_seconds(loader: Loader) -> float:
    """CPU time of this process and of the loader's workers so far."""
    found = time.process_time()
    iterator = getattr(loader, "_iterator", None)
    for worker in getattr(iterator, "_workers", ()):
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        found += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def epoch(loader: Loader) -> tuple[float, float]:
    """Seconds of an epoch, and CPU seconds."""
    before, started = cpu_seconds(loader), time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - started, cpu_seconds(loader) - before


def measure(case: Case, workers: int, repeats: int) -> dict[str, tuple[float, float]]:
    """Images a second and CPU milliseconds an image of both loaders."""
    loaders = {"ours": case.ours(workers), "theirs": case.theirs(workers)}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in loaders}
    for repeat in range(repeats + 1):
        for name, loader in loaders.items():
            taken = epoch(loader)
            if repeat:
                times[name].append(taken)
    return {
        name: (
            case.images / statistics.median(wall for wall, _ in taken),
            1e3 * min(cpu for _, cpu in taken) / case.images,
        )
        for name, taken in times.items()
    }


def cases(folder: Path, args: argparse.Namespace) -> Iterator[Case]:
    """All cases; makes their files."""
    photographs(folder / "photographs", args.images, args.photographs)
    splits = READERS["image_folder"](folder / "photographs").read()
    write_shards(splits, folder / "shards", size=max(1, args.images // 4))
    shards = READERS["webdataset"](folder / "shards").read()
    yield from photograph_cases(folder / "photographs", splits, shards, args.batch_size)
    small_pictures(folder / "small", 8 * args.images)
    yield small_case(folder / "small", READERS["image_folder"](folder / "small").read(), 2 * args.batch_size)
    masked_pictures(folder / "masked", args.images, 2 * args.side)
    yield from masked_cases(folder / "masked", args.side, args.batch_size // 4)


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--photographs", type=Path, help="folder of JPEG files; without it they are generated"
    )
    parser.add_argument("--images", type=int, default=384)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--side", type=int, default=256, help="side of images with masks")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    machine = platform.processor() or platform.machine()
    print(
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, Pillow {PIL.__version__}, cpu "
        f"({machine}), {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the start\n"
    )
    columns = (
        f"{'workers':>8}{'images/s':>10}{'torchvision':>13}{'CPU ms':>10}{'torchvision':>13}{'ratio':>8}"
    )
    print(f"{'':<34}{columns}")
    with tempfile.TemporaryDirectory() as temporary:
        for case in cases(Path(temporary), args):
            for workers in args.workers:
                found = measure(case, workers, args.repeats)
                (ours, cpu), (theirs, their_cpu) = found["ours"], found["theirs"]
                line = (
                    f"{case.name:<34}{workers:>8}{ours:>10.0f}{theirs:>13.0f}{cpu:>10.2f}{their_cpu:>13.2f}"
                )
                print(f"{line}{their_cpu / cpu:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
