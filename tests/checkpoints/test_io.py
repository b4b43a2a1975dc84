"""Finding and loading checkpoints, sound, broken and hostile ones."""

import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kanvision.checkpoints import (
    CheckpointError,
    extract_state_dict,
    find_checkpoint,
    load_checkpoint,
    load_state_dict,
    newest_sound_checkpoint,
)


def network(width: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 2))


def checkpoint_of(model: nn.Module, **more: Any) -> dict[str, Any]:
    return {"state_dict": {f"model.{k}": v for k, v in model.state_dict().items()}, "epoch": 3, **more}


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


class PayloadOfBuiltin(Payload):
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"__import__('os').mkdir({str(self.target)!r})",)


@pytest.mark.parametrize(
    ("writer", "kind", "message"),
    [
        ("zip", Payload, r"refused.*mkdir.*nothing of it was run"),
        ("zip", PayloadOfBuiltin, r"refused.*eval.*nothing of it was run"),
        ("legacy", Payload, r"refused.*mkdir.*nothing of it was run"),
        ("pickle 2", Payload, r"refused.*mkdir.*nothing of it was run"),
        ("pickle 4", Payload, r"not a checkpoint of torch.*nothing of it was run"),
    ],
)
@pytest.mark.filterwarnings("error:Detected pickle protocol")
def test_a_payload_is_refused_and_not_run(
    tmp_path: Path, writer: str, kind: type[Payload], message: str
) -> None:
    path, trap = tmp_path / "evil.ckpt", tmp_path / "trap"
    payload = kind(trap)
    if writer.startswith("pickle"):
        path.write_bytes(pickle.dumps(payload, protocol=int(writer[-1])))
    else:
        content = checkpoint_of(network(), hidden=payload)
        torch.save(content, path, _use_new_zipfile_serialization=writer == "zip")
    with pytest.raises(CheckpointError, match=r"evil\.ckpt: " + message) as error:
        load_checkpoint(path)
    assert not trap.exists()
    # torch's own message, which recommends the unsafe way, is not shown
    assert "weights_only" not in str(error.value)
    assert error.value.__suppress_context__
    if writer.startswith("pickle"):
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert trap.exists(), "the trap is a real one"


def test_a_sound_checkpoint_loads(tmp_path: Path) -> None:
    content = checkpoint_of(network(), kanvision={"config": {"a": [1, 2.0, None, "b", True]}})
    torch.save(content, tmp_path / "a.ckpt")
    loaded = load_checkpoint(tmp_path / "a.ckpt")
    assert loaded["kanvision"] == content["kanvision"]
    assert torch.equal(loaded["state_dict"]["model.0.weight"], content["state_dict"]["model.0.weight"])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_cut_off_file_is_said(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.ckpt"
    torch.save(checkpoint_of(network()), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=r"a\.ckpt: .*(empty|cut off|damaged)"):
        load_checkpoint(path)


def is_identical(left: Any, right: Any) -> bool:
    """Whether two contents are the same down to the bits, types and order of keys included."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(is_identical(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(is_identical, left, right))
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    return left == right


def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    """Padding and dates of the archive may change; what is loaded may not."""
    path = tmp_path / "a.ckpt"
    torch.save(checkpoint_of(network(32), kanvision={"config": {"a": [1, 2.0, None, "b"]}}), path)
    content, sound = path.read_bytes(), load_checkpoint(path)
    refused = 0
    for bit in random.Random(0).sample(range(8 * len(content)), 60):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            loaded = load_checkpoint(path)
        except CheckpointError as error:
            refused += str(error).startswith(f"{path}: ")
        else:
            assert is_identical(loaded, sound), bit
    assert refused > 30


def test_a_flipped_bit_of_a_weight_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    weight = torch.full((64,), 1.5)
    torch.save({"state_dict": {"weight": weight}}, path)
    content = bytearray(path.read_bytes())
    content[content.index(weight.numpy().tobytes()) + 2] ^= 1
    path.write_bytes(content)
    assert not torch.equal(torch.load(path, weights_only=True)["state_dict"]["weight"], weight)
    with pytest.raises(CheckpointError, match=r"damaged, 'a/data/0' in it .* \(CRC-32\); take another"):
        load_checkpoint(path)


def test_other_files_are_said(tmp_path: Path) -> None:
    (tmp_path / "text.ckpt").write_text("hello, this is no checkpoint\n" * 9)
    torch.save(torch.ones(3), tmp_path / "tensor.ckpt")
    for name, message in (
        ("text.ckpt", "not a checkpoint|no checkpoint"),
        ("tensor.ckpt", "holds a Tensor"),
        ("none.ckpt", "no such file"),
        (".", "a folder"),
    ):
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(tmp_path / name)


def test_weights_go_back_where_they_came_from() -> None:
    source, target = network(), network()
    for checkpoint in (checkpoint_of(source), source.state_dict()):
        load_state_dict(target, checkpoint)
        assert all(
            torch.equal(a, b)
            for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True)
        )
        nn.init.zeros_(target[0].weight)


def test_a_network_with_a_part_called_model() -> None:
    wrapped = nn.ModuleDict({"model": network()})
    for checkpoint in (checkpoint_of(wrapped), wrapped.state_dict()):
        assert set(extract_state_dict(wrapped, checkpoint)) == set(wrapped.state_dict())


def test_differences_are_listed_with_the_origin() -> None:
    checkpoint = checkpoint_of(network(5), kanvision={"config": {"model": {"name": "convkan_4", "size": 4}}})
    checkpoint["state_dict"]["model.extra"] = torch.ones(1)
    del checkpoint["state_dict"]["model.2.bias"]
    with pytest.raises(CheckpointError) as error:
        extract_state_dict(network(), checkpoint)
    lines = str(error.value).splitlines()
    assert lines[1:4] == [
        "  1 missing: 2.bias",
        "  1 unexpected: extra",
        "  7 of another shape: 0.weight (5, 3), not (4, 3), 0.bias (5,), not (4,), 1.weight (5,), not (4,), "
        "1.bias (5,), not (4,), 1.running_mean (5,), not (4,), and 2 more",
    ]
    assert lines[4] == "  made with model.name=convkan_4 model.size=4"
    with pytest.raises(CheckpointError, match="missing"):
        extract_state_dict(network(), {"epoch": 1})


def touch(path: Path, age: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint_of(network()), path)
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_finding_by_file_run_and_latest(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    best = touch(runs / "a" / "1" / "checkpoints" / "best.ckpt", 20)
    last = touch(runs / "a" / "1" / "checkpoints" / "last.ckpt", 10)
    other = touch(runs / "b" / "2" / "checkpoints" / "last.ckpt", 5)
    assert find_checkpoint(last) == last
    assert find_checkpoint(runs / "a" / "1") == best
    assert find_checkpoint(runs / "a" / "1" / "checkpoints") == best
    assert find_checkpoint(runs / "b" / "2") == other
    assert find_checkpoint("latest", runs_root=runs) == other
    os.utime(best, (2e9, 2e9))
    assert find_checkpoint("latest", runs_root=runs) == best
    (runs / "latest").symlink_to(runs / "b" / "2")
    assert find_checkpoint(runs / "latest").resolve() == other


def test_finding_nothing_says_where(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"ckpt=latest: no checkpoint below .*runs"):
        find_checkpoint("latest", runs_root=tmp_path / "runs")
    with pytest.raises(CheckpointError, match="no such file or folder"):
        find_checkpoint(tmp_path / "none")
    stray = touch(tmp_path / "run" / "deep" / "er" / "odd.ckpt", 0)
    with pytest.raises(CheckpointError, match=r"neither best\.ckpt nor last\.ckpt nor step\.ckpt.*odd\.ckpt"):
        find_checkpoint(tmp_path / "run")
    assert stray.exists()


def test_a_broken_last_checkpoint_falls_back_to_an_older_one(tmp_path: Path) -> None:
    best = touch(tmp_path / "checkpoints" / "best.ckpt", 20)
    last = touch(tmp_path / "checkpoints" / "last.ckpt", 20)
    assert newest_sound_checkpoint(tmp_path) == last
    last.write_bytes(last.read_bytes()[:500])
    with pytest.warns(UserWarning, match=r"Skipping an unreadable checkpoint: .*last\.ckpt"):
        assert newest_sound_checkpoint(tmp_path) == best
    last.write_text("no checkpoint")  # torch answers with a text about mmap
    with pytest.warns(UserWarning, match=r"last\.ckpt: not a checkpoint of torch, or a damaged one"):
        assert newest_sound_checkpoint(tmp_path) == best
    best.write_bytes(b"")
    with pytest.warns(UserWarning, match="Skipping"):
        assert newest_sound_checkpoint(tmp_path) is None
    assert newest_sound_checkpoint(tmp_path / "nowhere") is None


def at(path: Path, epochs: int, batches: int, age: float) -> Path:
    """A checkpoint of training that has come so far, with a file that is so old."""
    path.parent.mkdir(parents=True, exist_ok=True)
    loop = {"epoch_progress": {"current": {"processed": epochs}}}
    loop["epoch_loop.batch_progress"] = {"total": {"processed": batches}}
    torch.save(checkpoint_of(network(), loops={"fit_loop": loop}, global_step=batches), path)
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_the_newest_checkpoint_is_the_one_with_most_training_behind_it(tmp_path: Path) -> None:
    """Copying a folder changes the files' times."""
    folder = tmp_path / "checkpoints"
    at(folder / "best.ckpt", 1, 20, age=0)
    last = at(folder / "last.ckpt", 3, 60, age=100)
    assert newest_sound_checkpoint(tmp_path) == last
    same = at(folder / "best.ckpt", 3, 60, age=0)
    assert newest_sound_checkpoint(tmp_path) == last != same
    step = at(folder / "step.ckpt", 3, 61, age=200)
    assert newest_sound_checkpoint(tmp_path) == newest_sound_checkpoint(folder) == step
    touch(folder / "weights.ckpt", age=0)  # without progress, nothing can go on from it
    at(tmp_path / "deeper" / "other_run" / "last.ckpt", 9, 180, age=0)
    assert newest_sound_checkpoint(tmp_path) == step
    step.write_bytes(step.read_bytes()[:500])
    with pytest.warns(UserWarning, match=r"Skipping an unreadable checkpoint: .*step\.ckpt"):
        assert newest_sound_checkpoint(tmp_path) == last
