"""BUSI: masks of one image are taken together, near duplicates stay together; the published split."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.model_selection import train_test_split

from kanvision.data.splits.near_duplicates import MAX_DISTANCE, group_duplicates, perceptual_hash
from kanvision.data.splits.published import assign_published_splits, load_published_names
from tests.data import fake_masks
from tests.data.reading_masks import masks, parts, refusal


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fake_masks.busi(tmp_path / "Dataset_BUSI_with_GT")


def sample(data, name: str) -> dict:
    data.setup()
    for part in data.datasets.values():
        if name in part.names:
            return part.source[part.source.names.index(name)]
    raise AssertionError(name)


@pytest.mark.parametrize("around", [False, True])
def test_images_of_any_size_make_batches(root: Path, around: bool):
    data = masks("busi", root.parent if around else root)
    assert sum(data.num_images.values()) == 20
    assert data.class_names == ("background", "lesion")
    batch = next(iter(data.train_dataloader()))
    assert {key: (tuple(value.shape), value.dtype) for key, value in batch.items()} == {
        "image": ((4, 3, 16, 16), torch.float32),
        "mask": ((4, 16, 16), torch.int64),
        "index": ((4,), torch.int64),
    }
    assert set(batch["mask"].unique().tolist()) == {0, 1}
    assert masks("busi", root, num_classes=1).class_names == ("lesion",)


def test_masks_of_one_image_are_taken_together_whatever_their_mode(root: Path):
    data = masks("busi", root)
    three = sample(data, "benign (1)")["mask"]
    expected = sum(fake_masks.disc((41, 37), corner) > 0 for corner in [(2, 2), (8, 2), (2, 9)])
    assert torch.equal(three, torch.from_numpy(expected).long().clamp(max=1))
    for number in (4, 5, 6, 7):  # modes 1, L, RGB, RGBA
        assert int(sample(data, f"benign ({number})")["mask"].sum()) == 36


def test_normals_come_on_demand_and_in_natural_order(root: Path):
    assert sum(masks("busi", root).num_images.values()) == 20
    data = masks("busi", root, normals=True)
    names = sorted(name for part in parts(data).values() for name in part)
    assert len(names) == 24
    assert int(sample(data, "normal (2)")["mask"].sum()) == 0
    order = data.datasets["train"].source.names
    numbers = [int(name.split("(")[1][:-1]) for name in order if name.startswith("benign")]
    assert numbers == sorted(numbers)


def test_near_duplicates_never_straddle_parts(root: Path):
    for seed in range(12):
        found = parts(masks("busi", root, split_seed=seed))
        homes = [
            part for part, names in found.items() for name in names if name in ("benign (2)", "benign (3)")
        ]
        assert len(set(homes)) == 1, seed
        assert not set(found["train"]) & set(found["test"])
        assert not set(found["train"]) & set(found["val"])
    assert parts(masks("busi", root, split_seed=1)) != parts(masks("busi", root, split_seed=2))


def test_a_hash_survives_size_marks_and_compression_and_tells_pictures_apart(tmp_path: Path):
    pixels = fake_masks.scan(0, (200, 160))
    marked = pixels.copy()
    marked[10:12, 10:60] = 255
    paths = [
        fake_masks.save(tmp_path / "a.png", pixels),
        fake_masks.save(tmp_path / "b.png", np.asarray(Image.fromarray(pixels).resize((90, 81)))),
        fake_masks.save(tmp_path / "c.jpg", pixels),
        fake_masks.save(tmp_path / "d.png", marked),
        fake_masks.save(tmp_path / "e.png", fake_masks.scan(1, (200, 160))),
    ]
    hashes = [perceptual_hash(path) for path in paths]
    distances = [int((hashes[0] != other).sum()) for other in hashes[1:]]
    assert max(distances[:3]) <= MAX_DISTANCE < distances[3]
    assert group_duplicates(paths).tolist() == [0, 0, 0, 0, 4]


@pytest.mark.parametrize("seed", [2981, 6142, 1187])
def test_the_published_split_is_that_of_scikit_learn_on_sorted_names(seed: int):
    for dataset, count in {"busi": 647, "glas": 165, "cvc": 612}.items():
        names = load_published_names(dataset)
        assert list(names) == sorted(names)
        assert len(set(names)) == count
        _, test = train_test_split(list(names), test_size=0.2, random_state=seed)
        found = dict(zip(names, assign_published_splits(dataset, names, seed), strict=True))
        assert {name for name, part in found.items() if part == "test"} == set(test)
        few = names[5:60:7]  # a part of the images keeps its split
        assert assign_published_splits(dataset, few, seed) == [found[name] for name in few]


def test_other_seeds_and_other_names_are_split_by_the_same_rule():
    names = load_published_names("busi")
    _, test = train_test_split(list(names), test_size=0.2, random_state=41)
    found = assign_published_splits("busi", names, 41)
    assert {name for name, part in zip(names, found, strict=True) if part == "test"} == set(test)
    own = [f"image {number}" for number in range(10)]
    assert assign_published_splits("busi", own, 2981).count("test") == 2


def test_the_published_split_holds_a_validation_part_out_of_the_training_part(root: Path):
    found = parts(masks("busi", root, split="published", split_seed=2981, val_fraction=0.2))
    table = dict(
        zip(
            load_published_names("busi"),
            assign_published_splits("busi", load_published_names("busi"), 2981),
            strict=True,
        )
    )
    assert all(table[name] == "test" for name in found["test"])
    assert all(table[name] == "train" for name in [*found["train"], *found["val"]])
    assert found["val"]
    assert not set(found["train"]) & set(found["val"])


def test_the_papers_choice_of_the_epoch_by_test_images_says_so(root: Path):
    data = masks("busi", root, split="published", val_fraction=0.0)
    with pytest.warns(UserWarning, match="data.val_fraction=0, so validation uses the test split"):
        found = parts(data)
    assert found["val"] == found["test"]


def test_a_table_decides_instead(root: Path, tmp_path: Path):
    names = [name for part in parts(masks("busi", root)).values() for name in part]
    table = tmp_path / "split.csv"
    roles = ["val", "test", *["train"] * (len(names) - 2)]
    rows = [f"{name},{part}" for name, part in zip(names, roles, strict=True)]
    table.write_text("\n".join(["name,split", *rows]))
    found = parts(masks("busi", root, split_file=str(table)))
    assert (found["val"], found["test"]) == ([names[0]], [names[1]])
    table.write_text("\n".join(["name,split", *rows[1:], "other,tset"]))
    message = refusal("busi", root, split_file=str(table))
    assert f"does not list {names[0]}" in message
    assert "other has split tset; legal: train, val, test" in message
    table.write_text("a,b\n1,2\n")
    assert "must have the columns name and split" in refusal("busi", root, split_file=str(table))
    assert "the file does not exist" in refusal("busi", root, split_file=str(tmp_path / "none.csv"))


def test_everything_that_is_wrong_is_said_at_once(root: Path):
    (root / "benign" / "benign (4)_mask.png").unlink()
    (root / "malignant" / "malignant (2).png").unlink()
    fake_masks.save(root / "benign" / "benign (5)_mask.png", fake_masks.disc((9, 9)))
    (root / "malignant" / "malignant (3).png").write_bytes(b"no picture")
    message = refusal("busi", root)
    assert "4 problems" in message
    assert "benign (4).png: has no mask benign (4)_mask.png" in message
    assert "malignant (2)_mask.png: its image malignant (2).png is missing" in message
    assert "benign (5)_mask.png: 9 x 9 pixels, but its image benign (5).png has 42 x 37 pixels" in message
    assert "malignant (3).png: cannot be read" in message
    assert "expected tree" in message
    assert "where to get it" in message


def test_missing_folders_and_empty_masks_are_refused(root: Path, tmp_path: Path):
    for path in root.glob("*/*_mask*.png"):
        with Image.open(path) as picture:
            size = picture.size
        fake_masks.save(path, fake_masks.disc(size, level=1))
    assert "highest here is 1" in refusal("busi", root)
    assert "does not exist" in refusal("busi", tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    message = refusal("busi", empty, normals=True)
    assert message.count("folder is missing") == 3
    with pytest.raises(ValueError, match=r"data\.num_classes=4: busi has background and lesion"):
        masks("busi", fake_masks.busi(tmp_path / "fresh"), num_classes=4).setup()
