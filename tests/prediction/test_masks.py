"""From a file to masks, probabilities and an overlay: values, formats, places, no data, several labels."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from kanvision.data.files.mask_pixels import read_label_values
from kanvision.data.files.palette import Palette, PaletteMask
from kanvision.data.files.pillow import pixel_limit
from kanvision.data.files.pixels import FileError
from kanvision.data.transforms.normalize import Preprocessing
from kanvision.data.transforms.resize import resize_image
from kanvision.prediction import Bands, MaskPredictor, Outputs, open_scene
from kanvision.prediction import statistics as tally_module
from tests.data.fake_masks import geotiff, save, scan

BANDS = Bands(3, Preprocessing([0.4, 0.5, 0.3], [0.2, 0.3, 0.25]))
MODES = {
    "binary": ("tree",),
    "multiclass": ("ground", "tree", "a lake"),
    "multilabel": ("tree", "a lake", "../up"),
}


def logits(images: Tensor) -> Tensor:
    """A "network" of single pixels, (B, 3, H, W) to the same."""
    mixing = torch.tensor([[1.0, -0.5, -0.3], [-0.7, 1.0, 0.2], [0.1, 0.4, -1.0]])
    return torch.einsum("kc,bchw->bkhw", mixing, images)


def predictor(mode: str, **options) -> MaskPredictor:
    planes = len(MODES[mode])

    def probabilities(images: Tensor, size: tuple[int, int]) -> Tensor:
        found = F.interpolate(logits(images), size, mode="bilinear")
        return found.softmax(1) if mode == "multiclass" else found[:, :planes].sigmoid()

    def decisions(found: Tensor) -> Tensor:
        if mode == "multiclass":
            return found.argmax(1)
        return (found > 0.4).long() if mode == "multilabel" else (found[:, 0] > 0.4).long()

    facts = {"img_size": 16, "interpolation": "bilinear", "tile": 16, "overlap": 4, "batch_size": 3}
    return MaskPredictor(probabilities, decisions, mode, MODES[mode], **facts | options)


def run(path: Path, used: MaskPredictor, bands: Bands = BANDS):
    outputs, done = used.plan_outputs(Path(path.name), path.parent / "out"), []
    with open_scene(path, bands) as scene:
        total = used.num_tiles(scene)
        outcome = used.predict(scene, outputs, done.append)
    assert sum(done) == total
    assert sorted(outputs.files) == sorted(p for p in (path.parent / "out").rglob("*") if p.is_file())
    return outputs, outcome


def expected(unit: np.ndarray, used: MaskPredictor) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels of a whole image in one pass."""
    images = BANDS.preprocessing(torch.from_numpy(unit).float())[None]
    found = used.probabilities(images, unit.shape[1:])
    labels = used.decisions(found)[0].numpy()
    return found[0].numpy(), labels if labels.ndim == 3 else labels[None]


@pytest.mark.parametrize("mode", MODES)
def test_a_geotiff_gives_geotiffs_at_the_same_place(mode: str, tmp_path: Path) -> None:
    planes = scan(1, (70, 300)).transpose(2, 0, 1)
    path, used = geotiff(tmp_path / "scene.tif", planes), predictor(mode)
    outputs, outcome = run(path, used)
    found, labels = expected(planes / 255, used)
    assert 0.05 < (labels > 0).mean() < 0.95
    with rasterio.open(path) as source, rasterio.open(outputs.masks[0]) as mask:
        for file in (mask, rasterio.open(outputs.probabilities)):
            assert (file.crs, file.transform, file.shape) == (source.crs, source.transform, source.shape)
        assert (mask.dtypes[0], mask.nodata) == ("uint8", 255)
        assert (mask.read() == labels).mean() > 0.999  # two classes as good as each other may change places
    with rasterio.open(outputs.probabilities) as file:
        assert file.descriptions == MODES[mode]
        np.testing.assert_allclose(file.read(), found, atol=1e-5)
    counted = labels if mode == "multilabel" else [labels == label for label in range(1, max(2, len(found)))]
    np.testing.assert_allclose(outcome.shares, [np.mean(plane) for plane in counted], atol=2e-3)
    normalized = BANDS.preprocessing(torch.from_numpy(planes / 255).float())
    np.testing.assert_allclose(outcome.offsets, normalized.mean(dim=(1, 2)), atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_is_resized_as_evaluation_does_and_back(mode: str, tmp_path: Path) -> None:
    path = save(tmp_path / "photo.png", scan(2, (40, 50)))
    used = predictor(mode)
    outputs, _ = run(path, used)
    unit = torch.from_numpy(scan(2, (40, 50)).transpose(2, 0, 1) / 255).float()
    small = BANDS.preprocessing(resize_image(unit, (16, 16)))[None]
    found = used.probabilities(small, (50, 40))
    np.testing.assert_allclose(np.load(outputs.probabilities), found[0], atol=1e-6)
    labels = used.decisions(found)[0]
    for mask, plane in zip(outputs.masks, labels if labels.ndim == 3 else labels[None], strict=True):
        np.testing.assert_array_equal(read_label_values(mask), plane)
    if mode == "multilabel":  # folders of classes, as segmentation_folder reads them, and none outside
        assert [mask.parent.name for mask in outputs.masks] == ["tree", "a lake", "class_2"]


def test_a_picture_is_resized_as_the_published_code_does_under_its_preprocessing(tmp_path: Path) -> None:
    published = Preprocessing([0.4, 0.5, 0.3], [0.2, 0.3, 0.25], "u_kan")
    path, used = save(tmp_path / "photo.png", scan(2, (40, 50))), predictor("multiclass")
    outputs, _ = run(path, used, Bands(3, published))
    unit = torch.from_numpy(scan(2, (40, 50)).transpose(2, 0, 1) / 255).float()
    found = used.probabilities(published(published.resize_image(unit, (16, 16)))[None], (50, 40))
    np.testing.assert_array_equal(np.load(outputs.probabilities), found[0])


@pytest.mark.parametrize("name", ["photo.png", "scene.tif"])
def test_masks_have_the_colors_of_a_palette_and_are_read_by_it(name: str, tmp_path: Path) -> None:
    palette = Palette.parse(
        {"#000000": "ground", "#00ff00": "tree", "#0000fa": "a lake", "#808080": "ignore"}
    )
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8).repeat(10, 0).repeat(10, 1)
    if name == "photo.png":
        path = save(tmp_path / name, pixels)
    else:
        path = geotiff(tmp_path / name, pixels.transpose(2, 0, 1))
    plain, _ = run(path, predictor("multiclass"))
    labels = read_label_values(plain.masks[0])
    assert set(np.unique(labels)) == {0, 1, 2}
    outputs, _ = run(path, predictor("multiclass", colors=palette.colors))
    np.testing.assert_array_equal(read_label_values(outputs.masks[0]), labels)  # the numbers are the same
    np.testing.assert_array_equal(PaletteMask(palette, 255)([outputs.masks[0]])["mask"], labels)
    shown = np.asarray(Image.open(outputs.overlay)).astype(int)
    lake = (pixels[labels == 2].astype(int) + np.array([0, 0, 250])) // 2
    assert np.abs(shown[labels == 2] - lake).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(50, 40), (9, 40), (5, 3), (16, 16)])
def test_pictures_are_cut_into_tiles_where_that_is_wanted(height: int, width: int, tmp_path: Path) -> None:
    path = save(tmp_path / "photo.bmp", scan(2, (width, height)))
    used = predictor("binary", resize=False)
    outputs, _ = run(path, used)
    unit = scan(2, (width, height)).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(np.load(outputs.probabilities), expected(unit, used)[0], atol=1e-5)


@pytest.mark.parametrize("kind", ["tif", "npy"])
def test_pixels_without_data_are_reported_and_never_predicted(kind: str, tmp_path: Path) -> None:
    planes = (scan(3, (70, 60)).transpose(2, 0, 1) / 255).astype(np.float32)
    planes[1, 20:40, 10:30], planes[:, :5] = np.nan, -1
    path = tmp_path / f"a.{kind}"
    if kind == "tif":
        geotiff(path, planes, nodata=-1)
    else:
        planes[planes == -1] = np.inf
        np.save(path, planes)
    empty = np.zeros((60, 70), bool)
    empty[20:40, 10:30] = empty[:5] = True
    outputs, outcome = run(path, predictor("multiclass", resize=False))
    assert outcome.no_data == empty.sum()
    assert outcome.undecided == 0
    mask = read_label_values(outputs.masks[0])
    np.testing.assert_array_equal(mask == 255, empty)
    if kind == "tif":
        with rasterio.open(outputs.probabilities) as file:
            values = file.read()
        with rasterio.open(outputs.masks[0]) as file:
            np.testing.assert_array_equal(file.read_masks(1) == 0, empty)
    else:
        values = np.load(outputs.probabilities)
    np.testing.assert_array_equal(np.isnan(values), np.broadcast_to(empty, values.shape))
    assert (np.asarray(Image.open(outputs.overlay))[empty] == 128).all()


def test_pixels_for_which_the_network_gives_no_number_are_reported(tmp_path: Path) -> None:
    path = geotiff(tmp_path / "a.tif", scan(1, (16, 16)).transpose(2, 0, 1))
    used = predictor("binary")
    broken = torch.ones(16, 16)
    broken[3, 4] = np.nan
    spoilt = MaskPredictor(
        **vars(used) | {"probabilities": lambda images, size: used.probabilities(images, size) * broken}
    )
    outputs, outcome = run(path, spoilt)
    assert (outcome.undecided, outcome.no_data) == (1, 0)
    assert [tuple(place) for place in np.argwhere(read_label_values(outputs.masks[0]) == 255)] == [(3, 4)]


def test_more_than_255_classes_need_16_bits(tmp_path: Path) -> None:
    names = tuple(map(str, range(300)))

    def probabilities(images: Tensor, size: tuple[int, int]) -> Tensor:
        return F.one_hot(torch.arange(256).reshape(1, 16, 16) + 44, 300).movedim(-1, 1).float()

    used = predictor("multiclass", resize=True)
    many = MaskPredictor(**vars(used) | {"names": names, "probabilities": probabilities})
    for path in (
        geotiff(tmp_path / "a.tif", scan(1, (16, 16)).transpose(2, 0, 1)),
        save(tmp_path / "b" / "a.png", scan(1, (16, 16))),
    ):
        outputs, _ = run(path, many)
        np.testing.assert_array_equal(read_label_values(outputs.masks[0]).ravel(), np.arange(256) + 44)


def test_an_overlay_shows_classes_in_color_and_a_large_image_smaller(tmp_path: Path, monkeypatch) -> None:
    planes = scan(5, (300, 200)).transpose(2, 0, 1)
    path, used = geotiff(tmp_path / "a.tif", planes), predictor("binary")
    outputs, _ = run(path, used)
    whole, mask = np.asarray(Image.open(outputs.overlay)), read_label_values(outputs.masks[0])
    assert whole.shape == (200, 300, 3)
    clear, shown = mask == 0, np.abs(whole.astype(int) - planes.transpose(1, 2, 0)).max(axis=2)
    assert clear.any()
    assert (shown[clear] <= 1).all()
    assert (shown[~clear] > 5).mean() > 0.9
    monkeypatch.setattr(tally_module, "OVERLAY", 100)
    path.rename(tmp_path / "b.tif")
    with open_scene(tmp_path / "b.tif", BANDS) as scene:
        again = used.plan_outputs(Path("b.tif"), tmp_path / "again")
        used.predict(scene, again)
    np.testing.assert_array_equal(np.asarray(Image.open(again.overlay)), whole[::3, ::3])


def test_a_scene_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (3, 600, 64), np.uint8)
    path = geotiff(tmp_path / "a.tif", noise)
    path.write_bytes(path.read_bytes()[:60000])
    used = predictor("binary")
    outputs = used.plan_outputs(Path("a.tif"), tmp_path / "out")
    with open_scene(path, BANDS) as scene, pytest.raises(FileError, match=r"a\.tif: cannot be read"):
        used.predict(scene, outputs)
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]


def test_one_file_is_written_where_one_is_asked_for(tmp_path: Path) -> None:
    planes = scan(1, (70, 30)).transpose(2, 0, 1)
    path, used = geotiff(tmp_path / "scene.tif", planes), predictor("multiclass", resize=False)
    labels = []
    for name in ("a.tif", "b.png"):
        outputs = Outputs((tmp_path / "out" / name,))
        with open_scene(path, BANDS) as scene:
            used.predict(scene, outputs)
        labels.append(read_label_values(outputs.masks[0]))
    assert sorted(found.name for found in (tmp_path / "out").iterdir()) == ["a.tif", "b.png"]
    np.testing.assert_array_equal(*labels)
    with rasterio.open(tmp_path / "out" / "a.tif") as mask, rasterio.open(path) as source:
        assert mask.transform == source.transform


def test_a_tall_image_leaves_no_more_in_memory_than_its_small_copy(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tally_module, "OVERLAY", 64)
    with open_scene(geotiff(tmp_path / "a.tif", np.zeros((3, 32, 500), np.uint8)), BANDS) as scene:
        scene.height = 256 * 40
        tally = tally_module.ImageStatistics(scene, range(1, 3), ())
        labels, there = np.ones((1, 256, 500), np.int64), np.ones((256, 500), bool)
        tracemalloc.start()
        for top in range(0, scene.height, 256):
            tally.add_labels(top, labels.copy(), there, there)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert kept < 200_000  # the labels alone are 41 MB
    assert tally.summarize().shares == (1.0, 0.0)


def test_an_image_too_large_to_be_resized_is_refused_and_tiles_are_named(tmp_path: Path) -> None:
    large = scan(1, (40, 50))
    with pixel_limit(1999, "predict.max_pixels"):
        with (
            open_scene(geotiff(tmp_path / "a.tif", large.transpose(2, 0, 1)), BANDS) as scene,
            pytest.raises(
                FileError, match=r"a\.tif: has 40 x 50 pixels.*predict\.max_pixels=2000.*; predict\.tile"
            ),
        ):
            scene.check_size()
        with pytest.raises(
            FileError, match=r"b\.png: has 40 x 50 pixels, more than predict\.max_pixels=1999"
        ):
            open_scene(save(tmp_path / "b.png", large), BANDS).__enter__()
    with pixel_limit(None), open_scene(tmp_path / "b.png", BANDS) as scene:
        scene.check_size()
