"""What the benchmark of loaders compares is the same work."""

from pathlib import Path

import torch
from benchmarks.loader import main, photograph_cases, photographs

from kanvision.data.readers import READERS
from kanvision.data.write_shards import write_shards


def test_prints_a_row_for_each_case_and_number_of_workers(capsys):
    main(["--images", "8", "--batch-size", "4", "--side", "16", "--repeats", "1", "--workers", "0"])
    rows = [
        line.split() for line in capsys.readouterr().out.splitlines() if line.endswith(tuple("0123456789"))
    ]
    assert len(rows) == 7
    assert all(float(number) > 0 for row in rows for number in row[-5:])


def test_both_loaders_give_the_same_images(tmp_path: Path):
    photographs(tmp_path / "files", 6, None)
    splits = READERS["image_folder"](tmp_path / "files").read()
    write_shards(splits, tmp_path / "shards")
    shards = READERS["webdataset"](tmp_path / "shards").read()
    files = next(
        case for case in photograph_cases(tmp_path / "files", splits, shards, 3) if "evaluation" in case.name
    )
    for ours, (images, targets) in zip(files.ours(0), files.theirs(0), strict=True):
        torch.testing.assert_close(ours["image"], images, atol=1e-5, rtol=0)
        assert torch.equal(ours["target"], targets)
