"""TIFF files from elsewhere: no other format, no file and no server that they or their neighbors name."""

import ast
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kanvision.data.files.gdal import open_raster
from kanvision.data.files.mask_pixels import read_gray_levels, read_label_values
from kanvision.data.files.pixels import FileError, read_pixels, read_size
from kanvision.data.transforms.normalize import Preprocessing
from kanvision.prediction import Bands, open_scene
from tests.data.fake_masks import geotiff, save

GRAY = Bands(1, Preprocessing([0.5], [0.5]))
SECRET = 73


def virtual(source: str) -> str:
    """A raster of 8 x 8 pixels that names its contents."""
    return (
        '<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{source}</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )


def raw(path: Path) -> str:
    """A raster whose pixels are the bytes of a file."""
    return (
        '<VRTDataset rasterXSize="2" rasterYSize="2"><VRTRasterBand dataType="Byte" band="1" '
        f'subClass="VRTRawRasterBand"><SourceFilename relativetoVRT="0">{path}</SourceFilename>'
        "<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>2</LineOffset>"
        "</VRTRasterBand></VRTDataset>"
    )


def tiles(server: str) -> str:
    """A raster whose pixels are fetched."""
    corners = "".join(
        f"<{name}>{value}</{name}>"
        for name, value in zip(
            ("UpperLeftX", "UpperLeftY", "LowerRightX", "LowerRightY"), (0, 0, 1, 1), strict=True
        )
    )
    return (
        f'<GDAL_WMS><Service name="TMS"><ServerUrl>{server}/${{z}}/${{x}}/${{y}}</ServerUrl></Service>'
        f"<DataWindow>{corners}<SizeX>8</SizeX><SizeY>8</SizeY></DataWindow></GDAL_WMS>"
    )


class Server:
    """Somebody who notes that he is asked."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.asked = 0
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.asked += 1
            connection.close()


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.socket.close()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    return geotiff(tmp_path / "elsewhere" / "secret.tif", np.full((1, 8, 8), SECRET, np.uint8))


def readings(path: Path) -> Iterator[object]:
    """Each way in which a file is read: in training, and in prediction."""
    yield lambda: read_size(path)
    yield lambda: read_pixels(path)
    yield lambda: read_label_values(path)
    yield lambda: read_gray_levels(path)

    def predict() -> np.ndarray:
        with open_scene(path, GRAY) as scene:
            return scene.read_rows(0, scene.height).values

    yield predict


@pytest.mark.parametrize("kind", ["local", "curl", "raw", "tiles"])
def test_a_text_called_tif_opens_nothing(kind: str, secret: Path, server: Server, tmp_path: Path) -> None:
    texts = {
        "local": virtual(str(secret)),
        "curl": virtual(f"/vsicurl/{server.address}/x.tif"),
        "raw": raw(secret),
        "tiles": tiles(server.address),
    }
    path = tmp_path / "scene.tif"
    path.write_text(texts[kind])
    for read in readings(path):
        with pytest.raises(FileError, match=r"scene\.tif: cannot be read .is not a TIFF file"):
            read()
    assert server.asked == 0


def test_another_format_called_tif_is_refused(tmp_path: Path) -> None:
    import rasterio

    with rasterio.open(
        tmp_path / "a.png", "w", driver="PNG", height=8, width=8, count=1, dtype="uint8"
    ) as file:
        file.write(np.zeros((1, 8, 8), np.uint8))
    (tmp_path / "a.png").rename(tmp_path / "a.tif")
    with pytest.raises(FileError, match="is not a TIFF file, and other formats are not opened"):
        read_pixels(tmp_path / "a.tif")


@pytest.mark.parametrize("ending", [".msk", ".ovr", ".aux.xml"])
@pytest.mark.parametrize("location", ["local", "curl"])
def test_what_lies_beside_a_file_opens_nothing(
    ending: str, location: str, secret: Path, server: Server, tmp_path: Path
) -> None:
    path = geotiff(tmp_path / "scene.tif", np.full((1, 8, 8), 5, np.uint8))
    source = str(secret) if location == "local" else f"/vsicurl/{server.address}/x.tif"
    text = virtual(source)
    if ending == ".msk":
        text = text.replace(
            "<VRTRasterBand", '<Metadata><MDI key="INTERNAL_MASK_FLAGS_1">2</MDI></Metadata><VRTRasterBand'
        )
    if ending == ".aux.xml":
        item = f'<MDI key="OVERVIEW_FILE">{source}</MDI>'
        text = f'<PAMDataset><Metadata domain="OVERVIEWS">{item}</Metadata></PAMDataset>'
    (tmp_path / f"scene.tif{ending}").write_text(text)
    *training, predict = readings(path)
    for read in training:
        read()
    if ending == ".msk":
        with pytest.raises(FileError, match=r"scene\.tif\.msk: cannot be read .is not a TIFF file"):
            predict()
    else:
        assert (predict() == 5).all()
    with open_raster(path) as file:
        assert file.files == [str(path)]
    assert server.asked == 0


def test_an_address_in_the_metadata_of_a_file_is_not_followed(server: Server, tmp_path: Path) -> None:
    import rasterio

    path = geotiff(tmp_path / "scene.tif", np.full((1, 8, 8), 5, np.uint8), nodata=3)
    with rasterio.open(path, "r+") as file:
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=f"/vsicurl/{server.address}/x.tif")
    for read in readings(path):
        read()
    assert server.asked == 0


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    path = geotiff(tmp_path / "scene.tif", np.full((1, 8, 8), 5, np.uint8))
    geotiff(tmp_path / "mask.tif", np.zeros((1, 4, 8), np.uint8)).rename(tmp_path / "scene.tif.msk")
    with (
        pytest.raises(
            FileError, match=r"scene\.tif\.msk: is a mask of 1 x 4 x 8, but scene\.tif has 1 x 8 x 8"
        ),
        open_scene(path, GRAY),
    ):
        pass


def test_the_place_of_a_world_file_is_kept(tmp_path: Path) -> None:
    import rasterio

    path = save(tmp_path / "scene.tif", np.zeros((8, 8), np.uint8))
    with open_scene(path, GRAY) as scene:
        assert not scene.georeference
    (tmp_path / "scene.tfw").write_text("2.0\n0\n0\n-2.0\n101.0\n499.0\n")
    with open_scene(path, GRAY) as scene, rasterio.open(path) as file:
        assert scene.georeference["transform"] == file.transform == rasterio.Affine(2, 0, 100, 0, -2, 500)
    (tmp_path / "scene.tfw").write_text("2.0\n0\n")
    with (
        pytest.raises(FileError, match=r"scene\.tfw: is not a world file of six numbers"),
        open_scene(path, GRAY),
    ):
        pass


@pytest.mark.parametrize("fact", ["NoDataValue", "GeoTransform"])
def test_facts_that_stand_beside_a_file_alone_are_refused(fact: str, tmp_path: Path) -> None:
    import rasterio

    nowhere = {"crs": None, "transform": rasterio.Affine.identity()}
    path = geotiff(tmp_path / "scene.tif", np.zeros((1, 8, 8), np.uint8), **nowhere)
    table = tmp_path / "scene.tif.aux.xml"
    table.write_text(f"<PAMDataset><{fact}>0</{fact}></PAMDataset>")
    wanted = rf"scene\.tif\.aux\.xml: holds {fact}, which scene\.tif lacks"
    with pytest.raises(FileError, match=wanted), open_scene(path, GRAY):
        pass
    geotiff(path, np.zeros((1, 8, 8), np.uint8), nodata=7)  # which says both itself
    with open_scene(path, GRAY):
        pass


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_place_on_earth_is_that_of_the_pixels_as_they_are_stored(orientation: int, tmp_path: Path) -> None:
    from PIL import Image

    values = np.arange(48, dtype=np.uint8).reshape(6, 8)
    Image.fromarray(values).save(
        tmp_path / "a.tif",
        tiffinfo={274: orientation, 33550: (2.0, 2.0, 0.0), 33922: (0.0,) * 3 + (100.0, 500.0, 0.0)},
    )
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.tif")[0], values)
    with open_scene(tmp_path / "a.tif", GRAY) as scene:
        assert scene.georeference
        np.testing.assert_array_equal(scene.read_rows(0, 6).values[0], values)


def test_no_file_is_opened_without_its_format() -> None:
    root = Path(__file__).resolve().parents[3] / "src"
    openings = []
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if name in ("Image.open", "rasterio.open"):
                words = {word.arg for word in node.keywords}
                openings.append((path.name, bool(words & {"formats", "driver", None})))
    assert len(openings) == 3
    assert [name for name, has_format in openings if not has_format] == []
