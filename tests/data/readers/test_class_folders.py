from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kanvision.data import READERS, DataError
from tests.data import fake
from tests.data.reading import read, refusal


@pytest.mark.parametrize("resorted", [False, True])
@pytest.mark.parametrize("folder", [".", "tiny-imagenet-200"])
def test_tiny_imagenet_official_and_resorted(tmp_path: Path, folder: str, resorted: bool):
    fake.tiny_imagenet(tmp_path / folder, resorted)
    splits = read("tiny_imagenet", tmp_path, num_classes=3)
    assert splits.train.targets.tolist() == [0, 0, 1, 1, 2, 2]
    assert splits.test.targets.tolist() == [0, 1, 2]
    assert splits.class_names[1] == f"word {fake.WNIDS[1]}"
    assert splits.test.image(0).size == (64, 64)


def test_tiny_imagenet_names_what_is_missing(tmp_path: Path):
    fake.tiny_imagenet(tmp_path)
    (tmp_path / "val" / "images" / "val_1.JPEG").unlink()
    fake.picture(tmp_path / "val" / "images" / "val_9.JPEG")
    for file in (tmp_path / "train" / fake.WNIDS[0] / "images").iterdir():
        file.unlink()
    message = refusal("tiny_imagenet", tmp_path, num_classes=200)
    assert f"{tmp_path / 'train' / fake.WNIDS[0]}: class folder is empty" in message
    assert "val_1: is missing" in message
    assert "val_9.JPEG: is not listed" in message
    assert "data.num_classes=200, but the data have 3" in message
    (tmp_path / "val" / "val_annotations.txt").unlink()
    assert "val_annotations.txt: is missing" in refusal("tiny_imagenet", tmp_path)


def test_imagenet_labels_are_official_for_a_part_of_the_classes(tmp_path: Path):
    fake.imagenet(tmp_path)
    with pytest.warns(UserWarning, match="3 of 1000 classes"):
        splits = read("imagenet", tmp_path, num_classes=1000)
    assert splits.train.targets.tolist() == [0, 0, 201, 201, 847, 847]
    assert splits.test.targets.tolist() == [0, 201, 847]
    assert (splits.class_names[0], splits.class_names[847]) == ("tench", "tank")
    assert len(set(splits.class_names)) == 1000


@pytest.mark.parametrize("kaggle", [False, True])
def test_imagenet_with_flat_validation_images(tmp_path: Path, kaggle: bool):
    folder = tmp_path / "ILSVRC" / "Data" / "CLS-LOC" if kaggle else tmp_path
    fake.imagenet(folder, flat_val=True)
    assert "images without class folders" in refusal("imagenet", tmp_path)
    fake.solution(tmp_path / "LOC_val_solution.csv")
    with pytest.warns(UserWarning, match="3 of 1000"):
        splits = read("imagenet", tmp_path)
    assert splits.test.targets.tolist() == [0, 201, 847]
    (tmp_path / "LOC_val_solution.csv").write_text("a,b\n1,2\n")
    assert "must have columns ImageId" in refusal("imagenet", tmp_path)


def test_imagenet_refuses_folders_that_are_no_classes(tmp_path: Path):
    fake.imagenet(tmp_path)
    fake.picture(tmp_path / "train" / "tench" / "1.JPEG")
    (tmp_path / "val" / "n01443537").mkdir()
    message = refusal("imagenet", tmp_path, num_classes=12)
    assert f"{tmp_path / 'train' / 'tench'}: not one of the 1000 classes (n01440764, " in message
    assert "n01443537: class folder is empty" in message
    assert "data.num_classes=12, but the data have 1000" in message


def test_image_folder_counts_classes_and_takes_what_pillow_reads(tmp_path: Path):
    fake.class_folders(tmp_path / "train")
    fake.class_folders(tmp_path / "test", num=1, ext=".JPG")
    fake.picture(tmp_path / "train" / "ant" / "deep" / "er" / "x.TIFF")
    fake.picture(tmp_path / "train" / "ant" / ".hidden.png")
    fake.picture(tmp_path / "train" / ".cache" / "x.png")
    (tmp_path / "train" / "ant" / "Thumbs.db").touch()
    splits = read("image_folder", tmp_path)
    assert splits.class_names == ("ant", "bee")
    assert np.bincount(splits.train.targets).tolist() == [5, 4]
    fake.picture(tmp_path / "elsewhere" / "linked.png")
    (tmp_path / "train" / "bee" / "more").symlink_to(tmp_path / "elsewhere")
    assert np.bincount(read("image_folder", tmp_path).train.targets).tolist() == [5, 5]
    assert splits.test.targets.tolist() == [0, 1]
    assert splits.val is None
    assert splits.test.path(1).name == "bee_0.JPG"


def test_image_folder_with_three_splits_uses_val_for_validation(tmp_path: Path):
    for split, num in {"train": 3, "test": 2, "val": 1}.items():
        fake.class_folders(tmp_path / split, num=num)
    splits = read("image_folder", tmp_path)
    assert (len(splits.train), len(splits.test), len(splits.val)) == (6, 4, 2)


def test_image_folder_without_splits_holds_out_a_fixed_fifth(tmp_path: Path):
    fake.class_folders(tmp_path, num=10)
    splits, again = read("image_folder", tmp_path), read("image_folder", tmp_path)
    assert np.bincount(splits.test.targets).tolist() == [2, 2]
    assert not set(splits.train.files) & set(splits.test.files)
    assert splits.test.files.tolist() == again.test.files.tolist()


def test_image_folder_refuses_with_all_reasons(tmp_path: Path):
    fake.class_folders(tmp_path / "train", ("ant", "bee"))
    fake.class_folders(tmp_path / "test", ("ant", "wasp"))
    (tmp_path / "train" / "empty").mkdir()
    (tmp_path / "train" / "empty" / "notes.txt").touch()
    message = refusal("image_folder", tmp_path, num_classes=5)
    assert f"{tmp_path / 'train' / 'empty'}: class folder is empty" in message
    assert f"{tmp_path / 'test' / 'wasp'}: not one of the 3 classes (ant, bee, empty)" in message
    assert "data.num_classes=5, but the data have 3 classes" in message
    assert "3 problems" in message


@pytest.mark.parametrize(("present", "reason"), [("train", "test: is missing"), ("val", "train: is missing")])
def test_image_folder_refuses_half_a_layout(tmp_path: Path, present: str, reason: str):
    fake.class_folders(tmp_path / present)
    assert reason in refusal("image_folder", tmp_path)


def test_image_folder_needs_two_images_to_hold_one_out(tmp_path: Path):
    fake.class_folders(tmp_path, num=1)
    assert "none can be held out" in refusal("image_folder", tmp_path)


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path):
    fake.class_folders(tmp_path, num=2)
    levels = np.array([[0, 257, 386, 65535]], dtype=np.uint16)
    Image.fromarray(levels).save(tmp_path / "ant" / "ant_0.png")
    Image.fromarray(levels.astype(np.float32)).save(tmp_path / "bee" / "bee_0.tif")
    source = READERS["image_folder"](tmp_path).read()
    found = {source.train.path(i).name: source.train for i in range(len(source.train))}
    found |= {source.test.path(i).name: source.test for i in range(len(source.test))}
    part = found["ant_0.png"]
    index = next(i for i in range(len(part)) if part.path(i).name == "ant_0.png")
    assert np.asarray(part.image(index)).tolist() == [[0, 1, 2, 255]]
    part = found["bee_0.tif"]
    index = next(i for i in range(len(part)) if part.path(i).name == "bee_0.tif")
    with pytest.raises(DataError, match=r"bee_0\.tif.*floating-point"):
        part.image(index)


def test_a_truncated_image_is_named_when_it_is_read(tmp_path: Path):
    fake.class_folders(tmp_path / "train", ext=".jpg")
    fake.class_folders(tmp_path / "test")
    path = fake.truncated(tmp_path / "train" / "ant" / "ant_1.jpg")
    source = read("image_folder", tmp_path).train
    source.image(0)
    with pytest.raises(DataError) as caught:
        source.image(1)
    assert f"{path}: cannot be read as an image" in str(caught.value)
    assert "expected tree" in str(caught.value)
