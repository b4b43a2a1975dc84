"""GlaS: numbered glands, official and other splits, patients from the table."""

from pathlib import Path

import pytest
import torch

from tests.data import fake_masks
from tests.data.reading_masks import masks, parts, refusal

PATIENT = {f"{part}_{i}": i % 4 + 1 for part in ("train", "testA", "testB") for i in range(1, 9)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fake_masks.glas(tmp_path / "Warwick QU Dataset (Released 2016_07_08)")


def patients(names: list[str]) -> set[int]:
    return {PATIENT[name] for name in names}


@pytest.mark.parametrize(("test_part", "expected"), [("A", 4), ("B", 3), ("AB", 7)])
@pytest.mark.parametrize("around", [False, True])
def test_the_official_split(root: Path, test_part: str, expected: int, around: bool):
    data = masks("glas", root.parent if around else root, test_part=test_part, val_fraction=0.25)
    found = parts(data)
    assert len(found["test"]) == expected
    assert all(name[4] in test_part for name in found["test"])
    assert sorted(found["train"] + found["val"]) == [f"train_{i}" for i in range(1, 9)]
    assert found["val"]
    assert not patients(found["train"]) & patients(found["val"])
    assert data.class_names == ("background", "gland")


def test_glands_keep_their_numbers_through_augmentation_and_resizing(root: Path):
    data = masks("glas", root, augment={"hflip": 0.5, "vflip": 0.5, "rot90": 0.5}, batch_size=6)
    batch = next(iter(data.train_dataloader()))
    assert set(batch) == {"image", "mask", "instances", "index"}
    assert (batch["instances"].shape, batch["instances"].dtype) == ((6, 16, 16), torch.int64)
    assert torch.equal(batch["mask"], (batch["instances"] > 0).long())
    for index, instances in zip(batch["index"].tolist(), batch["instances"], strict=True):
        stored = data.datasets["train"].source[index]["instances"]
        assert set(instances.unique().tolist()) == set(stored.unique().tolist())


def test_masks_keep_their_size_where_they_are_scored_at_it(root: Path):
    data = masks("glas", root, eval_size="original", eval_batch_size=8)
    sizes = set()
    for batch in data.test_dataloader():
        assert batch["image"].shape == (1, 3, 16, 16)
        assert batch["mask"].shape == batch["instances"].shape
        sizes.add(tuple(batch["mask"].shape))
    assert sizes == {(1, 20, 30), (1, 20, 34)}
    assert next(iter(data.train_dataloader()))["mask"].shape == (4, 16, 16)


def test_patients_are_in_one_part_only(root: Path):
    for seed in range(6):
        found = parts(masks("glas", root, split="patients", split_seed=seed, val_fraction=0.3))
        groups = [patients(names) for names in found.values()]
        assert sum(map(len, groups)) == len(set.union(*groups)), seed
        assert sum(map(len, found.values())) == 15


def test_the_published_split_pools_all_images(root: Path):
    found = parts(masks("glas", root, split="published", split_seed=6142))
    assert sum(map(len, found.values())) == 15
    assert {name.partition("_")[0] for name in found["train"]} == {"train", "testA", "testB"}
    assert found != parts(masks("glas", root, split="published", split_seed=1187))


def test_without_the_table_only_patients_are_missing(tmp_path: Path):
    root = fake_masks.glas(tmp_path, table=False)
    assert len(parts(masks("glas", root))["train"]) == 7
    message = refusal("glas", root, split="patients")
    assert "Grade.csv: is missing, and only it lists the patient of each image" in message


def test_a_table_with_other_columns_or_values_is_refused(root: Path):
    table = root / "Grade.csv"
    text = table.read_text()
    table.write_text(text.replace("patient ID", "person"))
    assert "must have the columns name, patient ID, grade (GlaS); missing: patient ID" in refusal(
        "glas", root
    )
    table.write_text(text.replace("train_3,4, benign", "train_3,x, benign"))
    message = refusal("glas", root)
    assert "train_3 has patient x and grade benign; legal: a number, and benign or malignant" in message


def test_everything_that_is_wrong_is_said_at_once(root: Path, tmp_path: Path):
    (root / "train_2_anno.bmp").unlink()
    (root / "testB_1.bmp").unlink()
    fake_masks.save(root / "testA_1_anno.bmp", fake_masks.disc((7, 7)))
    fake_masks.save(root / "train_99.bmp", fake_masks.scan(0, (30, 20)))
    message = refusal("glas", root)
    assert "train_2.bmp: has no mask train_2_anno.bmp" in message
    assert "testB_1_anno.bmp: its image testB_1.bmp is missing" in message
    assert "testA_1_anno.bmp: 7 x 7 pixels, but its image testA_1.bmp has 34 x 20 pixels" in message
    assert "does not list train_99" in message
    assert "expected tree" in message
    (tmp_path / "empty").mkdir()
    assert "holds no image" in refusal("glas", tmp_path / "empty")


def test_a_color_picture_is_no_numbered_mask(root: Path):
    for path in root.glob("*_anno.bmp"):
        size = (34, 20) if int(path.stem.split("_")[1]) % 2 else (30, 20)
        fake_masks.save(path, fake_masks.scan(1, size))
    assert "is a color picture (3 channels)" in refusal("glas", root)
