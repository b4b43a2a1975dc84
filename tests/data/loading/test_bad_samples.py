"""Samples that cannot be read: ends a run, or is replaced or left out, always with a word about it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kanvision.data import DataError, build_datamodule
from kanvision.data.loading.bad_samples import read_samples, resolve_on_bad_sample
from tests.data import fake
from tests.data.fake_masks import busi, own_pairs
from tests.data.fake_masks import save as save_mask
from tests.data.reading_masks import masks

FREE = {"num_classes": None, "mean": None, "std": None}


def reader(bad: set[int]):
    def read(index: int) -> int:
        if index in bad:
            raise DataError(f"file {index}: broken")
        return 10 * index

    return read


def test_what_is_done_depends_on_the_split():
    assert [resolve_on_bad_sample("raise", training=training) for training in (True, False)] == [
        "raise",
        "raise",
    ]
    assert [resolve_on_bad_sample("skip", training=training) for training in (True, False)] == [
        "replace",
        "leave_out",
    ]


def test_a_replacement_is_the_next_that_can_be_read():
    served = read_samples([4, 1, 5, 4], reader({4, 5}), "replace", 6)
    assert served.positions == [0, 1, 0, 0]
    assert served.samples == [0, 10, 0, 0]
    assert {fault.sample_index for fault in served.bad_samples} == {4, 5}
    assert served.bad_samples[0] == (4, "file 4: broken")


def test_nothing_takes_the_place_of_what_is_left_out():
    served = read_samples([4, 1, 5], reader({4, 5}), "leave_out", 6)
    assert (served.positions, served.samples) == ([1], [10])
    assert [fault.sample_index for fault in served.bad_samples] == [4, 5]


def test_an_error_or_a_disk_that_is_away_ends_the_run():
    with pytest.raises(DataError, match="file 4: broken"):
        read_samples([1, 4], reader({4}), "raise", 6)
    with pytest.raises(DataError, match=r"20 samples in a row cannot be read.*file 19: broken; is the disk"):
        read_samples([0], reader(set(range(50))), "replace", 50)
    with pytest.raises(DataError, match="3 samples in a row"):
        read_samples([0], reader({0, 1, 2}), "replace", 3)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for split, num in (("train", 8), ("test", 5)):
        fake.class_folders(tmp_path / split, num=num)
    fake.truncated(tmp_path / "train" / "bee" / "bee_5.png")
    (tmp_path / "test" / "ant" / "ant_1.png").write_bytes(b"")
    return tmp_path


def folder(root: Path, **changes):
    options = {"in_chans": 3, "img_size": 16, "mean": [0.5] * 3, "std": [0.25] * 3, "batch_size": 4}
    options |= {
        "val_fraction": 0.25,
        "augment": {"crop": "pad", "hflip": 0.5},
        "seed": 1,
        "on_bad_sample": "skip",
    }
    return build_datamodule(
        "classification", **{**options, "name": "image_folder", "root": str(root), **changes}
    )


def test_classes_train_on_replacements_and_are_tested_without(pictures: Path):
    batches = {}
    for workers in (0, 2):
        data = folder(pictures, num_workers=workers)
        train, test = list(data.train_dataloader()), list(data.test_dataloader())
        assert [len(batch["image"]) for batch in train] == [4, 4, 4]
        (fault,) = [fault for batch in train for fault in batch.get("bad_samples", ())]
        assert "bee_5.png: cannot be read as an image" in fault.problem
        assert fault.sample_index not in [index for batch in train for index in batch["index"].tolist()]
        seen = [index for batch in test for index in batch["index"].tolist()]
        assert seen == [0, *range(2, 10)]  # every other one, once
        assert all(len(batch["image"]) == len(batch["target"]) == len(batch["index"]) for batch in test)
        (fault,) = [fault for batch in test for fault in batch.get("bad_samples", ())]
        assert fault.sample_index == 1
        batches[workers] = train + test
    for one, other in zip(*batches.values(), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in ("image", "target", "index"))


def test_a_batch_of_which_nothing_is_left_is_empty(pictures: Path):
    batch = list(folder(pictures, eval_batch_size=1).test_dataloader())[1]
    assert batch["image"].shape == (0, 3, 16, 16)
    assert batch["target"].shape == batch["index"].shape == (0,)
    assert len(batch["bad_samples"]) == 1


def test_the_default_is_an_error_with_the_path(pictures: Path):
    with pytest.raises(DataError, match=r"ant_1\.png: cannot be read as an image"):
        list(folder(pictures, on_bad_sample="raise").test_dataloader())


def spoilt_pairs(root: Path) -> Path:
    own_pairs(root, 20)
    save_mask(root / "masks" / "field_3.png", np.ones((9, 8), np.uint8))
    fake.truncated(root / "images" / "field_5.png")
    (root / "masks" / "field_6.png").write_bytes(b"")
    return root


def test_masks_of_another_size_and_unreadable_files_are_skipped(tmp_path: Path):
    spoilt_pairs(tmp_path)
    changes = {**FREE, "mode": "multiclass", "mask_folder": "crop", "eval_size": "original"}
    for name in ("field_3", "field_6"):
        (tmp_path / "crop" / f"{name}.png").write_bytes((tmp_path / "masks" / f"{name}.png").read_bytes())
    with pytest.raises(DataError, match=r"field_3\.png: 8 x 9 pixels") as refused:
        masks("segmentation_folder", tmp_path, **changes).setup()
    assert "field_6.png: is empty (0 bytes); replace the file or delete it" in str(refused.value)
    whole = masks("segmentation_folder", own_pairs(tmp_path / "whole", 20), **changes)
    data = masks("segmentation_folder", tmp_path, **changes, on_bad_sample="skip")
    # The split is that of the sound data: nothing moves from one part to another.
    assert data.num_images == whole.num_images
    assert {split: data.datasets[split].names for split in data.datasets} == {
        split: whole.datasets[split].names for split in whole.datasets
    }
    assert data.num_classes == 3
    found, seen = {}, []
    for split in ("train", "val", "test"):
        loader = getattr(data, f"{split}_dataloader")()
        for batch in loader:
            found |= {
                fault.problem.partition(": ")[0]: fault.problem for fault in batch.get("bad_samples", ())
            }
            if split == "train":
                assert len(batch["image"]) == 4
            else:
                seen += [(split, index) for index in batch["index"].tolist()]
    assert sorted(Path(path).name for path in found) == ["field_3.png", "field_5.png", "field_6.png"]
    assert len(set(seen)) == len(seen)


def test_too_many_bad_files_are_refused_before_the_start(tmp_path: Path):
    spoilt_pairs(tmp_path)
    with pytest.raises(DataError, match=r"data\.max_bad_samples=1: 2 files cannot be used") as refused:
        masks("segmentation_folder", tmp_path, **FREE, on_bad_sample="skip", max_bad_samples=1).setup()
    assert "field_3.png" in str(refused.value)


def test_near_duplicates_are_found_beside_a_bad_file(tmp_path: Path):
    busi(tmp_path)
    fake.truncated(tmp_path / "benign" / "benign (7).png")
    data = masks("busi", tmp_path, split="groups", img_size=32, on_bad_sample="skip")
    names = {split: set(data.datasets[split].names) for split in data.num_images}
    assert any({"benign (2)", "benign (3)"} <= of_split for of_split in names.values())


def test_folders_that_are_wrong_are_no_single_faults(tmp_path: Path):
    own_pairs(tmp_path)
    (tmp_path / "masks" / "field_2.png").unlink()
    with pytest.raises(DataError, match=r"field_2\.png: has no mask"):
        masks("segmentation_folder", tmp_path, **FREE, on_bad_sample="skip").setup()
