"""Tar shards are found, indexed and read at their place; what is wrong with them is told at once."""

import gzip
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from kanvision.data import DataError, build_datamodule
from kanvision.data.readers import ShardSource
from kanvision.data.seeding import SeededBatch
from kanvision.data.shards.index import INDEX_FILE
from kanvision.data.shards.names import expand_braces
from kanvision.data.shards.source import MAX_OPEN_SHARDS
from tests.data import fake
from tests.data.fake_shards import encoded, sample, shard, shards
from tests.data.reading import read, refusal


def level(source: ShardSource, index: int) -> int:
    """What `encoded` has put into the first pixel."""
    return int(np.asarray(source.image(index))[0, 0, 0])


def test_members_are_grouped_and_labeled_as_webdataset_has_them(tmp_path: Path):
    members = [
        ("./a.b/c.jpg", encoded(10, "JPEG")),
        ("./a.b/c.cls", b" 1\n"),
        ("x.PNG", encoded(20)),
        ("x.json", b'{"label": 0, "caption": "c.d"}'),
        ("x.seg.png", encoded(99)),
        ("y.cls", b"2"),
        ("y.json", b'{"label": 2}'),
        ("y.webp", encoded(30, "WEBP")),
        ("z.jpeg", encoded(40, "JPEG")),
        ("z.json", b'{"other": 9}'),
        ("z.cls", b"1"),
        (".hidden.jpg", b""),
        ("README", b"text"),
        ("notes.txt", b"text"),
    ]
    shard(tmp_path / "set-train-0000.tar", members)
    shards(tmp_path, "val", 1)
    train = read("webdataset", tmp_path).train
    assert [key.decode() for key in train.contents.keys] == ["./a.b/c", "x", "y", "z"]
    assert train.targets.tolist() == [1, 0, 2, 1]
    assert level(train, 1) == 20
    assert abs(level(train, 0) - 10) < 9
    assert train.name(2) == f"{tmp_path / 'set-train-0000.tar'}: y"


def test_a_number_in_json_under_another_name(tmp_path: Path):
    for split in ("train", "test"):
        numbers = enumerate((1, 0))
        members = [
            (f"{i}{e}", c) for i, t in numbers for e, c in ((".jpg", b"?"), (".json", b'{"t": %d}' % t))
        ]
        shard(tmp_path / f"{split}.tar", members)
    assert read("webdataset", tmp_path, label_key="t").train.targets.tolist() == [1, 0]
    # labels of another entry are not taken from the index
    assert "has an image but no label" in refusal("webdataset", tmp_path)


@pytest.mark.parametrize("layout", ["name", "folder", "pattern"])
def test_splits_are_told_by_names_folders_or_patterns(tmp_path: Path, layout: str):
    keys = {}
    if layout == "name":
        names = ("imagenet1k-train", "imagenet1k-validation", "imagenet1k-test")
    elif layout == "folder":
        names = ("train/part", "valid/part", "test/part")
    else:
        names = ("one", "two", "three")
        keys = {
            "train_shards": "{one,four}-{000..001}.tar",
            "val_shards": "two-*.tar",
            "test_shards": "three-000.tar",
        }
        shards(tmp_path, "four", 2)
        shards(tmp_path, "elsewhere", 1)
    for name, num in zip(names, (2, 1, 1), strict=True):
        shards(tmp_path, name, num, each=num + 1)
    splits = read("webdataset", tmp_path, **keys)
    assert len(splits.train) == (14 if layout == "pattern" else 6)
    assert (len(splits.val), len(splits.test)) == (2, 2)
    assert splits.class_names == ("0", "1")


def test_with_one_of_val_and_test_it_is_the_test_and_without_splits_a_fifth_is(tmp_path: Path):
    shards(tmp_path / "two", "train", 2)
    shards(tmp_path / "two", "val", 1)
    splits = read("webdataset", tmp_path / "two")
    assert (len(splits.train), len(splits.test), splits.val) == (8, 4, None)
    shards(tmp_path / "whole", "part", 2, each=10)
    splits = read("webdataset", tmp_path / "whole")
    assert np.bincount(splits.test.targets).tolist() == [2, 2]
    assert {level(splits.train, i) for i in range(16)} | {level(splits.test, i) for i in range(4)} == set(
        range(20)
    )


def test_classes_have_the_names_of_a_file(tmp_path: Path):
    shards(tmp_path, "train", 1, num_classes=3)
    shards(tmp_path, "test", 1)
    (tmp_path / "classnames.txt").write_text("ant\nbee\nwasp\n")
    assert read("webdataset", tmp_path).class_names == ("ant", "bee", "wasp")
    (tmp_path / "classes.txt").write_text("ant\nbee\n")
    message = refusal("webdataset", tmp_path, num_classes=3)
    assert "classes.txt: data.num_classes=3, but the data have 2 classes" in message
    assert f"{tmp_path / 'train-000.tar'}: 0002: label 2 (1 such in the shard); legal: 0 to 1" in message


def test_classes_of_a_trained_network_are_found_by_name(tmp_path: Path):
    shards(tmp_path, "train", 1)
    shards(tmp_path, "test", 1)
    (tmp_path / "classes.txt").write_text("bee\nant\n")
    options = {
        "name": "webdataset",
        "root": tmp_path,
        "in_chans": 3,
        "img_size": 8,
        "mean": [0] * 3,
        "std": [1] * 3,
    }

    def targets(**more: object) -> list[int]:
        data = build_datamodule("classification", **options, **more)
        data.setup()
        return data.datasets["test"].targets.tolist()

    own = targets()
    known = targets(known_classes=["ant", "wasp", "bee"], num_classes=3)
    assert known == [2 if label == 0 else 0 for label in own]
    with pytest.raises(
        DataError, match="the classes ant are not among the 2 that the network was trained on"
    ):
        targets(known_classes=["wasp", "bee"], num_classes=2)


def test_braces_expand_as_on_a_command_line():
    assert expand_braces("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand_braces("{a,b}{0..1}") == ["a0", "a1", "b0", "b1"]
    with pytest.raises(ValueError, match=r"\{x\} is neither a range"):
        expand_braces("{x}.tar")


def bad_shards(root: Path) -> None:
    """One shard for each way in which a shard can be wrong."""
    good, other = sample(0, 0), sample(1, 1)
    shard(root / "train-000.tar", [*good, *other])
    shard(root / "train-001.tar", [*good, ("1.png", encoded(1))])
    shard(
        root / "train-002.tar", [*good, ("1.png", encoded(1)), ("1.cls", b"1"), ("1.json", b'{"label": 2}')]
    )
    shard(root / "train-003.tar", [*good, *other, *good])
    shard(root / "train-004.tar", [*good, *good])
    shard(root / "train-005.tar", [*good, ("1.png", encoded(1)), ("1.jpg", encoded(1)), ("1.cls", b"1")])
    fake.truncated(
        shard(root / "train-006.tar", [("1.cls", b"1"), ("1.png", encoded(1, "BMP", size=(90, 90)))])
    )
    packed = shard(root / "train-007.tar", good)
    packed.write_bytes(gzip.compress(packed.read_bytes()))
    shard(root / "train-009.tar", [*good, ("1.png", encoded(1)), ("1.cls", b"one")])
    shard(root / "train-010.tar", [*good, ("1.tif", encoded(1)), ("1.cls", b"1")])
    shard(root / "train-011.tar", [*good, ("1.png", encoded(1)), ("1.json", b"{")])
    shard(root / "train-012.tar", [*good, *sample(1, 7)])


WRONG = {
    "train-001.tar: 1": "has an image but no label",
    "train-002.tar: 1": "has labels that differ (1 and 2)",
    "train-003.tar: 0000": "appears again after other samples",
    "train-004.tar: 0000": "has .png twice",
    "train-005.tar: 1": "has 2 images (.png, .jpg, .cls)",
    "train-006.tar": "is truncated",
    "train-007.tar": "is compressed (gzip)",
    "train-008.tar": "is missing in the sequence",
    "train-009.tar: 1": ".cls holds b'one'; legal: the number of a class",
    "train-010.tar: 1": "has a label but no image (.tif, .cls)",
    "train-011.tar: 1": ".json is not valid JSON",
    "train-012.tar: 0001": "label 7 (1 such in the shard); legal: 0 to 4",
}


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path):
    bad_shards(tmp_path)
    with pytest.raises(DataError) as caught:
        read("webdataset", tmp_path, num_classes=5)
    problems = list(caught.value.problems)
    assert "test: is missing, and so is val" in problems.pop(0)
    assert len(problems) == len(WRONG)
    for where, what in WRONG.items():
        assert sum(where in problem and what in problem for problem in problems) == 1, where
    # nothing was unpacked, and only sound shards are in the index
    assert {path.suffix for path in tmp_path.iterdir()} == {".tar", ".npz"}
    with np.load(tmp_path / INDEX_FILE) as index:
        assert index["names"].tolist() == [b"train-000.tar", b"train-012.tar"]


@pytest.mark.parametrize(
    ("cut", "words"),
    [
        (
            lambda content: content[: -(-len(content.rstrip(b"\0")) // 512) * 512],  # only the end is missing
            "the two empty blocks at its end are missing",
        ),
        (lambda content: content[: 2 * 512 + 100], "is truncated"),
        (lambda content: content[:1024] + b"x" * 512 + content[1536:], "is damaged at byte 1024: no header"),
        (lambda content: b"", "is truncated or not a tar file (empty file)"),
        (lambda content: b"no tar" * 300, "is truncated or not a tar"),
    ],
)
def test_a_damaged_tar_is_no_shorter_tar(tmp_path: Path, cut, words: str):
    path = shard(tmp_path / "train-0.tar", [("1.cls", b"1"), ("1.png", encoded(1))])
    shards(tmp_path, "val", 1)
    path.write_bytes(cut(path.read_bytes()))
    assert words in refusal("webdataset", tmp_path)


def test_links_and_paths_that_lead_out_are_never_followed(tmp_path: Path):
    path = tmp_path / "set" / "train-0.tar"
    shard(path, [("../../out.png", encoded(1)), ("../../out.cls", b"1"), *sample(0, 0)])
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("7.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    shards(path.parent, "val", 1)
    assert "train-0.tar: 7: .png is a link" in refusal("webdataset", path.parent)
    assert not list(tmp_path.rglob("*.png"))


def test_a_series_says_how_many_there_are(tmp_path: Path):
    for number in (1, 2):
        shards(tmp_path, "val", 1)
        shard(tmp_path / f"train-{number:02d}-of-04.tar", sample(number, number % 2))
    message = refusal("webdataset", tmp_path)
    assert "train-00-of-04.tar and 1 more are missing in the sequence" in message
    message = refusal("webdataset", tmp_path, train_shards="train-{00..03}-of-04.tar", test_shards="v*.tar")
    assert (
        "data.train_shards=train-{00..03}-of-04.tar: train-00-of-04.tar and 1 more are missing in" in message
    )


def test_names_that_tell_a_split_do_not_mix_with_others(tmp_path: Path):
    shards(tmp_path, "train", 1)
    shards(tmp_path, "val", 1)
    shards(tmp_path, "more", 1)
    assert "more-000.tar: the name holds no split, but others are train and val" in refusal(
        "webdataset", tmp_path
    )
    (tmp_path / "empty").mkdir()
    assert "holds no .tar file" in refusal("webdataset", tmp_path / "empty")


def test_labels_count_from_zero(tmp_path: Path):
    for split in ("train", "test"):
        shard(tmp_path / f"{split}.tar", [*sample(1, 1), *sample(2, 2)])
    message = refusal("webdataset", tmp_path)
    assert "labels reach to 2, but no image has 0 (1 such numbers)" in message
    assert read("webdataset", tmp_path, num_classes=4).class_names == ("0", "1", "2", "3")


def test_the_index_is_used_until_a_shard_changes(tmp_path: Path):
    train, *_ = shards(tmp_path, "train", 2)
    shards(tmp_path, "test", 1)
    read("webdataset", tmp_path)
    before = train.stat()
    content = train.read_bytes()
    train.write_bytes(content.replace(b"0001.cls", b"0001.txt"))  # no label, and a wrong checksum
    os.utime(train, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert len(read("webdataset", tmp_path).train) == 8
    os.utime(train, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert "train-000.tar: is damaged at byte" in refusal("webdataset", tmp_path)
    shard(train, [*sample(50, 0), *sample(51, 1)])
    assert read("webdataset", tmp_path).train.targets.tolist() == [0, 1, *[0, 1] * 2]


@pytest.mark.parametrize(
    "spoil",
    [lambda content: content[:-40], lambda content: content.replace(b"\x00", b"\x01"), lambda _: b"PK"],
)
def test_a_damaged_index_is_made_anew(tmp_path: Path, spoil):
    shards(tmp_path, "train", 2)
    shards(tmp_path, "test", 1)
    whole = read("webdataset", tmp_path).train
    index = tmp_path / INDEX_FILE
    index.write_bytes(spoil(index.read_bytes()))
    with pytest.warns(UserWarning, match="index is damaged"):
        again = read("webdataset", tmp_path).train
    assert all(map(np.array_equal, whole.contents, again.contents))
    read("webdataset", tmp_path)  # without a warning


def test_the_index_of_a_read_only_folder_lies_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "root"
    shards(root, "train", 1)
    shards(root, "test", 1)
    (root / INDEX_FILE).mkdir()  # no file can be put there, whoever we are
    read("webdataset", root)
    (kept,) = (tmp_path / "cache/kanvision/shards").iterdir()
    changed = kept.stat().st_mtime_ns
    read("webdataset", root)
    assert kept.stat().st_mtime_ns == changed
    assert [path.name for path in root.iterdir() if path.name.startswith(".")] == []


def test_many_shards_are_indexed_by_processes_and_few_are_kept_open(tmp_path: Path):
    num = MAX_OPEN_SHARDS + 6
    shards(tmp_path, "train", num, each=2)
    shards(tmp_path, "test", 1)
    train = read("webdataset", tmp_path).train
    assert [level(train, i) for i in range(2 * num)] == list(range(2 * num))
    names = (os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if os.path.islink(entry.path))
    assert sum(name.startswith(str(tmp_path)) for name in names) <= MAX_OPEN_SHARDS


def test_a_shard_that_changes_under_a_run_is_an_error_of_its_image(tmp_path: Path):
    train, *_ = shards(tmp_path, "train", 1)
    shards(tmp_path, "test", 1)
    source = read("webdataset", tmp_path).train
    copy = pickle.loads(pickle.dumps(source))
    assert level(copy, 3) == 3
    other = read("webdataset", tmp_path).train.select(np.array([2]))
    assert level(other, 0) == 2
    shard(tmp_path / "new.tar", sample(7, 1)).replace(train)
    fresh = ShardSource(source.shards, [source.stamps[0]._replace(changed=1)], *source_parts(source))
    with pytest.raises(DataError, match=r"train-000.tar: 0003: cannot be read .*has changed since"):
        fresh.image(3)


def source_parts(source: ShardSource):
    return source.which, source.contents, source.fail


def test_imagenet_in_shards_has_the_official_classes(tmp_path: Path):
    members = [*sample(0, 0), *sample(1, 847)]
    shard(tmp_path / "imagenet1k-train-0000.tar", members)
    shard(tmp_path / "imagenet1k-validation-00.tar", members)
    with pytest.warns(UserWarning, match="2 of 1000 classes"):
        splits = read("imagenet", tmp_path, num_classes=1000)
    assert splits.class_names[splits.train.targets[1]] == "tank"
    shard(tmp_path / "imagenet1k-train-0001.tar", sample(2, 1000))
    assert "0002: label 1000 (1 such in the shard); legal: 0 to 999" in refusal("imagenet", tmp_path)
    # archives as they were downloaded do not make class folders shards
    fake.imagenet(tmp_path)
    with pytest.warns(UserWarning, match="3 of 1000 classes"):
        assert len(read("imagenet", tmp_path).train) == 6


OPTIONS = {"in_chans": 3, "img_size": 8, "mean": [0.5] * 3, "std": [0.25] * 3, "batch_size": 3, "seed": 5}


def batches(root: Path, num_workers: int = 0):
    augment = {"crop": "random_resized", "hflip": 0.5}
    data = build_datamodule(
        "classification",
        name="webdataset",
        root=str(root),
        augment=augment,
        num_workers=num_workers,
        val_fraction=0.25,
        **OPTIONS,
    )
    data.prepare_data()
    data.setup()
    return data


def test_epochs_are_exact_and_go_on_at_any_step_with_any_number_of_workers(tmp_path: Path):
    shards(tmp_path, "train", 3, each=8)
    shards(tmp_path, "test", 1)
    whole = list(batches(tmp_path).train_dataloader())
    indices = torch.cat([batch["index"] for batch in whole]).tolist()
    assert len(indices) == len(set(indices)) == 18  # 24 without the quarter for validation
    data = batches(tmp_path, num_workers=2)
    loader = data.train_dataloader()
    given = iter(loader)
    assert all(torch.equal(next(given)["image"], batch["image"]) for batch in whole[:2])
    state = loader.state_dict()
    again = batches(tmp_path).train_dataloader()
    again.load_state_dict(state)
    rest = list(again)
    assert len(rest) == 4
    assert all(
        torch.equal(left["image"], right["image"]) for left, right in zip(rest, whole[2:], strict=True)
    )


def test_a_process_that_was_not_forked_gives_the_same_batches(tmp_path: Path):
    shards(tmp_path, "train", 2)
    shards(tmp_path, "test", 1)
    dataset = batches(tmp_path).datasets["train"]
    sent, batch = pickle.loads(pickle.dumps(dataset)), SeededBatch([4, 0, 2], seed=9)
    assert torch.equal(sent.__getitems__(batch)["image"], dataset.__getitems__(batch)["image"])
