"""Kills of trainings and of writers of checkpoints, and the files they leave: `python -m benchmarks.kills`.

* `alone`: `train.py` is killed (SIGKILL) in a random batch and started again with resume=auto. Its final
  state (weights, their average, state of the optimizer, all random states) must be equal, bit for bit, to
  that of a run that was not killed.
* `two`: the same with two processes (DDP over gloo); one of them is killed, and then the other.
  All trainings have mixup and an average of the weights; loader processes (0 and 2), gradient accumulation
  and float64 alternate (`--settings`).
* `writes`: a process that writes one checkpoint after the other is killed at a random moment. The newest file
  must load and be complete. Two other ways of writing that can fail are compared: that of Lightning with the
  folder for temporary files on another disk, and torch.save to the final path.

Trainings are forked, which saves their imports; the benchmark therefore needs Linux.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import os
import platform
import random
import runpy
import signal
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from kanvision.callbacks.atomic_io import AtomicCheckpointIO
from kanvision.checkpoints import load_checkpoint, newest_sound_checkpoint
from kanvision.data.loading.loaders import TrainLoader

REPOSITORY = Path(__file__).resolve().parents[1]
TRAINING = (
    "trainer.accelerator=cpu",
    "trainer.max_epochs=4",
    "data.limit=320",
    "data.limit_test=320",
    "data.batch_size=16",
    "data.val_fraction=0.1",
    "model.width_scale=0.125",
    "scheduler.warmup_epochs=1",
    "mixup.mixup_alpha=0.4",
    "ema={decay: 0.9}",
    "callbacks.step.every_n_steps=7",
    "trainer.enable_progress_bar=false",
    "test=false",
    "logger=none",
)
SETTINGS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "accumulation": ("trainer.accumulate_grad_batches=2",),
    "float64": ("trainer.precision=64-true",),
    "both": ("trainer.accumulate_grad_batches=2", "trainer.precision=64-true"),
}
"""What trainings have besides, by the names for `--settings`."""
NUM_WORKERS = (0, 2)
FORK = get_context("fork")
SLOW_TO_IMPORT = ("kanvision.config", "kanvision.sweep", "kanvision.app")
"""What each training would import for itself, most of its time."""


def in_process(work: Callable[[], None], log: Path, variables: dict[str, str]) -> Any:
    """Do something in a process of its own, whose words go to a file."""

    def run() -> None:
        os.environ |= variables
        for stream in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        work()

    process = FORK.Process(target=run)
    process.start()
    return process


def trainings(folder: Path, arguments: Sequence[str], num_processes: int, given: Any) -> list[Any]:
    """Processes that run `train.py` in a folder; `given` counts the batches that they were given."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    several = ["trainer=ddp_sim"] if num_processes > 1 else []

    def train() -> None:
        counted = TrainLoader._counted

        def counting(self: TrainLoader, iterator: Any) -> Iterator[Any]:
            for batch in counted(self, iterator):
                with given.get_lock():
                    given.value += 1
                yield batch

        TrainLoader._counted = counting  # type: ignore[method-assign]
        sys.argv = [str(REPOSITORY / "train.py"), *several, *TRAINING, *arguments, f"run.dir={folder}"]
        runpy.run_path(sys.argv[0], run_name="__main__")

    processes = []
    for rank in range(num_processes):
        variables = {"OMP_NUM_THREADS": "1"}
        if num_processes > 1:
            variables |= {
                "LOCAL_RANK": str(rank),
                "NODE_RANK": "0",
                "WORLD_SIZE": str(num_processes),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
        processes.append(in_process(train, folder.with_suffix(f".{rank}.log"), variables))
    return processes


def finish(folder: Path, arguments: Sequence[str], num_processes: int) -> int:
    """Train to the end; number of batches that were needed."""
    given = FORK.Value("i", 0)
    processes = trainings(folder, arguments, num_processes, given)
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError(folder.with_suffix(".0.log").read_text("utf-8"))
    return int(given.value)


def killed_at(batch: int, folder: Path, arguments: Sequence[str], num_processes: int) -> None:
    """Train, and kill the processes, one after the other, when that batch has been given out."""
    given = FORK.Value("i", 0)
    processes = trainings(folder, arguments, num_processes, given)
    while given.value < batch and processes[0].is_alive():
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.05))
    random.shuffle(processes)
    for process in processes:
        process.kill()
        process.join()


def read_final_state(folder: Path) -> dict[str, Any]:
    """Return the final state of a run, without paths of files and counters of loops."""
    content = load_checkpoint(folder / "checkpoints" / "last.ckpt")
    callbacks = {key: value for key, value in content["callbacks"].items() if "Checkpoint" not in key}
    kept = (
        "state_dict",
        "current_model_state",
        "averaging_state",
        "optimizer_states",
        "global_step",
        "epoch",
    )
    return {key: content[key] for key in kept} | {"callbacks": callbacks}


def is_same(left: Any, right: Any) -> bool:
    """Return True if two nested structures of tensors and primitives are equal bit for bit."""
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(is_same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(is_same, left, right))
    return bool(left == right)


def kill_trainings(folder: Path, kills: int, num_processes: int, settings: Sequence[str]) -> None:
    """Print a row for each kill, with the settings and the numbers of workers in turns."""
    name = "alone" if num_processes == 1 else "two"
    print(f"{name}: settings, workers, killed at batch, went on from, equal at the end", flush=True)
    wholes: dict[str, tuple[int, dict[str, Any]]] = {}
    combinations = list(itertools.product(NUM_WORKERS, settings))
    equal = 0
    for kill in range(kills):
        num_workers, setting = combinations[kill % len(combinations)]
        if setting not in wholes:
            whole = folder / f"{name}_{setting}_whole"
            wholes[setting] = finish(whole, SETTINGS[setting], num_processes), read_final_state(whole)
        total, expected = wholes[setting]
        batch = random.randint(1, total)
        run = folder / f"{name}_{kill}"
        # what is loaded ahead in workers is lost with them
        arguments = (*SETTINGS[setting], "resume=auto", f"data.num_workers={num_workers}")
        killed_at(batch, run, arguments, num_processes)
        there = newest_sound_checkpoint(run) if run.is_dir() else None
        start = "the beginning" if there is None else f"step {load_checkpoint(there)['global_step']}"
        finish(run, arguments, num_processes)
        same = is_same(expected, read_final_state(run))
        equal += same
        origin = f"{start:14s}{'' if there is None else there.name:10s}"
        print(f"  {setting:12s}  {num_workers}  {batch:4d} of {total}  {origin}  {same}", flush=True)
    print(f"{name}: {equal} of {kills} equal", flush=True)


def plain_save(checkpoint: Any, path: Path) -> None:
    """The way that fails."""
    torch.save(checkpoint, path)


def kill_writers(folder: Path, kills: int, megabytes: int, other_disk: str | None) -> None:
    """Print a row for each way of writing."""
    ways: dict[str, tuple[Callable[..., None], dict[str, str]]] = {
        "written whole": (AtomicCheckpointIO().save_checkpoint, {}),
        "in its place": (plain_save, {}),
    }
    if other_disk:
        ways["Lightning's"] = (
            super(AtomicCheckpointIO, AtomicCheckpointIO()).save_checkpoint,
            {"TMPDIR": other_disk},
        )
    for name, (save, variables) in ways.items():
        sound = during = 0
        for kill in range(kills):
            target = folder / f"writes_{name.split()[0]}_{kill}"
            target.mkdir(parents=True)
            path = target / "last.ckpt"
            writing = FORK.Value("i", 0)

            def write() -> None:
                tempfile.tempdir = None
                number = 0
                while True:
                    parts = [torch.full((megabytes * 2**18 // 8,), float(number)) for _ in range(8)]
                    writing.value = 1  # noqa: B023
                    save({"number": number, "parts": parts}, path)  # noqa: B023
                    writing.value = 0  # noqa: B023
                    number += 1

            process = in_process(write, target / "log", variables)
            while not path.exists():
                time.sleep(0.001)
            time.sleep(random.uniform(0.0, 0.5))
            while not writing.value:  # into the middle of a write
                pass
            time.sleep(random.uniform(0.0, 0.02))
            process.kill()
            process.join()
            during += writing.value
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = newest_sound_checkpoint(target)
            if found is not None:
                content = load_checkpoint(found)
                sound += all(bool((part == content["number"]).all()) for part in content["parts"])
            for file in target.iterdir():
                file.unlink()
        print(f"writes, {name}: {kills} kills, {during} within a write, {sound} sound files", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where runs are written; a temporary one by default")
    parser.add_argument("--alone", type=int, default=20, help="kills of a training in one process")
    parser.add_argument("--two", type=int, default=10, help="kills of a training in two processes")
    parser.add_argument("--writes", type=int, default=50, help="kills of a writer of checkpoints")
    parser.add_argument("--megabytes", type=int, default=32, help="size of the checkpoints that are written")
    parser.add_argument("--other-disk", help="folder on another disk, for Lightning's way of writing")
    parser.add_argument(
        "--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="what trainings have besides"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    torch.set_num_threads(1)
    random.seed(given.seed)
    for name in SLOW_TO_IMPORT:
        importlib.import_module(name)
    print(f"torch {torch.__version__}, {platform.machine()}, {os.cpu_count()} cores", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if given.writes:
            kill_writers(folder, given.writes, given.megabytes, given.other_disk)
        for num_processes, kills in ((1, given.alone), (2, given.two)):
            if kills:
                kill_trainings(folder, kills, num_processes, given.settings)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    main()
