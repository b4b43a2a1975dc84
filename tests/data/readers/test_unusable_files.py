"""Every way in which images and masks are unusable, or unusual: a row each, and all of them in one message.

What is refused is refused before a run starts, names the file, and says what would be right. What is merely
unusual (16 bits, palettes, transparency) is read as what it means.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.fake_masks import crops, disc, geotiff, own_pairs, save, scan
from tests.data.reading_masks import masks, refusal

FREE = {"num_classes": None, "mean": None, "std": None}
SIZE = (20, 16)
Spoil = Callable[[Path], object]


def another_size(root: Path) -> None:
    save(root / "masks" / "field_2.png", disc((9, 8), level=1))


def no_mask(root: Path) -> None:
    (root / "masks" / "field_2.png").unlink()


def no_image(root: Path) -> None:
    (root / "images" / "field_2.png").write_bytes(b"")


def all_empty(root: Path) -> None:
    for path in (root / "masks").iterdir():
        Image.new("L", Image.open(path).size).save(path)


def four_bands(root: Path) -> None:
    (root / "images" / "field_2.png").unlink()
    geotiff(root / "images" / "field_2.tif", np.ones((4, 16, 20), np.uint16))


def nan_band(root: Path) -> None:
    (root / "images" / "field_2.png").unlink()
    bands = np.ones((3, 16, 20), np.float32)
    bands[2, 0, 0] = np.nan
    geotiff(root / "images" / "field_2.tif", bands)


def broken_geotiff(root: Path) -> None:
    (root / "images" / "field_2.png").unlink()
    path = geotiff(root / "images" / "field_2.tif", np.ones((3, 16, 20), np.uint8))
    path.write_bytes(path.read_bytes()[:60])


def label_seven(root: Path) -> None:
    save(root / "masks" / "field_2.png", disc(SIZE, level=7))


def sixteen_bit_label(root: Path) -> None:
    save(root / "masks" / "field_2.png", disc(SIZE).astype(np.uint16) * 4)


def color_mask(root: Path) -> None:
    save(root / "masks" / "field_2.png", scan(2))


def palette_beyond(root: Path) -> None:
    picture = Image.fromarray(disc(SIZE, level=5), "P")
    picture.putpalette([0, 0, 0, 255, 255, 255] * 128)
    picture.save(root / "masks" / "field_2.png")


CLASSES = {"mode": "multiclass", "num_classes": 3}


@pytest.mark.parametrize(
    ("spoil", "changes", "words"),
    [
        (another_size, {}, "field_2.png: 9 x 8 pixels, but its image field_2.png has 20 x 16 pixels"),
        (no_mask, {}, "field_2.png: has no mask"),
        (no_image, {}, "field_2.png: is empty (0 bytes); replace the file or delete it"),
        (all_empty, {}, "field_0.png: is empty, as are all of the 10 masks that were read"),
        (
            four_bands,
            {},
            "field_2.tif: has 4 bands, data.in_chans=3; set data.in_chans=4, or choose 3 of them",
        ),
        (nan_band, {}, "field_2.tif: band 3 holds NaN or infinity (0.313 % of its pixels); fill them"),
        (broken_geotiff, {}, "field_2.tif: cannot be read"),
        (label_seven, CLASSES, "holds label 7 (36 such pixels); legal for data.num_classes=3: 0 to 2"),
        (sixteen_bit_label, CLASSES, "holds label 1020 (36 such pixels); legal for data.num_classes=3"),
        (palette_beyond, CLASSES, "holds label 5 (36 such pixels); legal for data.num_classes=3"),
        (
            color_mask,
            CLASSES,
            "field_2.png: is a color picture (3 channels); a mask holds one number a pixel",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, spoil: Spoil, changes: dict, words: str):
    spoil(own_pairs(tmp_path))
    message = refusal("segmentation_folder", tmp_path, **{**FREE, **changes})
    assert words in message
    assert str(tmp_path) in message
    assert "segmentation_folder: 1 problem" in message


def test_a_missing_band_file_is_named(tmp_path: Path):
    (crops(tmp_path) / "imagery/s2/3/2017_04_01/3_2017_04_01_B8A_10m.tif").unlink()
    changes = {"in_chans": 12, "mean": [0.0] * 12, "std": [1.0] * 12, "max_clouds_eval": None}
    message = refusal("sentinel_crops", tmp_path, **changes)
    assert "imagery/s2/3/2017_04_01: band B8A is missing" in message


def test_all_of_them_are_told_at_once(tmp_path: Path):
    own_pairs(tmp_path, 12)
    (tmp_path / "masks" / "field_1.png").unlink()
    save(tmp_path / "masks" / "field_3.png", disc((9, 8), level=1))
    (tmp_path / "images" / "field_4.png").write_bytes(b"\x89PNG nothing")
    (tmp_path / "images" / "field_6.png").unlink()
    geotiff(tmp_path / "images" / "field_6.tif", np.ones((3, 8, 8), np.uint8))
    message = refusal("segmentation_folder", tmp_path, **FREE)
    assert message.count("\n  - ") == 4
    for name in ("field_1.png", "field_3.png", "field_4.png", "field_6.png"):
        assert name in message
    own_pairs(tmp_path / "second", 10)
    for number, spoil in ((2, nan_band), (5, four_bands)):
        spoil(tmp_path / "second")
        (tmp_path / "second/images/field_2.tif").rename(tmp_path / f"second/images/field_{number}.tif")
        (tmp_path / f"second/images/field_{number}.png").unlink(missing_ok=True)
        save(tmp_path / "second/images/field_2.png", scan(2))
        save(tmp_path / f"second/masks/field_{number}.png", disc(SIZE, level=1))
    (tmp_path / "second/images/field_2.png").unlink()
    nan_again = np.full((3, 16, 20), np.inf, np.float32)
    geotiff(tmp_path / "second/images/field_2.tif", nan_again)
    message = refusal("segmentation_folder", tmp_path / "second", **FREE)
    assert "field_2.tif: band 1 holds NaN or infinity (100 % of its pixels)" in message
    assert "field_5.tif: has 4 bands" in message


@pytest.mark.parametrize("kind", ["16 bits", "16-bit mask", "palette", "palette mask", "RGBA", "LA"])
def test_what_is_merely_unusual_is_read_as_what_it_means(tmp_path: Path, kind: str):
    folder = Path("images" if kind in ("16 bits", "palette", "RGBA", "LA") else "masks")
    color, gray = scan(2), scan(2)[..., 0]
    changes, wanted = {**FREE}, torch.from_numpy(color / 255).movedim(-1, 0)
    own_pairs(tmp_path)
    path = tmp_path / folder / "field_2.png"
    if kind == "16 bits":
        save(path, gray.astype(np.uint16) * 257)
        wanted = torch.from_numpy(gray / 255).expand(3, -1, -1)
    elif kind == "16-bit mask":
        save(path, (disc(SIZE) > 0).astype(np.uint16) * 512)  # 0 in its lower 8 bits
        changes["foreground"] = "all"  # the other masks hold 1
    elif kind == "palette":
        picture = Image.fromarray(color).quantize(16)
        picture.save(path)
        wanted = torch.from_numpy(np.asarray(picture.convert("RGB")) / 255).movedim(-1, 0)
    elif kind == "palette mask":
        picture = Image.fromarray(disc(SIZE, level=1), "P")
        picture.putpalette([200, 10, 10, 0, 0, 0] + [0] * 762)  # the background is the brighter one
        picture.save(path)
    elif kind == "RGBA":
        alpha = np.full((*gray.shape, 1), 9, np.uint8)
        save(path, np.concatenate([color, alpha], axis=-1))
    else:
        save(path, np.stack([gray, gray * 0 + 9], axis=-1))
        wanted = torch.from_numpy(gray / 255).expand(3, -1, -1)
    data = masks("segmentation_folder", tmp_path, **changes, split_seed=1)
    data.setup()
    source = next(part.source for part in data.datasets.values() if "field_2" in part.source.names)
    sample = source[source.names.index("field_2")]
    if folder.name == "images":
        torch.testing.assert_close(sample["image"].double(), wanted, atol=1e-6, rtol=0)
    else:
        assert torch.equal(sample["mask"], torch.from_numpy((disc(SIZE) > 0).astype(np.int64)))
