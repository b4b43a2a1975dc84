"""Shards that are written hold what the data set holds."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kanvision.data import READERS
from kanvision.data.write_shards import main, write_shards

from . import fake
from .reading import read


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    for split, num in {"train": 5, "test": 3}.items():
        fake.class_folders(root / split, ("ant", "bee"), num=num, ext=".jpg")
    levels = np.array([[0, 257, 386, 65535]], dtype=np.uint16)
    Image.fromarray(levels).save(root / "test" / "ant" / "deep.tif")
    Image.new("CMYK", (4, 4), (9, 8, 7, 6)).save(root / "test" / "bee" / "print.tif")
    fake.picture(root / "train" / "bee" / "wrong.png").rename(root / "train" / "bee" / "wrong.jpg")
    return root


def test_they_hold_the_same_images_and_classes(folder: Path, tmp_path: Path, capsys):
    main(["image_folder", str(folder), str(tmp_path / "shards"), "--size", "4"])
    assert capsys.readouterr().out.strip().startswith("5 shards, ")
    before, after = read("image_folder", folder), read("webdataset", tmp_path / "shards")
    assert after.class_names == before.class_names
    assert sorted(path.name for path in (tmp_path / "shards").glob("train*")) == [
        f"train-0000{number}-of-00003.tar" for number in range(3)
    ]
    for split in ("train", "test"):
        old, new = getattr(before, split), getattr(after, split)
        keys = new.contents.keys.astype(int)
        assert sorted(keys) == list(range(len(old)))
        assert (split == "train") is (keys.tolist() != sorted(keys))
        assert np.array_equal(new.targets, old.targets[keys])
        for position, index in enumerate(keys):
            one, other = old.image(int(index)), new.image(position)
            assert np.array_equal(np.asarray(one.convert("RGB")), np.asarray(other.convert("RGB")))
            if old.path(int(index)).suffix == ".jpg":
                assert new.read_bytes(position) == old.read_bytes(int(index))


def test_the_same_data_give_the_same_bytes(folder: Path, tmp_path: Path):
    splits = read("image_folder", folder)
    first, second, third = (
        [path.read_bytes() for path in write_shards(splits, tmp_path / name, size=4, seed=seed)]
        for name, seed in (("one", 0), ("two", 0), ("three", 1))
    )
    assert first == second
    assert first[0] != third[0]


def test_images_in_memory_become_png(tmp_path: Path):
    main(["digits", "-", str(tmp_path / "shards")])
    before, after = READERS["digits"](None).read(), read("webdataset", tmp_path / "shards")
    for position in range(0, len(after.test), 40):
        assert np.array_equal(after.test.image(position), before.test.pixels[position])
    assert np.array_equal(after.test.targets, before.test.targets)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["image_folder", "{root}", "{root}"], "is not empty"),
        (["image_folder", "{root}/nowhere", "{root}/new"], "does not exist"),
        (["image_folder", "{root}", "{root}/new", "--size", "0"], "legal: 1 or more"),
    ],
)
def test_what_cannot_be_written_is_told(folder: Path, capsys, arguments: list[str], words: str):
    with pytest.raises(SystemExit) as caught:
        main([argument.format(root=folder) for argument in arguments])
    assert caught.value.code
    assert words in capsys.readouterr().err


def test_a_broken_image_leaves_no_shard_behind(folder: Path, tmp_path: Path, capsys):
    fake.truncated(folder / "train" / "ant" / "ant_1.jpg")
    with pytest.raises(SystemExit):
        main(["image_folder", str(folder), str(tmp_path / "shards"), "--size", "100"])
    assert "ant_1.jpg: cannot be read as an image" in capsys.readouterr().err
    assert not list((tmp_path / "shards").glob("*.tar"))
