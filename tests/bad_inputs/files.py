"""Bad files of data."""

from __future__ import annotations

import gzip
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from kanvision.data import build_datamodule
from kanvision.data.transforms.normalize import Preprocessing
from kanvision.prediction import Bands, find_unusable_scenes, raise_problems, resolve_output_file
from tests.data import fake
from tests.data.fake_masks import disc, geotiff, own_pairs, save, scan

from .case import Case

Spoil = Callable[[Path], object]
COLOR = {"in_chans": 3, "img_size": 8, "mean": [0.5] * 3, "std": [0.25] * 3, "batch_size": 4}
GRAY = {"in_chans": 1, "img_size": 8, "mean": [0.5], "std": [0.25], "batch_size": 4}


def classes(spoil: Spoil) -> Spoil:
    """A folder of pictures, spoilt, as a run reads it."""

    def give(root: Path) -> None:
        for split in ("train", "test"):
            fake.class_folders(root / split, num=3)
        spoil(root)
        data = build_datamodule("classification", name="image_folder", root=str(root), **COLOR)
        list(data.test_dataloader())

    return give


def masks(spoil: Spoil, **changes: object) -> Spoil:
    """A folder of pictures with masks, spoilt, as a run finds it."""

    def give(root: Path) -> None:
        own_pairs(root)
        spoil(root)
        options = {**COLOR, "mean": None, "std": None, "mode": "binary", "num_classes": None, **changes}
        build_datamodule("segmentation", name="segmentation_folder", root=str(root), **options).setup()

    return give


def named(name: str, make: Spoil, spoil: Spoil, **options: object) -> Spoil:
    """A published data set, spoilt."""

    def give(root: Path) -> None:
        make(root)
        spoil(root)
        build_datamodule("classification", name=name, root=str(root), **{**COLOR, **options}).setup()

    return give


def write(name: str, content: bytes) -> Spoil:
    def spoil(root: Path) -> None:
        (root / name).write_bytes(content)

    return spoil


def cut(name: str) -> Spoil:
    return lambda root: fake.truncated(root / name)


def remove(name: str) -> Spoil:
    return lambda root: shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()


def picture(name: str, array: np.ndarray) -> Spoil:
    return lambda root: save(root / name, array)


def floats(root: Path) -> None:
    Image.fromarray(np.ones((4, 4), np.float32)).save(root / "test" / "ant" / "float.tif")


def instead(name: str, array: np.ndarray) -> Spoil:
    """A GeoTIFF in the place of a picture."""

    def spoil(root: Path) -> None:
        (root / "images" / f"{name}.png").unlink()
        geotiff(root / "images" / f"{name}.tif", array)

    return spoil


def virtual(root: Path) -> None:
    """A text that names another file, in the place of a picture."""
    (root / "images" / "field_2.png").unlink()
    text = (
        '<VRTDataset rasterXSize="20" rasterYSize="16"><VRTRasterBand dataType="Byte" band="1"/></VRTDataset>'
    )
    (root / "images" / "field_2.tif").write_text(text)


def sixteen_bits(root: Path) -> None:
    (root / "images" / "field_2.png").unlink()
    (root / "images" / "field_2.ppm").write_bytes(b"P6 20 16 65535\n" + bytes(20 * 16 * 6))


def link(name: str, target: str) -> Spoil:
    return lambda root: (root / name).symlink_to(target)


def mask_beside(root: Path) -> None:
    """A mask of another size beside a scene to predict."""
    geotiff(root / "scene.tif", np.zeros((3, 8, 8), np.uint8))
    geotiff(root / "mask.tif", np.zeros((1, 4, 8), np.uint8)).rename(root / "scene.tif.msk")
    raise_problems(find_unusable_scenes([root / "scene.tif"], Bands(3, Preprocessing([0.5] * 3, [0.5] * 3))))


def no_foreground(root: Path) -> None:
    for path in (root / "masks").iterdir():
        Image.new("L", Image.open(path).size).save(path)


def two_colors(root: Path) -> None:
    for path in (root / "masks").iterdir():
        mask = np.zeros((*np.asarray(Image.open(path)).shape, 3), np.uint8)
        mask[2:6, 2:8], mask[8:12, 2:8] = (255, 0, 0), (0, 0, 255)
        save(path, mask)


def jpeg_masks(root: Path) -> None:
    for path in list((root / "masks").iterdir()):
        mask = np.asarray(Image.open(path)) * 255
        path.unlink()
        save(path.with_suffix(".jpg"), mask)


def bordered(root: Path) -> None:
    for path in (root / "crop").iterdir():
        mask = np.array(Image.open(path))
        mask[0] = 255
        save(path, mask)


class Touch:
    """A pickle that would make a file."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, ("touched",)


def with_nan() -> np.ndarray:
    bands = np.ones((3, 16, 20), np.float32)
    bands[1, 2, 3] = np.nan
    return bands


CLASSES = {"mode": "multiclass", "num_classes": 3}
RED = {"#000000": "background", "#ff0000": "road"}
LABELS = "t10k-labels-idx1-ubyte.gz"
CASES = (
    Case("a folder that does not exist", classes(lambda root: shutil.rmtree(root)), ("does not exist",)),
    Case(
        "a file where a folder should be",
        classes(lambda root: (shutil.rmtree(root), root.write_text(""))),
        ("is a file, not a folder",),
    ),
    Case("no test pictures", classes(remove("test")), ("test: is missing", "add one of them")),
    Case(
        "an empty class folder",
        classes(lambda root: (root / "train" / "cow").mkdir()),
        ("train/cow: class folder is empty", "fill it or delete it"),
    ),
    Case(
        "a class that only the test has",
        classes(lambda root: fake.class_folders(root / "test", ("cow",))),
        ("test/cow: not one of the 2 classes (ant, bee)",),
    ),
    Case(
        "a picture that is cut off",
        classes(cut("test/bee/bee_1.png")),
        ("test/bee/bee_1.png: cannot be read as an image", "truncated", "replace the file or delete it"),
    ),
    Case(
        "a picture of 0 bytes",
        classes(write("test/bee/bee_1.png", b"")),
        ("test/bee/bee_1.png: cannot be read as an image (0 bytes)", "replace the file or delete it"),
    ),
    Case(
        "a web page that is called .png",
        classes(write("test/ant/ant_0.png", b"<!DOCTYPE html>404")),
        ("test/ant/ant_0.png: cannot be read as an image", "replace the file"),
    ),
    Case("a picture of floating-point numbers", classes(floats), ("float.tif", "8 or 16 bits are legal")),
    Case(
        "CIFAR-10: a batch with code in it",
        named("cifar10", fake.cifar10, write("data_batch_3", pickle.dumps(Touch()))),
        ("data_batch_3: is refused or broken", "no code", "official source"),
    ),
    Case(
        "CIFAR-10: a batch that is cut off, and one that is missing",
        named(
            "cifar10",
            fake.cifar10,
            lambda root: (fake.truncated(root / "data_batch_2"), (root / "test_batch").unlink()),
        ),
        ("data_batch_2: is refused or broken (pickle data was truncated)", "test_batch: is missing"),
    ),
    Case(
        "MNIST: labels that cannot be unpacked",
        named("mnist", fake.mnist, cut(LABELS), **GRAY),
        (f"{LABELS}: cannot be unpacked", "download the file again"),
    ),
    Case(
        "MNIST: more images than labels",
        named("mnist", fake.mnist, write(LABELS, gzip.compress(fake.idx(np.zeros(7, np.uint8)))), **GRAY),
        ("7 labels for 20 images; both numbers must be equal",),
    ),
    Case(
        "MNIST: a label that there is not",
        named("mnist", fake.mnist, write(LABELS, gzip.compress(fake.idx(np.full(20, 11, np.uint8)))), **GRAY),
        ("label 11 at index 0 (20 such); legal: 0 to 9",),
    ),
    Case(
        "another number of classes",
        named("cifar10", fake.cifar10, lambda root: None, num_classes=100),
        ("data.num_classes=100, but the data have 10 classes; set it to 10",),
    ),
    Case("a picture without a mask", masks(remove("masks/field_2.png")), ("field_2.png: has no mask",)),
    Case(
        "a mask of another size",
        masks(picture("masks/field_2.png", disc((9, 8), level=1))),
        ("field_2.png: 9 x 8 pixels, but its image field_2.png has 20 x 16 pixels",),
    ),
    Case(
        "a mask of 0 bytes",
        masks(write("masks/field_2.png", b"")),
        ("field_2.png: is empty (0 bytes); replace the file or delete it",),
    ),
    Case(
        "a label that there is not",
        masks(picture("masks/field_2.png", disc(level=7)), **CLASSES),
        ("holds label 7 (36 such pixels); legal for data.num_classes=3: 0 to 2",),
    ),
    Case(
        "a mask in colors",
        masks(picture("masks/field_2.png", scan(1)), **CLASSES),
        ("is a color picture (3 channels); a mask holds one number a pixel",),
    ),
    Case(
        "masks of two classes, read as one",
        masks(lambda root: None, mask_folder="crop"),
        ("the masks hold 1 and 2 besides 0", "data.mode=multiclass tells them apart", "data.foreground=all"),
    ),
    Case(
        "masks of two colors, read as one class",
        masks(two_colors),
        ("the masks hold #0000ff and #ff0000 besides 0", "data.palette={0x000000:<class>,"),
    ),
    Case(
        "masks in JPEG, of which every value but 0 is foreground",
        masks(jpeg_masks),
        ("is a JPEG with", "data.threshold=127 keeps the bright ones"),
    ),
    Case(
        "numbers of classes in JPEG",
        masks(jpeg_masks, **CLASSES),
        ("is a JPEG, which does not keep the numbers of classes; save masks as PNG",),
    ),
    Case(
        "two classes with a border of 255",
        masks(bordered, mode="multiclass", mask_folder="crop"),
        (
            "holds label 255, where the masks hold 0, 1 and 2 besides",
            "data.ignore_index=255 if these pixels do not count, or data.num_classes=256",
        ),
    ),
    Case(
        "a color that the palette does not name",
        masks(two_colors, mode="multiclass", palette=RED),
        ("field_0.png: holds the color #0000ff in 24 pixels, which data.palette does not name",),
    ),
    Case(
        "a palette with a key that is no color",
        masks(lambda root: None, mode="multiclass", palette={"red": "road", "#000000": "background"}),
        ("data.palette: red is neither a color nor a number; legal: #rrggbb",),
    ),
    Case("masks that are all empty", masks(no_foreground), ("is empty, as are all of the 10 masks",)),
    Case(
        "a band with NaN",
        masks(instead("field_2", with_nan())),
        ("field_2.tif: band 2 holds NaN or infinity (0.313 % of its pixels); fill them",),
    ),
    Case(
        "too many bands",
        masks(instead("field_2", np.ones((5, 16, 20), np.uint16))),
        ("has 5 bands, data.in_chans=3; set data.in_chans=5",),
    ),
    Case(
        "signed numbers whose range nobody knows",
        masks(instead("field_2", np.ones((3, 16, 20), np.int16))),
        ("pixels are int16; set data.max_value to the value that becomes 1",),
    ),
    Case(
        "a virtual raster called .tif, which names other files or a server",
        masks(virtual),
        ("field_2.tif: cannot be read (is not a TIFF file", "replace the file or delete it"),
    ),
    Case(
        "16 bits a channel in a format that is read with 8",
        masks(sixteen_bits),
        ("field_2.ppm: has more than 8 bits a channel", "save it as PNG or as TIFF"),
    ),
    Case(
        "pictures of more pixels than data.max_pixels",
        masks(lambda root: None, max_pixels=350),
        ("field_1.png: has 24 x 16 pixels, more than data.max_pixels=350; set data.max_pixels=384",),
    ),
    Case(
        "a link in a circle",
        classes(link("train/ant/loop", "..")),
        ("train/ant/loop: is a link to", "a folder around it; delete the link"),
    ),
    Case(
        "a picture in two classes, by a link",
        classes(link("train/bee/again.png", "../ant/ant_0.png")),
        ("train/bee/again.png: is the same file as", "which has another class; delete one of them"),
    ),
    Case(
        "a picture with two masks, by a link",
        masks(
            lambda root: (link("images/z.png", "field_1.png")(root), link("masks/z.png", "field_1.png")(root))
        ),
        ("images/z.png: is the same file as", "delete one of them"),
    ),
    Case(
        "`mode=predict`: a mask of another size beside a GeoTIFF",
        mask_beside,
        ("scene.tif.msk: is a mask of 1 x 4 x 8, but scene.tif has 3 x 8 x 8", "replace it or delete it"),
    ),
    Case(
        "`mode=predict input=scans output=mask.tif`: one file for several images",
        lambda root: resolve_output_file("mask.tif", 3, classes=False),
        ("output=mask.tif: is one file, but there are 3 images; choose a folder",),
    ),
    Case(
        "`mode=predict output=mask.jpg`",
        lambda root: resolve_output_file("mask.jpg", 1, classes=False),
        ("output=mask.jpg: masks are written as .tif or .tiff or .png",),
    ),
)
