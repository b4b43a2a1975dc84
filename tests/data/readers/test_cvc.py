"""CVC-ClinicDB: both roots, gray edges of masks, splits by frame and by video."""

from pathlib import Path

import pytest
import torch

from kanvision.data.splits.published import assign_published_splits, load_published_names
from tests.data import fake_masks
from tests.data.reading_masks import masks, parts, refusal


@pytest.mark.parametrize(
    ("inner", "ext"), [("", ".tif"), ("", ".png"), ("PNG", ".png"), ("TIF", ".tif"), ("CVC-ClinicDB", ".tif")]
)
def test_all_copies_are_read_alike(tmp_path: Path, inner: str, ext: str):
    fake_masks.cvc(tmp_path / inner, ext=ext)
    data = masks("cvc", tmp_path, img_size=18)
    assert sum(data.num_images.values()) == 15
    assert data.class_names == ("background", "polyp")
    source = data.datasets["train"].source
    sample = source[source.names.index("3")] if "3" in source.names else source[0]
    assert int(sample["mask"].sum()) == 36  # the gray edge of level 90 is background
    name = source.names[0]
    expected = torch.from_numpy(fake_masks.scan(int(name), (24, 18))).permute(2, 0, 1) / 255
    torch.testing.assert_close(source[0]["image"], expected)


def test_frames_are_split_as_published(tmp_path: Path):
    fake_masks.cvc(tmp_path, num=40)
    names = load_published_names("cvc")
    table = dict(zip(names, assign_published_splits("cvc", names, 1187), strict=True))
    found = parts(masks("cvc", tmp_path, split_seed=1187))
    assert sorted(found["test"]) == sorted(name for name in map(str, range(1, 41)) if table[name] == "test")
    assert len(found["val"]) == round(0.1 * (40 - len(found["test"])))


@pytest.mark.parametrize("inner", ["", "PNG"])
def test_videos_stay_together_where_the_table_is_there(tmp_path: Path, inner: str):
    fake_masks.cvc(tmp_path / inner, num=30, ext=".png")
    fake_masks.cvc_table(tmp_path / "metadata.csv", num=30)
    for seed in range(4):
        found = parts(masks("cvc", tmp_path, split="sequences", split_seed=seed))
        videos = [{(int(name) - 1) // 3 for name in names} for names in found.values()]
        assert sum(map(len, videos)) == len(set.union(*videos)) == 10
        assert len(found["test"]) == 6


def test_without_the_table_videos_are_not_known(tmp_path: Path):
    fake_masks.cvc(tmp_path)
    message = refusal("cvc", tmp_path, split="sequences")
    assert "metadata.csv: is missing, and only it lists the video of each frame" in message
    assert "set data.split=published" in message
    fake_masks.cvc_table(tmp_path / "metadata.csv", num=14)
    assert "does not list frame 15" in refusal("cvc", tmp_path, split="sequences")
    (tmp_path / "metadata.csv").write_text("a,b\n1,2\n")
    assert "must have the columns frame_id and sequence_id" in refusal("cvc", tmp_path, split="sequences")


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path):
    fake_masks.cvc(tmp_path)
    (tmp_path / "Ground Truth" / "2.tif").unlink()
    (tmp_path / "Original" / "5.tif").unlink()
    fake_masks.save(tmp_path / "Original" / "7.png", fake_masks.scan(7, (24, 18)))
    message = refusal("cvc", tmp_path)
    assert "7.tif: stands beside 7.png; keep one of them" in message
    (tmp_path / "Original" / "7.png").unlink()
    (tmp_path / "Original" / "3.tif").write_bytes(b"II*\0 no picture")
    message = refusal("cvc", tmp_path)
    assert f"{tmp_path / 'Original' / '2.tif'}: has no mask in Ground Truth" in message
    assert f"{tmp_path / 'Ground Truth' / '5.tif'}: has no frame in Original" in message
    assert f"{tmp_path / 'Original' / '3.tif'}: cannot be read" in message
    (tmp_path / "empty").mkdir()
    assert refusal("cvc", tmp_path / "empty").count("folder is missing") == 2
