"""Tiny data sets of images with masks, in each layout that people have on disk."""

from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image


def save(path: Path, array: np.ndarray, mode: str | None = None) -> Path:
    """Write an array as a picture, converted to a mode of Pillow if that is wanted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(path)
    return path


def scan(seed: int, size: tuple[int, int] = (20, 16)) -> np.ndarray:
    """A random picture with coarse and fine structure, (H, W, 3) uint8; size is (width, height)."""
    rng, pixels = np.random.default_rng(seed), np.zeros((size[1], size[0]))
    for cells in (3, 6, 12, 24):
        noise = Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32))
        pixels += np.asarray(noise.resize(size, Image.Resampling.BICUBIC)) / cells
    gray = np.interp(pixels, (pixels.min(), pixels.max()), (20, 235)).astype(np.uint8)
    return np.stack([gray, gray // 2 + 40, 255 - gray], axis=-1)


def disc(size: tuple[int, int] = (20, 16), corner: tuple[int, int] = (2, 2), level: int = 255) -> np.ndarray:
    """A bright square of 6 x 6 pixels on black, (H, W) uint8."""
    mask = np.zeros(size[::-1], np.uint8)
    mask[corner[1] : corner[1] + 6, corner[0] : corner[0] + 6] = level
    return mask


def busi(folder: Path, num: tuple[int, int, int] = (12, 8, 4)) -> Path:
    """Benign, malignant and normal images; the first benign one has three masks, each kind another size.

    benign (2) is benign (3) in another size; masks come in the modes 1, L, RGB and RGBA.
    """
    modes = ("1", "L", "RGB", "RGBA")
    for kind, count in zip(("benign", "malignant", "normal"), num, strict=True):
        for i in range(1, count + 1):
            size = (40 + i % 3, 36 + i % 2)
            twin = kind == "benign" and i == 3
            pixels = scan(1000 * len(kind) + (2 if twin else i), (60, 50))
            save(folder / kind / f"{kind} ({i}).png", np.asarray(Image.fromarray(pixels).resize(size)))
            mask = np.zeros(size[::-1], np.uint8) if kind == "normal" else disc(size)
            save(folder / kind / f"{kind} ({i})_mask.png", mask, modes[i % 4])
    first = (41, 37)
    for i, corner in enumerate([(8, 2), (2, 9)], start=1):
        save(folder / "benign" / f"benign (1)_mask_{i}.png", disc(first, corner))
    return folder


def glas(folder: Path, num: tuple[int, int, int] = (8, 4, 3), table: bool = True) -> Path:
    """Sections of two sizes with numbered glands, of four patients; the table has blanks as the real one."""
    rows = ["name,patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)"]
    for part, count in zip(("train", "testA", "testB"), num, strict=True):
        for i in range(1, count + 1):
            size = (30 + 4 * (i % 2), 20)
            mask = np.zeros(size[::-1], np.uint8)
            mask[2:8, 2:8], mask[10:18, 12:20], mask[3:6, 22:28] = 1, 2, 3 + i
            save(folder / f"{part}_{i}.bmp", scan(i, size))
            save(folder / f"{part}_{i}_anno.bmp", mask)
            kind = "benign" if i % 2 else "malignant"
            rows.append(f"{part}_{i},{i % 4 + 1}, {kind}, healthy")
    if table:
        (folder / "Grade.csv").write_text(
            "\r".join([*rows, "testA_99,3, benign, healthy"]) + "\r", newline=""
        )
    return folder


def cvc(folder: Path, num: int = 15, ext: str = ".tif") -> Path:
    """Frames and masks; the masks have gray edges, as those of copies have."""
    for i in range(1, num + 1):
        save(folder / "Original" / f"{i}{ext}", scan(i, (24, 18)))
        mask = disc((24, 18), (i % 9, 3))
        mask[0, :3] = 90
        save(folder / "Ground Truth" / f"{i}{ext}", mask)
    return folder


def cvc_table(path: Path, num: int = 15, length: int = 3) -> Path:
    """Kaggle's table of frames and videos; a video has `length` frames."""
    rows = [f"{i},{(i - 1) // length + 1},PNG/Original/{i}.png" for i in range(1, num + 1)]
    path.write_text("\n".join(["frame_id,sequence_id,png_image_path", *rows]))
    return path


def geotiff(path: Path, array: np.ndarray, **profile) -> Path:
    """Write (C, H, W) of any type as a GeoTIFF at some place on Earth."""
    import rasterio
    from rasterio.transform import from_origin

    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = array.shape
    settings = {"crs": "EPSG:32634", "transform": from_origin(300000, -3700000, 10, 10), **profile}
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=array.dtype.name, **settings
    ) as file:
        file.write(array)
    return path


@lru_cache
def flat_geotiff(size: int, value: int) -> bytes:
    """Return a GeoTIFF of one value in a square."""
    with TemporaryDirectory() as folder:
        return geotiff(Path(folder, "flat.tif"), np.full((1, size, size), value, np.uint8)).read_bytes()


def write(path: Path, content: bytes) -> None:
    """Write a file and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def own_pairs(folder: Path, num: int = 10, images: str = "images", masks: str = "masks") -> Path:
    """Color pictures of two sizes with masks of 0 and 1, and of three classes in crop/."""
    for i in range(num):
        size = (20 + 4 * (i % 2), 16)
        save(folder / images / f"field_{i}.png", scan(i, size))
        mask = disc(size, (i % 8, 3), level=1)
        save(folder / masks / f"field_{i}.png", mask)
        save(folder / masks.replace("masks", "crop") / f"field_{i}.png", mask * (1 + i % 2))
    return folder


BANDS = {
    "s2": ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"),
    "s1": ("VV", "VH"),
}
CROP_DAYS = ("2017_07_10", "2017_04_01", "2017_05_11")


def crops(
    folder: Path, num: int = 20, sensor: str = "s2", size: int = 20, old: bool = False, clouds: bool = True
) -> Path:
    """Areas with three days each; the first day in time is all clouds where there are cloud masks.

    The bands of day d of area a hold 10 d + band + a / 100 of a step, so that a test knows them again.
    """
    start = "ref_south_africa_crops_competition_v1_train"
    for area in range(1, num + 1):
        label = np.zeros((size, size), np.uint8)
        label[2:10, 2:10], label[12:16, 3:9] = 1 + area % 9, 7
        path = folder / f"{start}_labels_{area}" / "labels.tif" if old else folder / "labels" / f"{area}.tif"
        geotiff(path, label[None])
        for day in CROP_DAYS:
            number = sorted(CROP_DAYS).index(day)
            inner = f"{start}_source_{sensor}_{area}_{day}" if old else f"imagery/{sensor}/{area}/{day}"
            for band, name in enumerate(BANDS[sensor]):
                file = f"{name}.tif" if old else f"{area}_{day}_{name}_10m.tif"
                write(folder / inner / file, flat_geotiff(size, 20 * number + band))
            if clouds and sensor == "s2":
                mask = flat_geotiff(size, 255 if number == 0 else 0)
                write(folder / inner / ("CLM.tif" if old else f"{area}_{day}_CLM_10m.tif"), mask)
    return folder
