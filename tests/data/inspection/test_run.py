"""Every fault that files can have is found, with its file, and nothing else is."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kanvision.data import build_datamodule
from kanvision.data.inspection import DataIssue, Inspection
from tests.data import fake
from tests.data.fake_masks import busi, crops, disc, geotiff, glas, own_pairs, save
from tests.data.fake_masks import scan as scanned

COLOR = {"in_chans": 3, "img_size": 16, "mean": [0.5] * 3, "std": [0.25] * 3}


def inspected(task: str, name: str, root: Path, workers: int = 0, **changes) -> list[DataIssue]:
    options = {**COLOR, "num_classes": None, **changes}
    data = build_datamodule(task, name=name, root=str(root), **options)
    inspection = Inspection(data.reader)
    assert len(list(inspection.inspect_samples(workers))) == len(inspection)
    return inspection.collect_issues()


def said(found: list[DataIssue], *, bad: bool = True) -> dict[str, str]:
    """What is wrong by name of the file, or of the folder."""
    return {Path(f.file).name: f"{f.wrong}; {f.right}" for f in found if f.is_bad == bad}


def pictures(root: Path) -> Path:
    """Two classes of different pictures."""
    for split, num in (("train", 6), ("test", 3)):
        for label, name in enumerate(("ant", "bee")):
            for i in range(num):
                seed = 100 * label + i + 50 * (split == "test")
                save(root / split / name / f"{split}_{name}_{i}.png", scanned(seed, (20, 16)))
    return root


def test_sound_pictures_have_no_findings(tmp_path: Path):
    assert inspected("classification", "image_folder", pictures(tmp_path)) == []


def test_every_fault_of_pictures_is_found_at_once(tmp_path: Path):
    root = pictures(tmp_path)
    ant, bee = root / "train" / "ant", root / "train" / "bee"
    fake.truncated(ant / "train_ant_0.png")
    (ant / "train_ant_1.png").write_bytes(b"")
    (ant / "train_ant_2.png").write_text("<!DOCTYPE html><p>404 not found")
    (ant / "train_ant_3.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0")
    Image.fromarray(np.ones((4, 4), np.float32)).save(ant / "float.tif")
    shutil.copy(root / "test" / "ant" / "test_ant_0.png", ant / "leak.png")
    shutil.copy(ant / "train_ant_4.png", bee / "twice.png")
    shutil.copy(bee / "train_bee_0.png", bee / "again.png")
    Image.fromarray(scanned(7)).save(bee / "jpeg.png", format="JPEG")
    Image.fromarray(scanned(8)).convert("CMYK").save(bee / "printed.jpg")
    save(bee / "flat.png", np.full((9, 9, 3), 7, np.uint8))
    frames = [Image.fromarray(scanned(i)) for i in (70, 71)]
    frames[0].save(bee / "moving.gif", save_all=True, append_images=frames[1:])
    (bee / "train_bee_9.jpgg").write_bytes(b"x")
    (root / "test" / "cow").mkdir()
    (root / "train" / "dog").mkdir()
    found = inspected("classification", "image_folder", root)
    bad, unreadable, same = said(found), "cannot be read as an image", "has the same content as"
    assert {name: bad[name] for name in sorted(bad)} == {
        "train_ant_0.png": f"{unreadable} (image file is truncated); replace the file or delete it",
        "train_ant_1.png": "is empty (0 bytes); replace the file or delete it",
        "train_ant_2.png": "cannot be read as an image (holds a web page); replace the file or delete it",
        "train_ant_3.png": "cannot be read as an image (holds a pointer of Git LFS (the file itself was not "
        "fetched: git lfs pull)); replace the file or delete it",
        "float.tif": f"{unreadable} (its pixels are floating-point numbers; 8 or 16 bits are legal); "
        "replace the file or delete it",
        "leak.png": f"{same} {root}/test/ant/test_ant_0.png in test: a leak; delete one of them",
        "twice.png": f"{same} {ant}/train_ant_4.png, which has class ant and this one bee; "
        "keep the right one",
        "dog": "class folder is empty (no file that Pillow reads); fill it or delete it",
        "cow": "not one of the 3 classes (ant, bee, dog); add it to the training images, or delete it",
    }
    notes = said(found, bad=False)
    assert notes.pop("") == "1 of 3 classes have no image; legal for a part of the data set"
    assert {name: text.partition(";")[0] for name, text in notes.items()} == {
        "train_bee_0.png": f"has the same content as {bee}/again.png",
        "jpeg.png": "holds JPEG, though its name says PNG",
        "printed.jpg": "is in printing colors (CMYK)",
        "flat.png": "all pixels are equal",
        "moving.gif": "holds 2 pictures",
        "train_bee_9.jpgg": "is not used",
    }
    assert inspected("classification", "image_folder", root, workers=2) == found


def test_classes_of_one_split_alone_are_told(tmp_path: Path):
    root = pictures(tmp_path)
    save(root / "train" / "cow" / "cow.png", scanned(77))
    (issue,) = inspected("classification", "image_folder", root)
    assert issue == DataIssue(
        "test",
        "class cow is in train and not here",
        "add images of cow, or take it out of train",
        "test",
        True,
    )


def test_nothing_to_look_at_is_said(tmp_path: Path):
    (issue,) = inspected("classification", "image_folder", tmp_path / "nowhere")
    assert (issue.file, issue.wrong) == (str(tmp_path / "nowhere"), "does not exist")


def test_other_layouts_of_classes(tmp_path: Path):
    fake.imagenet(tmp_path / "imagenet")
    fake.truncated(tmp_path / "imagenet" / "train" / fake.WNIDS[0] / f"{fake.WNIDS[0]}_1.JPEG")
    with pytest.warns(UserWarning, match="3 of 1000 classes"):
        found = inspected("classification", "imagenet", tmp_path / "imagenet", num_classes=1000)
    assert "runcated" in said(found)[f"{fake.WNIDS[0]}_1.JPEG"]
    fake.tiny_imagenet(tmp_path / "tiny")
    (tmp_path / "tiny" / "val" / "images" / "val_0.JPEG").write_bytes(b"\xff\xd8\xff")
    found = inspected("classification", "tiny_imagenet", tmp_path / "tiny")
    assert "cannot be read" in said(found)["val_0.JPEG"]
    batches = fake.cifar10(tmp_path / "cifar10")
    found = inspected("classification", "cifar10", tmp_path / "cifar10", num_classes=10)
    assert found == []
    import pickle

    batches["test_batch"]["data"][3] = batches["data_batch_1"]["data"][5]
    (tmp_path / "cifar10" / "test_batch").write_bytes(pickle.dumps(batches["test_batch"], protocol=2))
    assert (
        "test[3], which has class class3"
        in said(inspected("classification", "cifar10", tmp_path / "cifar10", num_classes=10))["train[5]"]
    )
    batches["data_batch_2"]["labels"][0] = 77
    (tmp_path / "cifar10" / "data_batch_2").write_bytes(pickle.dumps(batches["data_batch_2"], protocol=2))
    (tmp_path / "cifar10" / "data_batch_4").write_bytes(b"cut")
    bad = said(inspected("classification", "cifar10", tmp_path / "cifar10", num_classes=10))
    assert bad.keys() == {"data_batch_2", "data_batch_4"}
    fake.mnist(tmp_path / "mnist")
    found = inspected(
        "classification", "mnist", tmp_path / "mnist", num_classes=10, in_chans=1, mean=[0.5], std=[1.0]
    )
    assert [issue for issue in found if issue.is_bad] == []


MASKS = {"mode": "multiclass", "num_classes": 3, "mask_folder": "crop", "mean": None, "std": None}


def test_every_fault_of_masks_is_found_at_once(tmp_path: Path):
    root = own_pairs(tmp_path, 24)
    images, masks = root / "images", root / "crop"
    shutil.rmtree(root / "masks")
    assert said(inspected("segmentation", "segmentation_folder", root, **MASKS)) == {}
    fake.truncated(images / "field_1.png")
    (images / "field_2.png").unlink()
    bands = np.ones((3, 16, 20), np.float32)
    bands[2, 0, 0] = np.nan
    geotiff(images / "field_2.tif", bands)
    (images / "field_4.png").unlink()
    geotiff(images / "field_4.tif", np.ones((5, 16, 20), np.uint16))
    save(masks / "field_3.png", disc((9, 8), level=1))
    (masks / "field_5.png").unlink()
    save(masks / "field_6.png", disc((20, 16), level=7))
    save(masks / "field_7.png", scanned(2, (24, 16)))
    (masks / "field_8.png").write_bytes(b"")
    (masks / "field_9.png").write_text("not found")
    save(masks / "field_10.png", np.zeros((16, 20), np.uint8))
    save(masks / "field_11.png", np.ones((16, 24), np.uint8))
    save(masks / "nobody.png", disc((20, 16), level=1))
    for i, name in ((18, "field_18"), (19, "field_19")):  # one of them is in the test
        save(images / f"{name}.png", scanned(99, (20 + 4 * (i % 2), 16)))
    found = inspected("segmentation", "segmentation_folder", root, **MASKS)
    bad = said(found)
    assert "truncated" in bad["field_1.png"]
    assert bad["field_2.tif"] == "band 3 holds NaN or infinity (0.313 % of its pixels); fill them"
    assert bad["field_4.tif"].startswith("has 5 bands, data.in_chans=3; set data.in_chans=5")
    assert bad["field_3.png"] == (
        "9 x 8 pixels, but its image field_3.png has 24 x 16 pixels; make them the same size"
    )
    assert "has no mask" in bad["field_5.png"]
    assert "holds label 7 (36 such pixels)" in bad["field_6.png"]
    assert "is a color picture (3 channels)" in bad["field_7.png"]
    assert bad["field_8.png"].startswith("is empty (0 bytes)")
    assert "cannot be read (holds text)" in bad["field_9.png"]
    assert len(bad) == 9
    notes = said(found, bad=False)
    assert notes["field_10.png"].startswith("mask is empty")
    assert notes["field_11.png"].startswith("every pixel has label 1")
    assert notes["nobody.png"].startswith("is not used")


def test_an_empty_mask_is_bad_where_each_image_shows_something(tmp_path: Path):
    busi(tmp_path / "busi")
    save(tmp_path / "busi" / "benign" / "benign (7)_mask.png", np.zeros((37, 41), np.uint8))
    found = inspected("segmentation", "busi", tmp_path / "busi", mode="binary", num_classes=2, normals=True)
    assert said(found)["benign (7)_mask.png"].startswith("mask is empty; correct the mask")
    notes = said(found, bad=False)
    assert sum(text.startswith("mask is empty") for text in notes.values()) == 4  # those of normal images
    glas(tmp_path / "glas")
    save(tmp_path / "glas" / "train_3_anno.bmp", np.zeros((20, 34), np.uint8))
    (tmp_path / "glas" / "testA_2_anno.bmp").unlink()
    bad = said(inspected("segmentation", "glas", tmp_path / "glas", mode="binary", num_classes=2))
    assert (bad.pop("train_3_anno.bmp"), bad.pop("testA_2.bmp")) == (
        "mask is empty; correct the mask, or delete both files",
        "has no mask testA_2_anno.bmp; ",
    )
    assert bad.keys() == {f"train_{i}.bmp" for i in range(1, 5)}  # our fake tests show what is trained on
    assert all(text.endswith("a leak; delete one of them") for text in bad.values())


def test_all_days_of_an_area_are_looked_at(tmp_path: Path):
    root = crops(tmp_path, 6, size=18)
    (root / "imagery/s2/3/2017_05_11/3_2017_05_11_B8A_10m.tif").unlink()
    fake.truncated(root / "labels" / "5.tif")
    options = {"in_chans": 12, "mean": [0.0] * 12, "std": [1.0] * 12, "num_classes": 2, "mode": "binary"}
    found = inspected("segmentation", "sentinel_crops", root, **options, max_clouds_eval=None)
    bad = said(found)
    assert "5.tif" in bad
    known = ("5.tif", "2017_05_11")
    assert all("no area is left" in text for name, text in bad.items() if name not in known)  # six are few
    part = next(f.split for f in found if f.file.endswith("5.tif"))
    if "2017_05_11" in bad:  # unless the area is in val or test, where one day is looked at
        assert "band B8A is missing" in bad["2017_05_11"]
    assert part in ("train", "val", "test")


def test_generated_data_are_sound():
    data = build_datamodule(
        "segmentation",
        name="synthetic_fields",
        **{**COLOR, "in_chans": 4, "mean": [0.4] * 4, "std": [0.2] * 4, "num_classes": 4, "img_size": 16},
    )
    inspection = Inspection(data.reader)
    seen = [next(inspection.inspect_samples()) for _ in range(1)]
    assert seen[0].issues == ()
