"""Own images with masks: layouts, kinds of masks and of images, and every refusal."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kanvision.data.files.pixels import read_pixels
from tests.data import fake_masks
from tests.data.fake_masks import disc, geotiff, own_pairs, save, scan
from tests.data.reading_masks import masks, parts, refusal

FREE = {"num_classes": None, "mean": None, "std": None}


def folder(root: Path, **changes):
    return masks("segmentation_folder", root, **{**FREE, **changes})


def refused(root: Path, **changes) -> str:
    return refusal("segmentation_folder", root, **{**FREE, **changes})


def test_a_fixed_fifth_is_the_test(tmp_path: Path):
    data = folder(own_pairs(tmp_path))
    assert data.num_images == {"train": 7, "val": 1, "test": 2}
    assert data.class_names == ("background", "foreground")
    assert parts(folder(tmp_path)) == parts(data)
    assert parts(folder(tmp_path, split_seed=3)) != parts(data)
    batch = next(iter(data.train_dataloader()))
    assert (batch["image"].shape, batch["mask"].shape) == ((4, 3, 16, 16), (4, 16, 16))
    assert set(batch["mask"].unique().tolist()) == {0, 1}
    assert folder(tmp_path, num_classes=1).class_names == ("foreground",)


@pytest.mark.parametrize("inside", [False, True])
def test_splits_of_ones_own(tmp_path: Path, inside: bool):
    for split, num in {"train": 5, "val": 2, "test": 3}.items():
        names = {"images": f"images/{split}", "masks": f"masks/{split}"} if inside else {}
        own_pairs(tmp_path if inside else tmp_path / split, num, **names)
    found = parts(folder(tmp_path))
    assert {part: len(names) for part, names in found.items()} == {"train": 5, "val": 2, "test": 3}
    assert found["val"][0] == "val/field_0"


def test_one_held_out_folder_is_the_test(tmp_path: Path):
    own_pairs(tmp_path / "train", 6)
    assert "the split test, and so is val is missing" in refused(tmp_path)
    own_pairs(tmp_path / "val", 2)
    found = parts(folder(tmp_path, val_fraction=0.2))
    assert {part: len(names) for part, names in found.items()} == {"train": 5, "val": 1, "test": 2}


def test_evaluation_needs_no_training_images(tmp_path: Path):
    """Detects a split that is asked for although nothing of it is measured."""
    own_pairs(tmp_path / "test", 3)
    assert "the split train is missing" in refused(tmp_path)
    data = folder(
        tmp_path, known_classes=("background", "foreground"), mean=[0.5, 0.5, 0.5], std=[0.2, 0.2, 0.2]
    )
    assert data.num_images == {"train": 0, "val": 0, "test": 3}


def test_masks_with_the_class_of_each_pixel(tmp_path: Path):
    own_pairs(tmp_path)
    data = folder(tmp_path, mode="multiclass", mask_folder="crop")
    assert data.class_names == ("background", "class_1", "class_2")  # counted
    assert set(next(iter(data.train_dataloader()))["mask"].unique().tolist()) == {0, 1, 2}
    message = refused(tmp_path, mode="multiclass", mask_folder="crop", num_classes=2)
    assert "field_1.png: holds label 2 (36 such pixels); legal for data.num_classes=2: 0 to 1" in message


def test_a_folder_of_masks_for_each_class(tmp_path: Path):
    """The layout of U-KAN's inputs."""
    for i in range(6):
        save(tmp_path / "images" / f"{i}.png", scan(i))
        save(tmp_path / "masks" / "0" / f"{i}_mask.png", disc(corner=(2, 2)))
        save(tmp_path / "masks" / "1" / f"{i}_mask.png", disc(corner=(5, 5)))
    data = folder(tmp_path, mode="multilabel", mask_suffix="_mask", threshold=127)
    assert data.class_names == ("0", "1")
    batch = next(iter(data.train_dataloader()))
    assert (batch["mask"].shape, batch["mask"].dtype) == ((4, 2, 16, 16), torch.int64)
    stored = data.datasets["train"].source[0]["mask"]
    assert torch.equal(stored[0] > 0, torch.from_numpy(disc(corner=(2, 2)) > 0))
    assert torch.equal(stored[1] > 0, torch.from_numpy(disc(corner=(5, 5)) > 0))
    assert "one for each class? set data.mode=multilabel" in refused(tmp_path, mask_suffix="_mask")
    assert "data.num_classes=3, but the data have 2 classes" in refused(
        tmp_path, mode="multilabel", mask_suffix="_mask", num_classes=3
    )
    wanted = {"mode": "multilabel", "mask_suffix": "_mask", "num_classes": 2}
    assert folder(tmp_path, **wanted, known_classes=["0", "1"]).class_names == ("0", "1")
    message = refused(tmp_path, **wanted, known_classes=["0", "2"])
    assert "the classes 1 are not among the 2 that the network was trained on (0, 2)" in message
    message = refused(tmp_path, **wanted, known_classes=["0", "1", "2"])
    assert "the masks are of 0, 1; they need all classes of the training: 0, 1, 2" in message
    for path in (tmp_path / "masks" / "1").iterdir():
        path.unlink()
    (tmp_path / "masks" / "1").rmdir()
    assert int(folder(tmp_path, mask_suffix="_mask", threshold=127).num_classes) == 2  # masks/0 alone


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_bands_of_any_type_keep_their_values(tmp_path: Path, dtype: str):
    rng, scale = np.random.default_rng(0), {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    stored = {}
    for i in range(5):
        values = rng.random((6, 12, 14)) * (1 if dtype == "float32" else scale)
        stored[f"{i}"] = values.astype(dtype)
        if i % 2:
            geotiff(tmp_path / "images" / f"{i}.tif", stored[f"{i}"])
        else:
            array = stored[f"{i}"] if i else stored["0"].transpose(1, 2, 0)  # channels first or last
            np.save(_parent(tmp_path / "images" / f"{i}.npy"), array)
        save(tmp_path / "masks" / f"{i}.png", disc((14, 12)))
    data = folder(tmp_path, in_chans=6)
    data.setup()
    source = data.datasets["train"].source
    for index, name in enumerate(source.names):
        expected = torch.from_numpy(stored[name].astype(np.float64)) / scale
        torch.testing.assert_close(source[index]["image"].double(), expected, atol=1e-6, rtol=0)
    some = folder(tmp_path, in_chans=2, bands=[5, 1])
    some.setup()
    picked = some.datasets["train"].source
    assert torch.equal(picked[0]["image"], source[0]["image"][[4, 0]])
    tenfold = folder(tmp_path, in_chans=6, max_value=scale / 10)
    tenfold.setup()
    torch.testing.assert_close(tenfold.datasets["train"].source[0]["image"], source[0]["image"] * 10)


def _parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_sixteen_bit_pictures_and_masks_do_not_wrap(tmp_path: Path):
    levels = np.linspace(0, 65535, 20 * 16).reshape(16, 20).astype(np.uint16)
    mask = disc().astype(np.uint16) * 0 + (disc() > 0) * np.uint16(512)  # 512 would be 0 in 8 bits
    for i in range(5):
        save(tmp_path / "images" / f"{i}.png", levels)
        save(tmp_path / "masks" / f"{i}.png", mask.astype(np.uint16))
    data = folder(tmp_path, in_chans=1)
    data.setup()
    sample = data.datasets["train"].source[0]
    torch.testing.assert_close(
        sample["image"][0].double(), torch.from_numpy(levels / 65535.0), atol=1e-6, rtol=0
    )
    assert int(sample["mask"].sum()) == 36
    assert "holds label 512" in refused(tmp_path, in_chans=1, mode="multiclass", num_classes=3)


def test_palettes_and_transparency(tmp_path: Path):
    colors = Image.fromarray(disc(level=2)).convert("P")
    colors.putpalette([0, 0, 0, 128, 0, 0, 0, 0, 40] + [0] * 759)
    for i in range(5):
        save(tmp_path / "images" / f"{i}.png", scan(i), "RGBA")
        (tmp_path / "masks").mkdir(exist_ok=True)
        colors.save(tmp_path / "masks" / f"{i}.png")
    data = folder(tmp_path, mode="multiclass", num_classes=3)
    data.setup()
    sample = data.datasets["train"].source[0]
    assert sample["image"].shape[0] == 3
    # Pillow gave gray levels their own places: whatever the colors, the stored numbers count.
    stored = np.asarray(Image.open(tmp_path / "masks" / "0.png"))
    assert torch.equal(sample["mask"], torch.from_numpy(stored.astype(np.int64)))
    for i in range(5):
        save(tmp_path / "masks" / f"{i}.png", scan(i))
    assert "is a color picture (3 channels)" in refused(tmp_path, mode="multiclass", num_classes=3)


def test_gray_and_color_fit_each_other(tmp_path: Path):
    own_pairs(tmp_path)
    data = folder(tmp_path, in_chans=1)
    data.setup()
    source = data.datasets["train"].source
    color = scan(int(source.names[0][6:]), (source[0]["image"].shape[2], 16)) @ [0.299, 0.587, 0.114] / 255
    torch.testing.assert_close(source[0]["image"][0].double(), torch.from_numpy(color), atol=1e-5, rtol=0)
    assert "field_0.png: has 3 bands, data.in_chans=4; set data.in_chans=3" in refused(tmp_path, in_chans=4)


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path):
    own_pairs(tmp_path)
    (tmp_path / "masks" / "field_1.png").rename(tmp_path / "masks" / "field_1_gt.png")
    save(tmp_path / "masks" / "field_2.png", disc((9, 8)))
    (tmp_path / "images" / "field_3.png").write_bytes(b"\x89PNG nothing")
    save(tmp_path / "images" / "field_4.jpg", scan(4))
    message = refused(tmp_path)
    assert "field_1.png: has no mask" in message
    assert "there is field_1_gt: data.mask_suffix=_gt?" in message
    assert "field_2.png: 9 x 8 pixels, but its image field_2.png has 20 x 16 pixels" in message
    assert "field_3.png: cannot be read" in message
    assert "field_4.jpg: stands beside field_4.png" in message or "field_4.png: stands beside" in message
    assert message.count("\n  - ") == 4
    assert "expected tree" in message


def test_what_cannot_be_learned_from_is_refused(tmp_path: Path):
    assert refused(tmp_path).count("folder is missing") == 2
    own_pairs(tmp_path)
    assert "is empty, as are all of the 10 masks that were read (gray levels above 127" in refused(
        tmp_path, threshold=127
    )
    assert "has 3 bands, so no band 7" in refused(geo(tmp_path / "geo"), bands=[1, 2, 7])
    assert "has no folder for each class" in refused(tmp_path, mode="multilabel")
    single = own_pairs(tmp_path / "single", 1)
    assert "no image is left for train" in refused(single) or "no image is left for test" in refused(single)


def geo(root: Path, dtype: str = "float32", spoil: float | None = None) -> Path:
    for i in range(4):
        bands = np.ones((3, 16, 20), dtype)
        if spoil is not None:
            bands[1, 3, 4] = spoil
        geotiff(root / "images" / f"{i}.tif", bands)
        save(root / "masks" / f"{i}.png", disc())
    return root


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_band_with_nan_is_refused(tmp_path: Path, value: float):
    message = refused(geo(tmp_path, spoil=value))
    assert "0.tif: band 2 holds NaN or infinity (0.313 % of its pixels)" in message


def test_types_without_a_largest_value_need_one(tmp_path: Path):
    geo(tmp_path, dtype="int16")
    assert "pixels are int16; set data.max_value to the value that becomes 1" in refused(tmp_path)
    data = folder(tmp_path, max_value=100.0)
    data.setup()
    assert float(data.datasets["train"].source[0]["image"].max()) == pytest.approx(0.01)


def test_a_broken_geotiff_is_named_when_it_is_read(tmp_path: Path):
    geo(tmp_path)
    path = tmp_path / "images" / "2.tif"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 3])
    assert f"{path}: cannot be read" in refused(tmp_path)


def test_loader_processes_pass_the_message_on(tmp_path: Path):
    geo(tmp_path)
    data = folder(tmp_path, num_workers=1, batch_size=2)
    data.setup()
    for path in (tmp_path / "images").iterdir():
        path.write_bytes(b"gone")
    with pytest.raises(ValueError, match="cannot be read"):
        list(data.train_dataloader())


def test_masks_of_numpy_and_geotiff(tmp_path: Path):
    own_pairs(tmp_path, 4)
    for i in range(4):
        size = (20 + 4 * (i % 2), 16)
        (tmp_path / "masks" / f"field_{i}.png").unlink()
        mask = disc(size, (3, 3), level=1)
        if i % 2:
            np.save(tmp_path / "masks" / f"field_{i}.npy", mask.astype(bool))
        else:
            geotiff(tmp_path / "masks" / f"field_{i}.tif", mask[None], nbits=1)
    for threshold in (0, 127):  # bits are black and white
        data = folder(tmp_path, threshold=threshold)
        data.setup()
        assert int(data.datasets["train"].source[0]["mask"].sum()) == 36
    np.save(tmp_path / "masks" / "field_1.npy", np.full((16, 24), 0.5))
    assert "holds fractions" in refused(tmp_path)


def test_the_real_layout_of_bands_beside_two_kinds_of_masks(tmp_path: Path):
    """images/*.tif in 16 bits, masks/ of 0 and 1, crop/ of classes, as the chips of Denmark."""
    for i in range(8):
        reflectance = (1000 + 100 * np.random.default_rng(i).random((3, 16, 20))).astype(np.uint16)
        geotiff(tmp_path / "images" / f"dk_{i}.tif", reflectance)
        save(tmp_path / "masks" / f"dk_{i}.png", disc(level=1))
        save(tmp_path / "crop" / f"dk_{i}.png", disc(level=1 + i % 3))
    data = folder(tmp_path, max_value=10000.0)
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].std() == pytest.approx(1, abs=0.2)
    assert data.mean[0] == pytest.approx(0.105, abs=0.002)
    assert folder(tmp_path, mode="multiclass", mask_folder="crop").num_classes == 4
    assert fake_masks.scan(0).dtype == np.uint8


def test_a_fourth_band_that_gdal_takes_for_transparency_is_one_of_four(tmp_path: Path) -> None:
    planes = np.random.default_rng(0).integers(0, 255, (4, 6, 5), np.uint8)
    path = fake_masks.geotiff(tmp_path / "a.tif", planes)
    assert read_pixels(path).shape == (3, 6, 5)
    for wanted in ({"in_chans": 4}, {"in_chans": 4, "bands": [1, 2, 3, 4]}):
        np.testing.assert_array_equal(read_pixels(path, **wanted), planes)
    np.testing.assert_array_equal(read_pixels(path, 2, [4, 1]), planes[[3, 0]])
