"""Memory, time and seams of the prediction of a large scene: `python -m benchmarks.predict`.

A U-KAN is trained for some steps on generated fields of 12 bands and predicts a scene of 4000 x 4000 pixels
from a GeoTIFF to GeoTIFFs, in a process of its own for each overlap of the tiles. Memory is the largest
resident set of that process above what it held with the network loaded and used once on a batch. Steps are
differences of the probabilities of neighboring pixels: at the ends of tiles and everywhere else. Without
blending (overlap 0) seams show; with it the largest step at seams must be no larger than elsewhere.

`--folder` keeps scene, weights and predictions, and takes up what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from kanvision.data.files.gdal import open_raster
from kanvision.data.readers import SyntheticFields
from kanvision.data.transforms.normalize import Preprocessing
from kanvision.models import create_model
from kanvision.prediction import Bands, MaskPredictor, Tiling, open_scene

TILE, BATCH, CHIP, NUM_CLASSES = 64, 16, 250, 4
NAMES = ("background", "crop_1", "crop_2", "crop_3")


def network(bands: int) -> nn.Module:
    """A U-KAN S with fresh weights."""
    torch.manual_seed(0)
    model: nn.Module = create_model("ukan_small", num_classes=NUM_CLASSES, in_chans=bands)
    return model


def train(bands: int, steps: int) -> nn.Module:
    """A network after some steps on generated fields."""
    fields = SyntheticFields(BATCH * steps, img_size=TILE, in_chans=bands, num_classes=NUM_CLASSES)
    model, prepare = network(bands).train(), preprocessing(bands)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for step in range(steps):
        samples = [fields[index] for index in range(BATCH * step, BATCH * (step + 1))]
        images = prepare(torch.stack([sample["image"] for sample in samples]))
        masks = torch.stack([sample["mask"] for sample in samples])
        optimizer.zero_grad()
        F.cross_entropy(model(images), masks).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model.eval()


def preprocessing(bands: int) -> Preprocessing:
    """About the mean and standard deviation of generated fields."""
    return Preprocessing([0.4] * bands, [0.16] * bands)


def write_scene(path: Path, size: tuple[int, int], bands: int) -> None:
    """A GeoTIFF of 16 bits, put together from generated chips; size is (height, width)."""
    import rasterio
    from rasterio.windows import Window

    down, across = (-(-side // CHIP) for side in size)
    fields = SyntheticFields(
        down * across, img_size=CHIP, in_chans=bands, num_classes=NUM_CLASSES, num_fields=150, split="scene"
    )
    georeference = {"crs": "EPSG:32634", "transform": rasterio.transform.from_origin(300000, 6200000, 10, 10)}
    shape = {"count": bands, "height": size[0], "width": size[1], "dtype": "uint16", "tiled": True}
    with rasterio.open(
        path, "w", driver="GTiff", compress="deflate", zlevel=1, **shape, **georeference
    ) as file:
        for index in range(down * across):
            top, left = index // across * CHIP, index % across * CHIP
            pixels = (fields[index]["image"].numpy() * 65535).round().astype(np.uint16)
            height, width = min(CHIP, size[0] - top), min(CHIP, size[1] - left)
            file.write(pixels[:, :height, :width], window=Window(left, top, width, height))


def megabytes(kind: str) -> float:
    """Resident set of this process in MiB: now, or the largest so far."""
    if kind == "peak":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def predict(folder: Path, overlap: int, bands: int, threads: int) -> dict[str, float]:
    """Predict the scene in this process."""
    torch.set_num_threads(threads)
    model = network(bands).eval()
    model.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))

    @torch.inference_mode()
    def probabilities(images: Tensor, size: tuple[int, int]) -> Tensor:
        found: Tensor = model(images).softmax(dim=1)
        return found

    probabilities(torch.zeros(BATCH, bands, TILE, TILE), (TILE, TILE))
    own, facts = megabytes("now"), Bands(bands, preprocessing(bands))
    predictor = MaskPredictor(
        probabilities,
        lambda found: found.argmax(dim=1),
        "multiclass",
        NAMES,
        img_size=TILE,
        interpolation="bilinear",
        tile=TILE,
        overlap=overlap,
        batch_size=BATCH,
    )
    started = time.perf_counter()
    with open_scene(folder / "scene.tif", facts) as scene:
        predictor.predict(scene, predictor.plan_outputs(Path(f"overlap_{overlap}.tif"), folder))
        tiles = predictor.num_tiles(scene)
    seconds = time.perf_counter() - started
    return {"own": own, "peak": megabytes("peak"), "seconds": seconds, "tiles": tiles}


def is_same_position(folder: Path, overlap: int) -> bool:
    """Return True if mask and probabilities have coordinate system, transform and size of the scene."""

    def facts(path: Path) -> tuple[Any, ...]:
        with open_raster(path) as file:
            return file.crs, file.transform, file.shape

    wanted = facts(folder / "scene.tif")
    return all(
        facts(folder / kind / f"overlap_{overlap}.tif") == wanted for kind in ("masks", "probabilities")
    )


def steps(folder: Path, overlap: int) -> Iterator[tuple[str, list[float], list[float]]]:
    """Largest, 99.9th percentile and mean of the steps across seams, and elsewhere, for both directions."""
    with open_raster(folder / "probabilities" / f"overlap_{overlap}.tif") as file:
        planes = file.read()
    for axis, name in ((1, "down"), (2, "across")):
        change = np.abs(np.diff(planes, axis=axis)).max(axis=0)
        length = planes.shape[axis]
        starts = Tiling(length, TILE, overlap).starts
        seams = {*starts[1:], *(start + TILE for start in starts[:-1])}
        at = np.isin(np.arange(1, length), list(seams))
        at_seams, elsewhere = (summary(np.compress(chosen, change, axis - 1)) for chosen in (at, ~at))
        yield name, at_seams, elsewhere


def summary(values: NDArray[np.float32]) -> list[float]:
    """Maximum, 99.9th percentile, mean."""
    return [float(values.max()), float(np.percentile(values, 99.9)), float(values.mean())]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=4000)
    parser.add_argument("--height", type=int, help="rows, if the scene is not square")
    parser.add_argument("--bands", type=int, default=12)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--overlaps", type=int, nargs="+", default=[0, TILE // 4, TILE // 2])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)  # the process that is measured
    args = parser.parse_args()
    if args.only is not None:
        print(json.dumps(predict(args.folder, args.only, args.bands, args.threads)))
        return
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "weights.pt").exists():
            torch.save(train(args.bands, args.steps).state_dict(), folder / "weights.pt")
        if not (folder / "scene.tif").exists():
            write_scene(folder / "scene.tif", (args.height or args.side, args.side), args.bands)
        machine = platform.processor() or platform.machine()
        print(
            f"torch {torch.__version__}, cpu ({machine}), {args.threads} threads, {os.cpu_count()} cores",
            end="",
        )
        print(f", load average {os.getloadavg()[0]:.1f} at the start")
        size = f"{args.height or args.side} x {args.side} x {args.bands}"
        print(f"{size}, ukan_small, tiles of {TILE}; MiB of resident memory\n")
        print(
            f"{'overlap':>7}{'tiles':>7}{'seconds':>9}{'own':>7}{'peak':>7}{'above':>7}{'same is_same':>12}",
            end="",
        )
        print(f"   {'steps':<8}{'max at seams':>13}{'elsewhere':>11}{'p99.9':>8}{'':>7}{'mean':>8}{'':>8}")
        for overlap in args.overlaps:
            options = (f"--{name}={getattr(args, name)}" for name in ("bands", "threads"))
            command = [sys.executable, "-m", "benchmarks.predict", f"--folder={folder}", f"--only={overlap}"]
            process = subprocess.run([*command, *options], check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(process.stdout.splitlines()[-1])
            above, is_same = (
                found["peak"] - found["own"],
                "yes" if is_same_position(folder, overlap) else "NO",
            )
            left = f"{overlap:>7}{found['tiles']:>7}{found['seconds']:>9.0f}{found['own']:>7.0f}"
            left += f"{found['peak']:>7.0f}{above:>7.0f}{is_same:>12}"
            for name, at, around in steps(folder, overlap):
                print(f"{left}   {name:<8}{at[0]:>13.4f}{around[0]:>11.4f}", end="")
                print(f"{at[1]:>8.4f}{around[1]:>7.4f}{at[2]:>8.4f}{around[2]:>8.4f}")
                left = " " * len(left)


if __name__ == "__main__":
    main()
