"""What is written can be read again by others; nothing half done stays under its name."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.transform import from_origin

from kanvision.data.files.mask_pixels import read_label_values
from kanvision.prediction.files import (
    choose_nodata_value,
    open_array_file,
    open_picture_files,
    open_raster_file,
    write_atomically,
)

GEOREFERENCE = {"crs": rasterio.CRS.from_epsg(32634), "transform": from_origin(300000, -3700000, 10, 20)}


def in_strips(write, planes: np.ndarray, step: int = 256) -> None:
    for top in range(0, planes.shape[1], step):
        write(top, planes[:, top : top + step])


@pytest.mark.parametrize("size", [(300, 520), (5, 3)])
def test_a_raster_keeps_values_place_names_and_no_data(size: tuple[int, int], tmp_path: Path) -> None:
    planes = np.random.default_rng(0).random((3, *size)).astype(np.float32)
    planes[:, 0, 0] = np.nan
    path, names = tmp_path / "new" / "p.tif", ("a", "b", "c")
    with open_raster_file(
        path, size, "float32", names, no_data=float("nan"), georeference=GEOREFERENCE
    ) as write:
        in_strips(write, planes)
        assert not path.exists()
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(), planes)
        assert file.crs == GEOREFERENCE["crs"]
        assert file.transform == GEOREFERENCE["transform"]
        assert file.descriptions == names
        assert np.isnan(file.nodata)
        assert file.compression.name == "deflate"
        assert file.block_shapes[0] == (256, 256)
    assert [p.name for p in path.parent.iterdir()] == ["p.tif"]


def test_a_raster_of_labels_has_colors_and_control_points_are_kept(tmp_path: Path) -> None:
    labels = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    points = [
        GroundControlPoint(row, col, 10 + col, 50 - row) for row, col in ((0, 0), (0, 4), (3, 0), (3, 4))
    ]
    georeference = {"gcps": points, "crs": rasterio.CRS.from_epsg(4326)}
    path = tmp_path / "m.tif"
    with open_raster_file(path, (3, 4), "uint8", ("label",), no_data=255, georeference=georeference) as write:
        write(0, labels)
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(), labels)
        assert file.nodata == 255
        assert file.colormap(1)[0] == (0, 0, 0, 255)
        assert file.colormap(1)[1] == file.colormap(1)[11] != file.colormap(1)[2]
        found, system = file.gcps
        assert system.to_epsg() == 4326
        assert [(p.row, p.col, p.x, p.y) for p in found] == [(p.row, p.col, p.x, p.y) for p in points]
    np.testing.assert_array_equal(read_label_values(path), labels[0])


def test_arrays_are_written_in_strips(tmp_path: Path) -> None:
    planes = np.random.default_rng(0).random((2, 30, 7)).astype(np.float32)
    with open_array_file(tmp_path / "p.npy", planes.shape) as write:
        in_strips(write, planes, 8)
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), planes)


@pytest.mark.parametrize(("no_data", "mode"), [(255, "P"), (65535, "I;16")])
def test_pictures_of_labels_give_the_labels_back(no_data: int, mode: str, tmp_path: Path) -> None:
    labels = np.array([[[0, 1, 2, no_data]], [[1, 0, 0, no_data]]])
    paths = [tmp_path / "a" / "m.png", tmp_path / "b" / "m.png"]
    with open_picture_files(paths, (1, 4), no_data) as write:
        write(0, labels)
    for path, plane in zip(paths, labels, strict=True):
        assert Image.open(path).mode == mode
        np.testing.assert_array_equal(read_label_values(path), plane)
    if mode == "P":  # classes are seen with the eye
        assert len({tuple(color) for color in np.asarray(Image.open(paths[0]).convert("RGB"))[0]}) == 4


def test_no_data_is_a_label_that_no_class_has() -> None:
    assert [choose_nodata_value(count) for count in (2, 255, 256, 1000)] == [255, 255, 65535, 65535]


@pytest.mark.parametrize("kind", ["tif", "npy", "png"])
def test_nothing_stays_after_an_error_and_what_was_there_is_left(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{kind}"
    path.write_text("old")
    file = {
        "tif": lambda: open_raster_file(path, (4, 4), "uint8", ("a",), no_data=255, georeference={}),
        "npy": lambda: open_array_file(path, (1, 4, 4)),
        "png": lambda: open_picture_files([path], (4, 4), 255),
    }[kind]()

    def fail() -> None:
        with file as write:
            write(0, np.zeros((1, 2, 4), np.uint8))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_draft_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    with write_atomically(tmp_path / "x") as path:
        path.write_text("new")
    assert (tmp_path / "x").read_text() == "new"
