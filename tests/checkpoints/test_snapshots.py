"""Checkpoints of a run by the epochs behind them."""

import pytest
import torch

from kanvision.checkpoints import CheckpointError, find_snapshots


def write(path, **content):
    torch.save({"state_dict": {}, **content}, path)
    return path


def test_snapshots_go_by_name_best_and_last_by_content(tmp_path):
    for epoch in (10, 0, 2):
        write(tmp_path / f"epoch_{epoch:03d}.ckpt", epoch=0)
    write(tmp_path / "best.ckpt", epoch=4)
    write(tmp_path / "last.ckpt", epoch=9)
    write(tmp_path / "step.ckpt", epoch=7)
    found = find_snapshots(tmp_path)
    assert {epoch: path.name for epoch, path in found.items()} == {
        0: "epoch_000.ckpt",
        2: "epoch_002.ckpt",
        5: "best.ckpt",
        10: "epoch_010.ckpt",
    }
    assert list(found) == sorted(found)


def test_one_file_is_its_own_snapshot(tmp_path):
    path = write(tmp_path / "mine.ckpt", epoch=3)
    assert find_snapshots(path) == {4: path}
    named = write(tmp_path / "epoch_006.ckpt")
    assert find_snapshots(named) == {6: named}
    assert find_snapshots(tmp_path / "nowhere") == {}


def test_a_file_that_no_run_wrote_is_refused(tmp_path):
    path = write(tmp_path / "bare.ckpt")
    with pytest.raises(CheckpointError, match=r"bare\.ckpt: does not say after how many epochs"):
        find_snapshots(path)
