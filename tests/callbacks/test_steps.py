"""A run that goes on within an epoch equals the uninterrupted one, bit for bit."""

import random
import time
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.callbacks import EarlyStopping

from kanvision.callbacks import BasisSelection, CSVLog, GridUpdate
from kanvision.checkpoints import load_checkpoint, newest_sound_checkpoint
from tests.programs import Program, run_program

from .selection_distributed_run import Plain
from .stepwise import NUM_STEPS, At, CrashError, crash, environment, train
from .test_resume import assert_same, best_score, without_paths
from .tiny_kan import TinyKAN

SCRIPT = Path(__file__).with_name("stepwise_run.py")
BY_EPOCH = {"name": "step", "decay_epochs": 1, "warmup_epochs": 0, "interval": "epoch"}


def same_end(left: Path, right: Path) -> None:
    whole, parts = (load_checkpoint(folder / "last.ckpt") for folder in (left, right))
    assert_same(without_paths(whole), without_paths(parts))
    assert best_score(whole) == best_score(parts)


@pytest.mark.parametrize(
    ("step", "options"),
    [
        (3, {}),
        (13, {"num_workers": 2}),
        (13, {"ema": False, "task": {"scheduler": BY_EPOCH}}),
        (14, {"accumulate_grad_batches": 2}),
        (13, {"max_steps": 20}),
        (13, {"check_val_every_n_epoch": 2, "limit_train_batches": 6}),
        (11, {"val_check_interval": 3}),
    ],
)
def test_resumed_equals_uninterrupted(tmp_path: Path, step: int, options: dict[str, Any]) -> None:
    whole = train(tmp_path / "whole", **dict(options))
    parts = tmp_path / "parts"
    with pytest.raises(CrashError):
        train(parts, At(step + 1, crash), every_n_steps=1, **dict(options))
    # another seed: all that matters must come from the checkpoint
    second = train(parts, resume=parts / "step.ckpt", seed=99, **dict(options))
    assert min(second.steps) == step
    assert second.steps == {i: seen for i, seen in whole.steps.items() if i >= step}
    assert second.epochs == {i: seen for i, seen in whole.epochs.items() if i in second.epochs}
    same_end(tmp_path / "whole", parts)
    assert not (parts / "step.ckpt").exists()


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"max_steps": 22}])
def test_the_end_of_an_epoch(tmp_path: Path, options: dict[str, Any]) -> None:
    """Workers load ahead, and must know by then that the epoch is another one."""
    whole = train(tmp_path / "whole", **options)
    parts = tmp_path / "parts"
    with pytest.raises(CrashError):
        train(parts, At(18, crash), **options)
    second = train(parts, resume=parts / "last.ckpt", **options)
    assert second.steps == {i: seen for i, seen in whole.steps.items() if i >= 16}
    same_end(tmp_path / "whole", parts)


def test_early_stopping_has_the_patience_that_it_is_given(tmp_path: Path) -> None:
    """Lightning takes that of the checkpoint, and what was waited so far, which is right."""
    with pytest.raises(CrashError):
        train(tmp_path, EarlyStopping("val/acc1", mode="min", min_delta=9, patience=5), At(18, crash))
    stopper = EarlyStopping("val/acc1", mode="min", min_delta=9, patience=3)
    train(tmp_path, stopper, resume=tmp_path / "last.ckpt", max_epochs=9)
    assert (stopper.patience, stopper.wait_count, stopper.stopped_epoch) == (3, 3, 3)


def test_twice_in_one_epoch(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    parts, resume = tmp_path / "parts", None
    for step in (11, 14):
        with pytest.raises(CrashError):
            train(parts, At(step + 1, crash), every_n_steps=1, resume=resume)
        resume = parts / "step.ckpt"
    second = train(parts, resume=resume)
    assert second.epochs[1] == whole.epochs[1]
    same_end(tmp_path / "whole", parts)


def test_grids_are_moved_after_the_images_from_before_the_crash(tmp_path: Path) -> None:
    def care() -> GridUpdate:
        return GridUpdate(move_every_n_epochs=1, refine_at={2: 8}, num_batches=3)

    train(tmp_path / "whole", care(), model=TinyKAN)
    with pytest.raises(CrashError):
        train(tmp_path / "parts", care(), At(8, crash), every_n_steps=1, model=TinyKAN)
    train(tmp_path / "parts", care(), resume=tmp_path / "parts" / "step.ckpt", model=TinyKAN)
    same_end(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("step", [5, 13, 21])
def test_every_phase_of_a_selection_goes_on(tmp_path: Path, step: int) -> None:
    def choose() -> BasisSelection:
        return BasisSelection(1, 1, entropy_weight=0.1)

    whole = train(tmp_path / "whole", choose(), model=Plain)
    with pytest.raises(CrashError):
        train(tmp_path / "parts", choose(), At(step + 1, crash), every_n_steps=1, model=Plain)
    resume = tmp_path / "parts" / "step.ckpt"
    second = train(tmp_path / "parts", choose(), resume=resume, model=Plain)
    assert second.steps == {i: seen for i, seen in whole.steps.items() if i >= step}
    same_end(tmp_path / "whole", tmp_path / "parts")


def test_the_csv_log_is_that_of_one_run(tmp_path: Path) -> None:
    def log(name: str) -> CSVLog:
        return CSVLog(tmp_path / name, name="", version="csv")

    train(tmp_path / "whole", logger=log("whole"))
    with pytest.raises(CrashError):  # five steps after the checkpoint, and logged
        train(tmp_path / "parts", At(15, crash), every_n_steps=10, logger=log("parts"))
    train(tmp_path / "parts", resume=tmp_path / "parts" / "step.ckpt", logger=log("parts"))
    whole, parts = (tmp_path / name / "csv" / "metrics.csv" for name in ("whole", "parts"))
    assert len(whole.read_text().splitlines()) > NUM_STEPS
    assert whole.read_text() == parts.read_text()


def test_another_length_of_the_epoch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CrashError):
        train(tmp_path, At(5, crash), every_n_steps=1)
    with pytest.raises(ValueError, match=r"epoch of 8 batches a process, which now has 4.*last\.ckpt"):
        train(tmp_path, resume=tmp_path / "step.ckpt", batch_size=10)


def test_a_killed_process_goes_on_and_a_damaged_file_is_passed_over(tmp_path: Path) -> None:
    """SIGKILL at any moment; then the newest checkpoint is cut short as a full disk would do it."""
    train(tmp_path / "whole", max_epochs=6)
    parts = tmp_path / "parts"
    program = Program([str(SCRIPT), str(parts), "6"], tmp_path, environment(), tmp_path)
    deadline = time.monotonic() + 120
    while not (parts / "last.ckpt").exists():
        assert program.process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.5))
    program.kill()
    newest = newest_sound_checkpoint(parts)
    assert newest is not None
    damaged = parts / "damaged.ckpt"
    damaged.write_bytes(newest.read_bytes()[:-1000])
    with pytest.warns(UserWarning, match=r"unreadable checkpoint: .*damaged\.ckpt.*cut off"):
        found = newest_sound_checkpoint(parts)
    assert found == newest
    damaged.unlink()
    train(parts, resume=found, max_epochs=6)
    same_end(tmp_path / "whole", parts)


@pytest.mark.long
def test_two_processes_go_on(tmp_path: Path) -> None:
    """Batch norm's statistics differ between processes within an epoch, and so do those of the average."""

    def run(folder: Path, *arguments: str) -> int:
        words = [str(SCRIPT), str(folder), "3", "--devices=2", *arguments]
        done = run_program(words, tmp_path, environment())
        assert done.returncode in (0, 143), done.stderr
        return done.returncode

    assert run(tmp_path / "whole") == 0
    parts = tmp_path / "parts"
    # a signal to the second process alone
    assert run(parts, "--signal-at=5", "--signal-rank=1") == 143
    states = load_checkpoint(parts / "step.ckpt")["callbacks"]["EpochState"]["ranks"]
    assert load_checkpoint(parts / "step.ckpt")["global_step"] == 6
    assert {owner for owner, _ in states[1]["buffers"]} == {"task", "average"}
    assert run(parts, f"--resume={parts / 'step.ckpt'}") == 0
    same_end(tmp_path / "whole", parts)
