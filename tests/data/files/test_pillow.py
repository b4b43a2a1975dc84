"""Pictures as they are meant: upright, of all their bits and channels, and not larger than is asked for."""

import io
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from kanvision.data.errors import DataError
from kanvision.data.files.images import Decoding, FileSource
from kanvision.data.files.mask_pixels import read_gray_levels, read_label_values
from kanvision.data.files.pillow import pixel_limit
from kanvision.data.files.pixels import FileError, read_pixels, read_size, scale_to_unit_range
from kanvision.data.inspection import Inspection
from kanvision.data.readers.image_folder import ImageFolder
from tests.data import fake
from tests.data.fake_masks import disc, geotiff, own_pairs, save, scan
from tests.data.reading_masks import masks

STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright),
    7: lambda upright: np.rot90(upright, 2).swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}
"""An upright array (H, W, ...) as a camera stores it, by EXIF orientation."""
UPRIGHT = scan(1, (24, 16))


def turned(path: Path, upright: np.ndarray, orientation: int, **options) -> Path:
    """Write an upright array as a camera that was held so would."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    picture.save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["png", "webp", "tif"])
def test_images_and_masks_are_upright(kind: str, orientation: int, tmp_path: Path) -> None:
    mask = disc((24, 16))
    options = {"lossless": True, "exact": True} if kind == "webp" else {}
    path = turned(tmp_path / f"a.{kind}", UPRIGHT, orientation, **options)
    assert read_size(path) == (16, 24)
    np.testing.assert_array_equal(read_pixels(path, 3), UPRIGHT.transpose(2, 0, 1))
    path = turned(tmp_path / f"m.{kind}", mask, orientation, **options)
    np.testing.assert_array_equal(read_gray_levels(path), mask)
    np.testing.assert_array_equal(read_label_values(path, allow_colors=True), mask)


@pytest.mark.parametrize("kind", ["png", "jpg", "tif"])
def test_pictures_with_a_class_are_upright_unless_published_numbers_need_them_stored(
    kind: str, tmp_path: Path
) -> None:
    path, expected = turned(tmp_path / f"a.{kind}", UPRIGHT, 6), UPRIGHT
    if kind == "jpg":
        expected = np.rot90(np.asarray(Image.open(path)), -1)
    for upright in (True, False) if kind != "tif" else (True,):  # Pillow turns a TIFF file by itself
        source = FileSource([str(path)], np.zeros(1, np.int64), DataError, Decoding(upright=upright))
        wanted = expected if upright else STORED[6](expected)
        np.testing.assert_array_equal(np.asarray(source.select(np.array([0])).image(0)), wanted)


def test_an_orientation_behind_the_pixels_of_a_png_file_counts_for_the_size_too(tmp_path: Path) -> None:
    content = turned(tmp_path / "a.png", UPRIGHT, 6).read_bytes()
    start = content.index(b"eXIf") - 4
    length = 12 + int.from_bytes(content[start : start + 4], "big")
    exif, end = content[start : start + length], content.index(b"IEND") - 4
    late = content[:start] + content[start + length : end] + exif + content[end:]
    (tmp_path / "a.png").write_bytes(late)
    assert read_size(tmp_path / "a.png") == (16, 24)
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.png"), UPRIGHT.transpose(2, 0, 1))


def test_a_turned_tiff_file_is_upright_whatever_its_name(tmp_path: Path) -> None:
    path = turned(tmp_path / "a.tif", UPRIGHT, 6).rename(tmp_path / "a.png")
    assert read_size(path) == (16, 24)
    np.testing.assert_array_equal(read_pixels(path), UPRIGHT.transpose(2, 0, 1))


def test_damaged_exif_data_turn_nothing(tmp_path: Path) -> None:
    Image.fromarray(UPRIGHT).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.png"), UPRIGHT.transpose(2, 0, 1))


def test_a_turned_image_lies_on_its_mask_in_training(tmp_path: Path) -> None:
    own_pairs(tmp_path, 10)
    for path in sorted((tmp_path / "images").iterdir()):
        mask = np.asarray(Image.open(tmp_path / "masks" / path.name))
        turned(path, np.repeat(mask[..., None] * np.uint8(255), 3, axis=2), 6)
    data = masks("segmentation_folder", tmp_path)
    data.setup()
    sample = data.datasets["train"].source[0]
    assert ((sample["image"][0] > 0.5) == (sample["mask"] > 0)).all()
    assert sample["mask"].sum() == 36


def png_of_16_bits(path: Path, levels: np.ndarray) -> Path:
    """Write (H, W, C) uint16 as a PNG file."""
    height, width, count = levels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    head = (
        width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, {2: 4, 3: 2, 4: 6}[count], 0, 0, 0])
    )
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, body in ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
            file.write(
                len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")
            )
    return path


@pytest.mark.parametrize("count", [2, 3, 4])
def test_sixteen_bits_of_a_color_png_file_are_those_of_the_same_tiff_file(count: int, tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 10000, (16, 24, count)).astype(np.uint16)
    levels[0, 0, 0] = 9980
    path = png_of_16_bits(tmp_path / "a.png", levels)
    geotiff(tmp_path / "a.tif", levels.transpose(2, 0, 1))
    found = read_pixels(path, count)
    np.testing.assert_array_equal(found, levels.transpose(2, 0, 1))
    np.testing.assert_array_equal(found, read_pixels(tmp_path / "a.tif", count))
    assert scale_to_unit_range(found, path, 10000, found.dtype)[0, 0, 0] == pytest.approx(0.998)
    color = count - (count != 3)
    np.testing.assert_array_equal(read_pixels(path), levels.transpose(2, 0, 1)[:color])


@pytest.mark.parametrize("name", ["a.ppm", "a.jp2", "a.sgi", "ten.avif", "twelve.avif", "tiff.png"])
def test_other_pictures_of_16_bits_a_channel_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    levels = np.full((3, 16, 16), 9980, np.uint16)
    if name == "a.ppm":
        path.write_bytes(b"P6 16 16 65535\n" + levels.astype(">u2").tobytes())
    elif name == "a.sgi":
        Image.new("RGB", (16, 16)).save(path, bpc=2)
    elif name == "a.jp2":
        assert cv2.imwrite(str(path), np.full((64, 64, 3), 9980, np.uint16))
    elif path.suffix == ".avif":
        depth = [cv2.IMWRITE_AVIF_DEPTH, {"ten": 10, "twelve": 12}[path.stem]]
        assert cv2.imwrite(str(path), np.full((64, 64, 3), 980, np.uint16), depth)
    else:
        geotiff(tmp_path / "a.tif", levels, interleave="pixel", photometric="RGB").rename(path)
    with pytest.raises(
        FileError, match=f"{name}: has more than 8 bits a channel.*; save it as PNG or as TIFF"
    ):
        read_pixels(path)
    assert len(set(read_size(path))) == 1


def test_an_avif_file_of_8_bits_is_read_and_one_of_10_bits_is_brought_to_8_for_classes(
    tmp_path: Path,
) -> None:
    levels = np.full((64, 64, 3), 125, np.uint8)
    for name, pixels, depth in (("8.avif", levels, 8), ("10.avif", levels.astype(np.uint16) * 4, 10)):
        options = [cv2.IMWRITE_AVIF_DEPTH, depth, cv2.IMWRITE_AVIF_QUALITY, 95]
        assert cv2.imwrite(str(tmp_path / name), pixels, options)
        source = FileSource([str(tmp_path / name)], np.zeros(1, np.int64), lambda found: DataError(found[0]))
        assert np.abs(np.asarray(source.image(0)).astype(int) - 125).max() <= 2
    assert np.abs(read_pixels(tmp_path / "8.avif").astype(int) - 125).max() <= 2


def test_a_palette_of_a_tiff_file_gives_its_colors_as_that_of_a_png_file(tmp_path: Path) -> None:
    picture = Image.fromarray(UPRIGHT).quantize(7)
    picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "a.tif")
    found = read_pixels(tmp_path / "a.tif", 3)
    np.testing.assert_array_equal(found, np.asarray(picture.convert("RGB")).transpose(2, 0, 1))
    for read in (read_pixels, read_label_values):
        np.testing.assert_array_equal(read(tmp_path / "a.tif"), read(tmp_path / "a.png"))
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.tif", 2, [3, 1]), found[[2, 0]])
    gray = Image.fromarray(UPRIGHT).convert("L").quantize(7)
    for kind in ("png", "tif"):
        gray.save(tmp_path / f"b.{kind}")
        np.testing.assert_array_equal(read_gray_levels(tmp_path / f"b.{kind}"), np.asarray(gray.convert("L")))


@pytest.mark.parametrize(("mode", "count"), [("RGBA", 4), ("LA", 2), ("P", 4)])
def test_transparency_is_a_band_where_so_many_are_asked_for(mode: str, count: int, tmp_path: Path) -> None:
    alpha = Image.fromarray(np.arange(16 * 24, dtype=np.uint8).reshape(16, 24))
    picture = Image.fromarray(UPRIGHT).convert("L" if mode == "LA" else "RGB")
    picture.putalpha(alpha)
    if mode == "P":
        picture = picture.quantize(200)
    picture.save(tmp_path / "a.png")
    expected = np.asarray(picture.convert("RGBA" if mode == "P" else mode)).transpose(2, 0, 1)
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.png", count), expected)
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.png", 2, [count, 1]), expected[[count - 1, 0]])
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.png", 3), expected[:-1])
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.png"), expected[:-1])


def large_png(path: Path, side: int) -> Path:
    """A file of some kilobytes that claims side x side pixels of one bit."""
    pack, row = zlib.compressobj(9), bytes(1 + -(-side // 8))
    body = b"".join(pack.compress(row) for _ in range(side)) + pack.flush()
    head = side.to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, part in ((b"IHDR", head), (b"IDAT", body), (b"IEND", b"")):
            file.write(
                len(part).to_bytes(4, "big") + name + part + zlib.crc32(name + part).to_bytes(4, "big")
            )
    return path


def test_an_image_of_more_pixels_than_the_limit_is_refused_by_key(tmp_path: Path, recwarn) -> None:
    path = large_png(tmp_path / "a.png", 13400)  # above the limit of Pillow
    for read in (read_pixels, read_size, read_gray_levels, read_label_values):
        with pytest.raises(
            FileError, match=r"a\.png: has 13400 x 13400 pixels, more than data\.max_pixels=178956970; set"
        ):
            read(path)
    source = FileSource([str(path)], np.zeros(1, np.int64), lambda problems: DataError(problems[0]))
    with pytest.raises(DataError, match=r"a\.png.*data\.max_pixels=178956970"):
        source.image(0)
    with pixel_limit(None):
        assert read_size(path) == (13400, 13400)
    with pixel_limit(13400**2, "predict.max_pixels"), pytest.raises(FileError, match=r"predict\.max_pixels"):
        read_size(large_png(tmp_path / "b.png", 13401))
    assert [warning for warning in recwarn if "bomb" in str(warning.message)] == []
    assert Image.MAX_IMAGE_PIXELS == 89478485


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
def test_the_limit_is_a_key_of_the_data(name: str, tmp_path: Path) -> None:
    own_pairs(tmp_path, 4)
    (tmp_path / "images" / "field_0.png").unlink()
    if name == "a.tif":
        geotiff(tmp_path / "images" / "field_0.tif", scan(1, (20, 16)).transpose(2, 0, 1))
    else:
        save(tmp_path / "images" / f"field_0{name[1:]}", scan(1, (20, 16)))
    masks("segmentation_folder", tmp_path, max_pixels=24 * 16).setup()
    with pytest.raises(
        DataError, match=rf"field_0{name[1:]}: has 20 x 16 pixels, more than data\.max_pixels=300"
    ):
        masks("segmentation_folder", tmp_path, max_pixels=300).setup()


def test_no_picture_is_opened_by_another_program(tmp_path: Path, monkeypatch) -> None:
    text = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    monkeypatch.setattr("subprocess.check_call", lambda *words, **options: pytest.fail(f"runs {words}"))
    (tmp_path / "a.png").write_bytes(text)
    with pytest.raises(FileError, match=r"a\.png: cannot be read"):
        read_pixels(tmp_path / "a.png")
    source = FileSource([str(tmp_path / "a.png")], np.zeros(1, np.int64), lambda found: DataError(found[0]))
    with pytest.raises(DataError, match="unknown format"):
        source.image(0)
    assert Image.open(io.BytesIO(text)).format == "EPS"


def test_check_data_says_what_becomes_of_16_bits_and_names_virtual_rasters(tmp_path: Path) -> None:
    for split in ("train", "test"):
        fake.class_folders(tmp_path / split)
    png_of_16_bits(
        tmp_path / "train" / "ant" / "deep.png",
        np.arange(0, 64000, 1000, np.uint16).reshape(8, 8, 1).repeat(3, 2),
    )
    (tmp_path / "train" / "bee" / "virtual.tif").write_text("<VRTDataset rasterXSize='8'/>")
    inspection = Inspection(ImageFolder(tmp_path))
    list(inspection.inspect_samples())
    found = {Path(issue.file).name: issue for issue in inspection.collect_issues()}
    assert found["deep.png"].wrong == "has more than 8 bits a channel"
    assert not found["deep.png"].is_bad
    assert found["virtual.tif"].is_bad
    assert "holds a virtual raster" in found["virtual.tif"].wrong
