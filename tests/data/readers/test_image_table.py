"""Images whose classes are in labels.csv."""

from pathlib import Path

import pytest

from tests.data import fake
from tests.data.reading import read, refusal


def write_table(root: Path, *rows: str, head: str = "file,label,split") -> Path:
    root.mkdir(exist_ok=True)
    (root / "labels.csv").write_text("\n".join([head, *rows]) + "\n", "utf-8")
    return root


def test_rows_are_images_with_their_classes_and_splits(tmp_path: Path) -> None:
    """Catches labels in the order of the rows, and images of another split."""
    rows = []
    for number in range(12):
        fake.picture(tmp_path / "photos" / f"{number}.png")
        part = "test" if number >= 8 else "train"
        rows.append(f"photos/{number}.png,{('zebra', 'ant')[number % 2]},{part}")
    splits = read("image_table", write_table(tmp_path, *rows))
    assert splits.class_names == ("ant", "zebra")
    assert splits.train.targets.tolist() == [1, 0] * 4
    assert [splits.test.path(index).name for index in range(4)] == ["8.png", "9.png", "10.png", "11.png"]
    assert splits.val is None
    bare = [row.rpartition(",")[0] for row in rows]
    splits = read("image_table", write_table(tmp_path, *bare, head="file,label"))
    assert (len(splits.train), len(splits.test)) == (10, 2)


def test_all_problems_of_rows_are_named(tmp_path: Path) -> None:
    root = tmp_path / "data"
    fake.picture(root / "a.png")
    fake.picture(tmp_path / "outside.png")
    rows = [
        "a.png,ant,train",
        "a.png,bee,test",
        "b.png,ant,train",
        "../outside.png,ant,train",
        "a.png,,trial",
    ]
    message = refusal("image_table", write_table(root, *rows))
    for words in (
        "more than once",
        "b.png is missing",
        "not below the root",
        "must not be empty",
        "split=trial",
    ):
        assert words in message
    assert "line 4" in message
    assert "no column label" in refusal("image_table", write_table(root, "a.png", head="file"))
    assert "has no rows" in refusal("image_table", write_table(root))
    assert "test: is missing" in refusal("image_table", write_table(root, "a.png,ant,train"))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00file", b"file;label\na;b\n"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "labels.csv").write_bytes(content)
    assert "labels.csv" in refusal("image_table", tmp_path)
