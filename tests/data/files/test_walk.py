"""Symbolic links in folders of data: followed, never in a circle, and no image counts twice."""

import os
import warnings
from pathlib import Path

import pytest

from kanvision.data import DataError, build_datamodule
from kanvision.data.files.walk import list_files
from kanvision.data.inspection import Inspection
from kanvision.prediction import find_inputs
from tests.data import fake
from tests.data.fake_masks import crops, own_pairs
from tests.data.reading import read, refusal
from tests.data.reading_masks import masks
from tests.data.reading_masks import refusal as mask_refusal


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        fake.class_folders(tmp_path / "photos" / split, num=5)
    return tmp_path / "photos"


def link(path: Path, target: Path | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


@pytest.mark.parametrize("target", [".", "..", "../..", "../../.."])
@pytest.mark.parametrize("name", ["train/ant/loop", "train/ant/deep/loop"])
def test_a_link_in_a_circle_is_refused_by_name(name: str, target: str, photos: Path) -> None:
    link(photos / name, target)
    (photos / "train" / "ant" / "deep").mkdir(exist_ok=True)
    where = os.path.realpath((photos / name).parent / target)
    assert f"{photos / name}: is a link to {where}, a folder around it; delete the link" in refusal(
        "image_folder", photos
    )


def test_links_that_lead_in_a_circle_together_are_refused(photos: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    link(photos / "train" / "ant" / "more", other)
    link(other / "back", photos / "train" / "ant")
    assert "more/back: is a link to" in refusal("image_folder", photos)


def test_a_class_that_is_a_link_to_all_classes_is_refused(photos: Path) -> None:
    link(photos / "train" / "all", ".")
    fake.class_folders(photos / "test", ("all",))
    assert "train/all: is a link to" in refusal("image_folder", photos)


def test_links_to_folders_and_files_elsewhere_are_followed(photos: Path, tmp_path: Path) -> None:
    whole = read("image_folder", photos)
    store = tmp_path / "store"
    (photos / "train" / "ant").rename(store)
    link(photos / "train" / "ant", store)
    (photos / "train" / "bee" / "bee_0.png").rename(tmp_path / "one.png")
    link(photos / "train" / "bee" / "bee_0.png", tmp_path / "one.png")
    (tmp_path / "linked").symlink_to(photos)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read("image_folder", tmp_path / "linked")
    assert len(found.train) == len(whole.train) == 10
    assert (found.train.targets == whole.train.targets).all()


def test_an_image_counts_once_however_many_links_lead_to_it(photos: Path) -> None:
    link(photos / "train" / "ant" / "again.png", "ant_0.png")
    link(photos / "train" / "ant" / "a" / "again", "../../../test/ant")
    link(photos / "train" / "ant" / "b", "../../test/ant")
    with pytest.warns(UserWarning, match=r"6 links .*train that are listed already.*again\.png"):
        found = read("image_folder", photos)
    reals = [os.path.realpath(found.train.path(index)) for index in range(len(found.train))]
    assert len(reals) == len(set(reals)) == 15
    assert str(photos / "train" / "ant" / "ant_0.png") in map(str, map(found.train.path, range(15)))


def test_an_image_of_two_classes_is_refused(photos: Path) -> None:
    link(photos / "train" / "bee" / "ant.png", "../ant/ant_0.png")
    told = refusal("image_folder", photos)
    assert "bee/ant.png: is the same file as" in told
    assert "ant_0.png, which has another class; delete one of them" in told


def test_check_data_names_links_in_a_circle(photos: Path) -> None:
    link(photos / "train" / "ant" / "loop", "..")
    data = build_datamodule(
        "classification",
        name="image_folder",
        root=str(photos),
        in_chans=3,
        img_size=8,
        mean=[0.5] * 3,
        std=[1.0] * 3,
    )
    inspection = Inspection(data.reader)
    list(inspection.inspect_samples())
    bad = [issue for issue in inspection.collect_issues() if issue.is_bad and issue.file.endswith("loop")]
    assert [issue.wrong for issue in bad] == [f"is a link to {photos / 'train'}, a folder around it"]
    assert len(inspection) == 20


def test_a_folder_that_cannot_be_listed_is_a_problem(photos: Path, monkeypatch) -> None:
    def refuse(folder: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)  # the superuser of a container may list everything
    assert list_files(photos).problems == [
        f"{photos}: cannot be listed (Permission denied); make it readable"
    ]


def test_an_image_with_two_masks_is_refused(tmp_path: Path) -> None:
    own_pairs(tmp_path, 6)
    link(tmp_path / "images" / "copy.png", "field_0.png")
    link(tmp_path / "masks" / "copy.png", "field_0.png")
    told = mask_refusal("segmentation_folder", tmp_path)
    assert f"field_0.png: is the same file as {tmp_path / 'images' / 'copy.png'}; delete one of them" in told


def test_images_may_share_a_mask(tmp_path: Path) -> None:
    own_pairs(tmp_path, 6)
    (tmp_path / "masks" / "field_2.png").unlink()
    link(tmp_path / "masks" / "field_2.png", "field_0.png")
    data = masks("segmentation_folder", tmp_path)
    data.setup()
    assert sum(data.num_images.values()) == 6


def test_areas_are_read_once(tmp_path: Path) -> None:
    crops(tmp_path / "name", num=3)
    link(tmp_path / "again", "name")
    link(tmp_path / "loop", ".")
    told = mask_refusal("sentinel_crops", tmp_path, in_chans=12, mean=[0.0] * 12, std=[1.0] * 12)
    for name in ("again", "loop"):
        assert f"{tmp_path / name}: is a link to" in told


def test_prediction_names_links_in_a_circle(photos: Path) -> None:
    link(photos / "test" / "ant" / "loop", "..")
    with pytest.raises(DataError, match=r"loop: is a link to"):
        find_inputs(photos / "test", classes=True)
