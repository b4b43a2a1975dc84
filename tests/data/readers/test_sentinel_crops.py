"""South Africa Crop Type: both layouts, days and clouds, disjoint areas, the published table."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kanvision.data.files.sentinel import compute_cloud_iou, find_areas
from tests.data.fake_masks import BANDS, crops, geotiff
from tests.data.reading_masks import masks, refusal

FREE = {"in_chans": 12, "mean": None, "std": None, "img_size": 20}
DAYS = ["2017_04_01", "2017_05_11", "2017_07_10"]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return crops(tmp_path_factory.mktemp("crops") / "train")


def fields(root: Path, **changes):
    return masks("sentinel_crops", root, **{**FREE, **changes})


def day_of(image: torch.Tensor) -> int:
    """Which day an image is of, from its first band."""
    return round(float(image[0, 0, 0]) * 255) // 20


def write(path: Path, *rows: str) -> str:
    path.write_text("\n".join(rows))
    return str(path)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("sensor", ["s1", "s2"])
def test_both_layouts_hold_the_same(tmp_path: Path, old: bool, sensor: str):
    inner = "ref_south_africa_crops_competition_v1_train_source_s2" if old else "train"
    folder = crops(tmp_path / inner, num=16, sensor=sensor, old=old)
    for where in (tmp_path, folder):
        areas, problems = find_areas(where, sensor)
        assert not problems
        assert [area.name for area in areas] == [str(number) for number in range(1, 17)]
        assert all(area.dates == DAYS for area in areas)
    data = fields(tmp_path, sensor=sensor, in_chans=len(BANDS[sensor]))
    assert data.class_names == ("background", "field")
    data.setup()
    sample = data.datasets["test"].source[0]
    assert [round(float(band[0, 0]) * 255) % 20 for band in sample["image"]] == list(
        range(len(BANDS[sensor]))
    )
    assert sample["mask"].unique().tolist() == [0, 1]


def test_no_area_is_in_two_parts_and_the_hash_decides(root: Path):
    data = fields(root)
    data.setup()
    names = {part: set(data.datasets[part].source.names) for part in ("train", "val", "test")}
    assert sum(map(len, names.values())) == len(set.union(*names.values())) == 20
    again = fields(root.parent)
    again.setup()
    assert {part: set(again.datasets[part].source.names) for part in names} == names
    other = fields(root, split_seed=1)
    other.setup()
    assert set(other.datasets["train"].source.names) != names["train"]


def test_the_hash_gives_the_published_shares():
    from kanvision.data.readers.sentinel_crops import SentinelCrops

    reader = SentinelCrops("unused", num_classes=2, in_chans=12, img_size=8)
    parts = [reader._hash_split(str(area)) for area in range(1, 2651)]
    for part, published in {"train": 2019, "val": 267, "test": 364}.items():
        assert abs(parts.count(part) - published) < 80


def test_clear_days_are_random_in_training_and_the_first_elsewhere(root: Path):
    data = fields(root, batch_size=4, max_clouds_train=0.2)  # fields are 0.22 of the cloudy day
    data.setup()
    train, test = data.datasets["train"].source, data.datasets["test"].source
    assert {day_of(test[i]["image"]) for i in range(len(test))} == {1}  # day 0 is under clouds
    seen = []
    for seed in range(12):
        torch.manual_seed(seed)
        seen.append(day_of(train[0]["image"]))
    assert set(seen) == {1, 2}
    # which day a batch shows is a function of its seed alone
    first, second = (list(data.train_dataloader()) for _ in range(2))
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(first, second, strict=True))


def test_clouds_may_be_ignored_or_unknown(root: Path, tmp_path: Path):
    data = fields(root, max_clouds_train=None, max_clouds_eval=None)
    data.setup()
    assert day_of(data.datasets["test"].source[0]["image"]) == 0
    crops(tmp_path, clouds=False)
    unknown = fields(tmp_path)
    with pytest.warns(UserWarning, match="there are no cloud masks"):
        unknown.setup()
    assert day_of(unknown.datasets["test"].source[0]["image"]) == 0


def test_clouds_are_measured_against_fields(tmp_path: Path):
    crops(tmp_path, num=1)
    ((area,), _) = find_areas(tmp_path, "s2")
    shares = [compute_cloud_iou(area, folder) for _, folder in area.days]
    assert shares == [pytest.approx((64 + 24) / 400), 0.0, 0.0]
    folder = area.days[1][1]
    (folder / "1_2017_05_11_CLM_10m.tif").unlink()
    assert compute_cloud_iou(area, folder) is None
    probability = np.zeros((20, 20), np.float32)
    probability[2:10, 2:6] = 0.7
    np.save(folder / "1_2017_05_11_CLM_10m.npy", probability)
    assert compute_cloud_iou(area, folder) == pytest.approx(32 / 88)


def test_an_area_without_a_clear_day_is_left_out_of_the_test(tmp_path: Path):
    crops(tmp_path)
    before = fields(tmp_path)
    before.setup()
    name = before.datasets["test"].source.names[0]
    for day in DAYS:
        path = tmp_path / "imagery" / "s2" / name / day / f"{name}_{day}_CLM_10m.tif"
        geotiff(path, np.ones((1, 20, 20), np.uint8))
    after = fields(tmp_path, max_clouds_train=0.3, max_clouds_eval=0.1)
    after.setup()
    assert name not in after.datasets["test"].source.names


def test_the_published_table_chooses_parts_and_days(root: Path, tmp_path: Path):
    rows = ["area,date,nulls,saturated,split,iou"]
    for area in range(1, 21):
        part = "train" if area <= 12 else "val" if area <= 16 else "test"
        for day, iou in zip(DAYS, ("0.2", "0.05", "0.01"), strict=True):
            nulls = 9 if area == 17 and day == DAYS[1] else 0
            rows.append(f"{area},{day.replace('_', '-')},{nulls},0,{part},{iou}")
        rows[-3:] = rows[-3:][::-1]  # the table need not be in the order of time
    data = fields(root, split_file=write(tmp_path / "table.csv", *rows))
    data.setup()
    sources = {part: data.datasets[part].source for part in ("train", "val", "test")}
    assert list(sources["train"].names) == [str(area) for area in range(1, 13)]
    assert list(sources["test"].names) == ["17", "18", "19", "20"]
    assert [day_of(sources["test"][i]["image"]) for i in range(4)] == [2, 1, 1, 1]
    assert all(area.dates == DAYS for area in sources["train"].areas)  # 0.2 is below 0.3
    message = refusal("sentinel_crops", root, **FREE, split_file=write(tmp_path / "few.csv", *rows[:4]))
    assert "does not list area 2" in message
    bad = write(tmp_path / "bad.csv", "area,split", "1,dev")
    assert "area 1 has split dev; legal: train, val, test" in refusal(
        "sentinel_crops", root, **FREE, split_file=bad
    )
    empty = write(tmp_path / "empty.csv", "a,b", "1,2")
    assert "must have the columns area and split" in refusal("sentinel_crops", root, **FREE, split_file=empty)


@pytest.mark.parametrize("size", [256, 270])
def test_larger_chips_are_cut_to_their_middle(tmp_path: Path, size: int):
    crops(tmp_path, num=16, sensor="s1", size=20)
    for area in range(1, 17):
        label = np.zeros((1, size, size), np.uint8)
        label[0, size // 2, size // 2] = 3
        geotiff(tmp_path / "labels" / f"{area}.tif", label)
        for folder in (tmp_path / "imagery" / "s1" / str(area)).iterdir():
            for path in folder.iterdir():
                geotiff(path, label)
    data = fields(tmp_path, sensor="s1", in_chans=2, img_size=256, mean=[0, 0], std=[1, 1], max_value=1)
    data.setup()
    sample = data.datasets["test"].source[0]
    assert sample["image"].shape == (2, 256, 256)
    assert sample["mask"].nonzero().tolist() == [[128, 128]]
    assert torch.equal(sample["image"][0] > 0, sample["mask"] > 0)
    assert float(sample["image"].max()) == 3.0  # the published input: stored numbers as they are


def test_ten_classes(root: Path):
    data = fields(root, mode="multiclass", num_classes=10)
    assert data.num_classes == 10
    assert data.class_names[9] == "rooibos"
    labels = torch.cat([batch["mask"] for batch in data.train_dataloader()]).unique().tolist()
    assert labels[0] == 0
    assert len(labels) > 5
    with pytest.raises(ValueError, match=r"data\.num_classes=4: there are 10 classes"):
        fields(root, mode="multiclass", num_classes=4)


def test_bands_are_chosen_by_name(root: Path):
    data = fields(root, bands=["B08", "B04", "B03"], in_chans=3)
    data.setup()
    image = data.datasets["test"].source[0]["image"]
    assert [round(float(band[0, 0]) * 255) % 20 for band in image] == [7, 3, 2]
    with pytest.raises(ValueError, match=r"data\.bands: B10 is not a band of s2"):
        fields(root, bands=["B10"], in_chans=1)
    with pytest.raises(ValueError, match=r"data\.in_chans=3, but s2 gives 12 bands"):
        fields(root, in_chans=3)


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path):
    crops(tmp_path, num=16)
    first = tmp_path / "imagery" / "s2" / "1" / "2017_05_11"
    (first / "1_2017_05_11_B8A_10m.tif").unlink()
    (tmp_path / "imagery" / "s2" / "1" / "2017_04_01" / "1_2017_04_01_B8A_10m.tif").unlink()
    message = refusal("sentinel_crops", tmp_path, **FREE)
    assert "band B8A is missing" in message
    (tmp_path / "labels" / "3.tif").unlink()
    (tmp_path / "imagery" / "s2" / "5" / "spring").mkdir()
    message = refusal("sentinel_crops", tmp_path, **FREE)
    assert f"{tmp_path / 'labels' / '3.tif'}: is missing, though there are images of area 3" in message
    assert f"{tmp_path / 'imagery' / 's2' / '5' / 'spring'}: is not named by a date" in message
    assert "expected tree" in message
    assert "holds no area with images of s1" in refusal(
        "sentinel_crops", tmp_path / "labels", **{**FREE, "in_chans": 2}, sensor="s1"
    )


@pytest.mark.parametrize(
    ("band", "array", "message"),
    [
        ("B02", np.zeros((1, 9, 9), np.uint8), "9 x 9 pixels, but band B01 has 20 x 20 pixels"),
        ("B02", np.zeros((2, 20, 20), np.uint8), "has 2 bands; a file holds one"),
        ("B02", np.full((1, 20, 20), np.nan, np.float32), "band 1 holds NaN or infinity (100 %"),
        ("B02", b"II*", "cannot be read"),
        ("labels", np.full((1, 20, 20), 12, np.uint8), "holds label 12; legal: 0 to 9"),
        ("labels", np.zeros((1, 9, 9), np.uint8), "9 x 9 pixels, but the bands in"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_when_it_is_read(tmp_path: Path, band: str, array, message: str):
    crops(tmp_path, num=16)
    data = fields(tmp_path, max_clouds_train=None, mean=[0.5] * 12, std=[0.25] * 12)
    data.setup()
    source = data.datasets["test"].source
    area = source.areas[0]
    path = area.label if band == "labels" else next(area.days[0][1].glob(f"*_{band}_*"))
    path.write_bytes(array) if isinstance(array, bytes) else geotiff(path, array)
    with pytest.raises(ValueError, match="sentinel_crops: 1 problem") as caught:
        source[0]
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
