"""Images of any format as rows of values, with the pixels that hold no data; bands that do not fit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kanvision.data.files.pixels import FileError
from kanvision.data.transforms.normalize import Preprocessing
from kanvision.prediction import Bands, open_scene
from tests.data.fake_masks import geotiff, scan
from tests.data.files.test_pillow import turned


def bands(in_chans: int = 3, **options) -> Bands:
    ramp = [0.1 + 0.1 * band for band in range(in_chans)]
    return Bands(in_chans, Preprocessing(ramp, [0.5] * in_chans, options.pop("preset", "default")), **options)


def image(path: Path, wanted: Bands, step: int = 5) -> tuple[torch.Tensor, np.ndarray]:
    """The whole image in units of [0, 1], read in strips, and where it holds data."""
    with open_scene(path, wanted) as scene:
        strips = [strip for _, strip in scene.iter_strips(step)]
        assert sum(len(strip.valid) for strip in strips) == scene.height
        values = torch.cat([wanted.scale(strip, path) for strip in strips], dim=1)
        return values, np.concatenate([strip.valid for strip in strips])


def stored(kind: str, folder: Path) -> tuple[Path, np.ndarray]:
    pixels = scan(3, (20, 17))  # (H, W, 3)
    planes = pixels.transpose(2, 0, 1)
    path = folder / f"image.{kind}"
    if kind == "tif":
        return geotiff(path, planes), planes / 255
    if kind == "npy":
        np.save(path, pixels.astype(np.float32) / 255)
        return path, planes / 255
    Image.fromarray(pixels).save(path, quality=95) if kind == "jpg" else Image.fromarray(pixels).save(path)
    return path, np.asarray(Image.open(path)).transpose(2, 0, 1) / 255


@pytest.mark.parametrize("kind", ["tif", "png", "bmp", "jpg", "npy"])
def test_every_format_gives_the_values_that_training_has(kind: str, tmp_path: Path) -> None:
    path, expected = stored(kind, tmp_path)
    values, valid = image(path, bands())
    np.testing.assert_allclose(values, expected, atol=1e-6)
    assert valid.all()
    if kind == "npy":
        return
    # gray and color become each other
    gray, _ = image(path, Bands(1, Preprocessing([0.5], [0.5])))
    np.testing.assert_allclose(gray[0], np.tensordot([0.299, 0.587, 0.114], expected, 1), atol=1e-5)


@pytest.mark.parametrize(("bits", "divisor"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_values_are_scaled_by_the_type_of_the_file_or_as_the_run_says(bits, divisor, tmp_path: Path) -> None:
    planes = np.arange(4 * 6 * 5).reshape(4, 6, 5).astype(bits)
    path = geotiff(tmp_path / "a.tif", planes)
    np.testing.assert_allclose(image(path, bands(4))[0], planes / divisor, rtol=1e-6)
    np.testing.assert_allclose(image(path, bands(4, max_value=200.0))[0], planes / 200, rtol=1e-6)
    chosen = image(path, bands(2, bands=(4, 1)))[0]
    np.testing.assert_allclose(chosen, planes[[3, 0]] / divisor, rtol=1e-6)


def test_pixels_without_data_become_what_is_0_after_normalization(tmp_path: Path) -> None:
    planes = np.full((3, 6, 5), 0.9, np.float32)
    planes[1, 2, 3], planes[0, 0, 0], planes[2, 5, 4] = np.nan, np.inf, -9999
    path = geotiff(tmp_path / "a.tif", planes, nodata=-9999)
    np.save(tmp_path / "a.npy", np.where(planes == -9999, np.nan, planes))
    for file in (path, tmp_path / "a.npy"):
        for preset in ("default", "u_kan"):
            wanted = bands(preset=preset)
            values, valid = image(file, wanted)
            assert {tuple(pixel) for pixel in np.argwhere(~valid)} == {(0, 0), (2, 3), (5, 4)}
            normalized = wanted.preprocessing(values)
            assert normalized[:, ~torch.from_numpy(valid)].abs().max() < 1e-6
            np.testing.assert_allclose(values[:, 1], 0.9, rtol=1e-6)


def test_transparency_and_masks_are_no_data(tmp_path: Path) -> None:
    import rasterio
    from rasterio.enums import ColorInterp

    planes = np.full((4, 6, 5), 90, np.uint8)
    planes[3, :2] = 0
    path = geotiff(tmp_path / "alpha.tif", planes, photometric="RGB", alpha="YES")
    with rasterio.open(path, "r+") as file:
        file.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    assert not image(path, bands())[1][:2].any()
    path = geotiff(tmp_path / "masked.tif", planes[:3])
    with rasterio.open(path, "r+") as file:
        file.write_mask(planes[3] > 0)
    _, valid = image(path, bands())
    assert not valid[:2].any()
    assert valid[2:].all()


def test_a_fourth_band_that_gdal_takes_for_transparency_is_data_where_four_are_wanted(tmp_path: Path) -> None:
    planes = np.random.default_rng(0).integers(0, 2, (4, 6, 5), np.uint8)
    path = geotiff(tmp_path / "a.tif", planes)
    for wanted in (bands(4), bands(4, bands=(1, 2, 3, 4))):
        values, valid = image(path, wanted)
        np.testing.assert_allclose(values, planes / 255, rtol=1e-6)
        assert valid.all()


def test_the_place_on_earth_is_kept_and_pictures_have_none(tmp_path: Path) -> None:
    import rasterio

    planes = np.zeros((3, 6, 5), np.uint8)
    with open_scene(geotiff(tmp_path / "a.tif", planes), bands()) as scene:
        assert scene.is_tiff
        assert scene.georeference["crs"].to_epsg() == 32634
        assert tuple(scene.georeference["transform"])[:6] == (10, 0, 300000, 0, -10, -3700000)
    nowhere = geotiff(tmp_path / "b.tif", planes, crs=None, transform=rasterio.Affine.identity())
    with open_scene(nowhere, bands()) as scene:
        assert scene.is_tiff
        assert not scene.georeference
    Image.fromarray(planes.transpose(1, 2, 0)).save(tmp_path / "c.png")
    with open_scene(tmp_path / "c.png", bands()) as scene:
        assert not scene.is_tiff
        assert not scene.georeference


@pytest.mark.parametrize(
    ("have", "wanted", "words"),
    [
        (5, bands(12), ["has 5 bands", "trained on 12", "choose a file with 12"]),
        (13, bands(12), ["has 13 bands", "trained on 12", "predict.bands"]),
        (1, bands(2), ["has 1 band,", "trained on 2"]),
        (3, bands(2, bands=(2, 5)), ["has 3 bands", "no band 5", "[2, 5]"]),
    ],
)
@pytest.mark.parametrize("kind", ["tif", "npy"])
def test_a_wrong_number_of_bands_names_file_and_numbers(have, wanted, words, kind, tmp_path: Path) -> None:
    planes, path = np.zeros((have, 20, 21), np.uint8), tmp_path / f"a.{kind}"
    if kind == "tif":
        geotiff(path, planes)
    else:
        np.save(path, planes)
    with pytest.raises(FileError) as refused, open_scene(path, wanted):
        pass
    assert [word for word in [str(path), *words] if word not in str(refused.value)] == [], str(refused.value)


def test_a_type_that_says_nothing_of_its_range_needs_a_key(tmp_path: Path) -> None:
    path = geotiff(tmp_path / "a.tif", np.zeros((3, 6, 5), np.int16))
    with pytest.raises(FileError, match=r"int16; set predict\.max_value"):
        image(path, bands())
    assert image(path, bands(max_value=10000.0))[1].all()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = geotiff(tmp_path / "a.tif", np.random.default_rng(0).integers(0, 255, (3, 64, 64), np.uint8))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(FileError, match=r"a\.tif: cannot be read"):
        image(path, bands())
    (tmp_path / "b.tif").write_text("no image")
    with pytest.raises(FileError, match=r"b\.tif: cannot be read"):
        image(tmp_path / "b.tif", bands())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "tif"])
def test_rows_are_those_of_the_upright_image(kind: str, orientation: int, tmp_path: Path) -> None:
    upright = scan(3, (17, 20))
    path = turned(tmp_path / f"a.{kind}", upright, orientation)
    values, valid = image(path, bands(), step=3)
    np.testing.assert_allclose(values, upright.transpose(2, 0, 1) / 255, atol=1e-6)
    assert valid.all()


@pytest.mark.parametrize("inside", ["YES", "NO"])
def test_masks_are_turned_with_their_image(inside: str, tmp_path: Path) -> None:
    import rasterio

    upright = scan(3, (17, 20))
    path = turned(tmp_path / "a.tif", upright, 6)
    holds_data = np.ones((20, 17), bool)
    holds_data[2:5, :7] = False
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside), rasterio.open(path, "r+") as file:
        file.write_mask(np.rot90(holds_data))
    assert (tmp_path / "a.tif.msk").exists() == (inside == "NO")
    np.testing.assert_array_equal(image(path, bands(), step=3)[1], holds_data)


def test_a_palette_gives_colors_and_transparency_a_fourth_band(tmp_path: Path) -> None:
    picture = Image.fromarray(scan(3, (17, 20))).quantize(9)
    picture.save(tmp_path / "a.tif")
    np.testing.assert_allclose(
        image(tmp_path / "a.tif", bands())[0], np.asarray(picture.convert("RGB")).transpose(2, 0, 1) / 255
    )
    picture = picture.convert("RGB")
    picture.putalpha(Image.fromarray(scan(4, (17, 20))[..., 0]))
    picture.save(tmp_path / "b.png")
    expected = np.asarray(picture).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(image(tmp_path / "b.png", bands(4))[0], expected, rtol=1e-6)
    np.testing.assert_allclose(
        image(tmp_path / "b.png", bands(2, bands=(4, 1)))[0], expected[[3, 0]], rtol=1e-6
    )
    np.testing.assert_allclose(image(tmp_path / "b.png", bands())[0], expected[:3], rtol=1e-6)
