"""Values that masks hold are looked at before training: none becomes part of another class unawares."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kanvision.data.files.image_mask_pairs import BinaryMask, IndexMask
from kanvision.data.files.mask_pixels import detect_lossy_format
from kanvision.data.files.pixels import FileError
from tests.data.fake_masks import geotiff, save, scan
from tests.data.reading_masks import masks, refusal

FREE = {"num_classes": None, "mean": None, "std": None}


def make(root: Path, *values: int | tuple[int, int, int], num: int = 10, ext: str = "png", **saving) -> Path:
    """Images whose masks hold 0 and in turn one of the values, or all of them where saving says so."""
    for i in range(num):
        shape = (24, 32, 3) if isinstance(values[0], tuple) else (24, 32)
        mask = np.zeros(shape, np.uint8)
        for index, value in enumerate(values):
            mask[4 + 4 * index : 8 + 4 * index, 5 : 12 + i] = value
        save(root / "images" / f"{i}.png", scan(i, (32, 24)))
        (root / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(root / "masks" / f"{i}.{ext}", **saving)
    return root


def opened(root: Path, **changes):
    data = masks("segmentation_folder", root, **{**FREE, **changes})
    data.setup()
    return data


def refused(root: Path, **changes) -> str:
    return refusal("segmentation_folder", root, **{**FREE, **changes})


MULTICLASS = {"mode": "multiclass"}


@pytest.mark.parametrize(
    ("values", "changes", "words"),
    [
        (
            (1, 2),
            {},
            ("hold 1 and 2 besides 0", "data.mode=multiclass tells them apart", "data.foreground=all"),
        ),
        (
            (1, 2, 3, 255),
            {},
            ("1, 2, 3 and 255", "data.mode=multiclass data.ignore_index=255 tells them apart"),
        ),
        (
            (1, 255),
            {},
            ("hold 1 and 255 besides 0", "data.ignore_index=255 if pixels of 255 do not count"),
        ),
        ((1, 2, 255), {}, ("1, 2 and 255 besides 0", "data.mode=multiclass data.ignore_index=255 tells")),
        ((85, 170), {}, ("'data.palette={0:<class>,85:<class>,170:<class>}' tell them apart",)),
        (
            ((255, 0, 0), (0, 255, 0)),
            {},
            (
                "hold #00ff00 and #ff0000 besides 0",
                "'data.palette={0x000000:<class>,0x00ff00:<class>,0xff0000:<class>}'",
            ),
        ),
        (((255, 0, 0), (0, 255, 0)), {"threshold": 50}, ("is a color picture, of which a threshold",)),
        (((255, 0, 0),), MULTICLASS, ("is a color picture (3 channels)", "data.palette names its colors")),
        (
            (1, 2, 255),
            MULTICLASS,
            (
                "holds label 255, where the masks hold 0, 1 and 2 besides",
                "data.ignore_index=255 if these pixels do not count, or data.num_classes=256",
            ),
        ),
        (
            (1, 2, 255),
            {**MULTICLASS, "num_classes": 3},
            ("holds label 255", "data.ignore_index=255 if these pixels do not count"),
        ),
        ((255,), MULTICLASS, ("data.mode=binary if it is the foreground",)),
        ((85, 170), MULTICLASS, ("'data.palette={0:<class>,85:<class>,170:<class>}' names the classes",)),
    ],
)
def test_values_that_would_be_lost_are_refused_with_what_to_type(
    tmp_path: Path, values: tuple, changes: dict, words: tuple[str, ...]
):
    message = refused(make(tmp_path, *values), **changes)
    assert str(tmp_path / "masks") in message
    assert [word for word in words if word not in message] == []


def test_what_the_refusals_say_to_type_works(tmp_path: Path):
    border = make(tmp_path / "border", 1, 2, 255)
    data = opened(border, **MULTICLASS, ignore_index=255)
    assert data.class_names == ("background", "class_1", "class_2")
    assert data.facts["masks"].endswith("255 (6.0%, not counted) in all 10 masks")
    assert opened(border, **MULTICLASS, num_classes=256).num_classes == 256
    foreground = {"all": 3, (1, 2): 2, (2,): 1}
    for chosen, count in foreground.items():
        data = opened(border, foreground=chosen if chosen == "all" else list(chosen))
        assert int(data.datasets["train"].source[0]["mask"].sum()) == count * 4 * 7
    red = make(tmp_path / "red", (255, 0, 0))  # a single color is one foreground
    assert int(opened(red).datasets["train"].source[0]["mask"].sum()) == 4 * 7


def test_values_are_told_before_training(tmp_path: Path):
    data = opened(make(tmp_path, 1, 3), **MULTICLASS, num_classes=5)
    assert data.facts == {"masks": "0 (88.0%), 1 (6.0%), 3 (6.0%) in all 10 masks; none shows 2 and 4"}


def test_masks_beyond_those_that_are_looked_at_are_checked_when_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("kanvision.data.readers.segmentation_base.MAX_COUNTED_MASKS", 2)
    make(tmp_path, 1, num=60)
    other = np.zeros((24, 32), np.uint8)
    other[3:9, 3:9] = 2
    save(tmp_path / "masks" / "22.png", other)
    data = opened(tmp_path, mean=[0.5] * 3, std=[0.25] * 3)
    assert data.facts["masks"].endswith("in 2 of 60 masks")
    message = r"22\.png: holds 2, where the masks counted before the run hold 0 and 1; data\.foreground says"
    with pytest.raises(ValueError, match=message):
        list(data.train_dataloader())


def test_a_negative_label_is_not_background_unawares(tmp_path: Path):
    make(tmp_path, 1)
    for i in range(10):
        (tmp_path / "masks" / f"{i}.png").unlink()
        mask = np.zeros((1, 24, 32), np.int16)
        mask[0, 3:9, 3:9], mask[0, 0] = 1, -1
        geotiff(tmp_path / "masks" / f"{i}.tif", mask)
    assert "hold -1 and 1 besides 0" in refused(tmp_path)
    assert "label -1, and classes are numbered from 0; data.ignore_index=-1" in refused(
        tmp_path, **MULTICLASS
    )
    assert opened(tmp_path, ignore_index=-1).num_classes == 2


def test_a_jpeg_mask_does_not_grow(tmp_path: Path):
    """At threshold 0 the noise of JPEG around the edges became foreground: 540 pixels of 480."""
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 20:44] = 255
    path = tmp_path / "0.jpg"
    Image.fromarray(mask).save(path, quality=75)
    assert BinaryMask(127)([path])["mask"].sum() == 480
    with pytest.raises(
        FileError, match=r"0\.jpg: is a JPEG with 1, 2, .* data\.threshold=127 keeps the bright"
    ):
        BinaryMask(0)([path])
    root = make(tmp_path / "own", 255, ext="jpg", quality=75)
    assert "data.threshold=127 keeps the bright ones" in refused(root)
    assert int(opened(root, threshold=127).datasets["train"].source[0]["mask"].sum()) == 4 * 7
    assert "is a JPEG, which does not keep the numbers of classes" in refused(root, **MULTICLASS)
    colors = make(tmp_path / "colors", (255, 0, 0), ext="jpg")
    assert "save colors as PNG, and name them by data.palette" in refused(colors)


LOSSY = {
    "a lossy WebP": ("webp", {"quality": 20}),
    "a JPEG 2000": ("jp2", {"irreversible": True, "quality_layers": [9]}),
    "an AVIF": ("avif", {"quality": 20, "advanced": {"enable-palette": "0", "enable-intrabc": "0"}}),
    "a TIFF compressed by JPEG": ("tif", {"compress": "jpeg"}),
    "a TIFF compressed by WEBP": ("tif", {"compress": "webp"}),
}


DISC = 481
"""Number of pixels of the disc below."""


def lossy_mask(path: Path, **options) -> Path:
    """A white disc on black, whose edge has many gray levels in a lossy file."""
    y, x = np.mgrid[:64, :64]
    mask = np.repeat((((x - 30) ** 2 + (y - 33) ** 2 < 150) * 255).astype(np.uint8)[..., None], 3, axis=2)
    if path.suffix == ".tif":
        return geotiff(path, mask.transpose(2, 0, 1), **options)
    Image.fromarray(mask).save(path, **options)
    return path


@pytest.mark.parametrize("kind", LOSSY)
def test_masks_of_any_lossy_format_are_refused_as_those_of_jpeg_are(tmp_path: Path, kind: str):
    """At threshold 0 the noise of every lossy format became foreground; JPEG alone was found."""
    ending, options = LOSSY[kind]
    path = lossy_mask(tmp_path / f"0.{ending}", **options)
    fix = r"data\.threshold=127 keeps the bright"
    with pytest.raises(FileError, match=rf"0\.{ending}: is {kind} with .* besides 0, .*{fix}"):
        BinaryMask(0)([path])
    assert BinaryMask(127)([path])["mask"].sum() == pytest.approx(DISC, abs=20)
    with pytest.raises(FileError, match=f"is {kind}, which does not keep the numbers of classes"):
        IndexMask(None)([lossy_mask(tmp_path / f"1.{ending}", **options)])


@pytest.mark.parametrize(
    ("ending", "options"),
    [("webp", {"lossless": True}), ("png", {}), ("tif", {"compress": "webp", "webp_lossless": True})],
)
def test_masks_of_lossless_formats_are_read(tmp_path: Path, ending: str, options: dict):
    path = lossy_mask(tmp_path / f"0.{ending}", **options)
    assert BinaryMask(0)([path])["mask"].sum() == DISC
    assert IndexMask(None)([path])["mask"].sum() == DISC * 255


def test_every_frame_of_an_animated_webp_is_looked_at(tmp_path: Path):
    frames = [Image.fromarray(scan(i, (32, 24))) for i in range(2)]
    for name, lossless in (("lossy", False), ("lossless", True)):
        path = tmp_path / f"{name}.webp"
        frames[0].save(path, save_all=True, append_images=frames[1:], lossless=lossless)
        assert detect_lossy_format(path) == ("" if lossless else "a lossy WebP")


def test_soft_edges_want_a_threshold(tmp_path: Path):
    for i in range(10):
        mask = np.zeros((12, 12), np.uint8)
        mask[4:8, 4:8] = 255
        soft = Image.fromarray(mask).resize((48, 48), Image.Resampling.BICUBIC)
        save(tmp_path / "images" / f"{i}.png", scan(i, (48, 48)))
        save(tmp_path / "masks" / f"{i}.png", np.asarray(soft))
    message = refused(tmp_path)
    assert "data.threshold=127 keeps the bright ones, if they are soft edges" in message
    assert opened(tmp_path, threshold=127).num_classes == 2
