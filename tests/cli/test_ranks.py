"""Several processes, started by torchrun on two machines, by Lightning on one, or alone: one training."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections import Counter
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from kanvision.app.evaluate import evaluate
from kanvision.checkpoints import load_checkpoint, newest_sound_checkpoint
from kanvision.config import EvalConfig

from . import ranks_run

pytestmark = pytest.mark.long

NUM_IMAGES = 91  # of each split; no number of processes divides it
TINY = (
    *(
        "model=kat",
        "model.size=micro",
        "model.depth=2",
        "data=digits",
        f"data.limit={NUM_IMAGES}",
        f"data.limit_test={NUM_IMAGES}",
    ),
    *("trainer.enable_progress_bar=false", "trainer.channels_last=false", "logger=none"),
    *("scheduler.warmup_epochs=0", "trainer.global_batch_size=32", "~callbacks.prediction_images"),
)
LIVELY = (*TINY, "model.drop_path_rate=0.3", "mixup.mixup_alpha=0.8", "augment.num_repeats=2")
EPOCHS, STEPS = 2, 2
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
FORK = get_context("fork")


class Ran(NamedTuple):
    """A run, and what each of its processes saw."""

    folder: Path
    ranks: list[dict[str, Any]]


class Sweep(NamedTuple):
    """The two jobs of a sweep on two machines: one that ended, and one that was stopped."""

    ended: Ran
    stopped: Ran
    said: str
    status: list[int]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def clean(**more: str) -> dict[str, str]:
    """The environment without traces of another run."""
    ours = ("KANVISION", "TORCHELASTIC", "SLURM", "RANK", "LOCAL_", "WORLD_SIZE", "MASTER_", "GROUP_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    return {**kept, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **more}


def torchrun(folder: Path, *words: str) -> list[subprocess.Popen[str]]:
    """Two commands, as on two machines, for two processes each; they meet on this one."""
    meeting = f"--rdzv-backend=c10d --rdzv-endpoint=127.0.0.1:{free_port()} --rdzv-id=night".split()
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nnodes=2",
        "--nproc-per-node=2",
        "--local-addr=127.0.0.1",  # the name of the machine may mean nothing to it, as in a container
        *meeting,
    ]
    script = [ranks_run.__file__, str(folder / "reports"), *words]
    return [
        subprocess.Popen(
            [*command, *script],
            cwd=folder,
            env=clean(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]


def forked(folder: Path, count: int, *words: str) -> Ran:
    """The same on one machine: processes as Lightning starts them, without their imports."""
    port, run = free_port(), folder / "run"

    def train(rank: int) -> None:
        lightning = {"NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        several = {"LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), **lightning}
        environment = clean(**(several if count > 1 else {}))
        os.environ.clear()
        os.environ |= environment
        log = os.open(folder / f"log{rank}", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        warnings.simplefilter("ignore")
        ranks_run.main(folder / "reports", [f"run.dir={run}", *words])

    processes = [FORK.Process(target=train, args=(rank,)) for rank in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * count, (folder / "log0").read_text("utf-8")
    return Ran(run, reports(folder, "run", count))


def reports(folder: Path, run: str, count: int) -> list[dict[str, Any]]:
    """What the processes of a run have written, by rank."""
    paths = [folder / "reports" / f"{run}_rank{rank}.json" for rank in range(count)]
    return [json.loads(path.read_text("utf-8")) for path in paths]


def weights(run: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]
    return found


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Two jobs, each by two processes on each of two machines; in the second one a machine gets SIGTERM."""
    folder = tmp_path_factory.mktemp("two_machines")
    words = ("-m", f"trainer.max_epochs={EPOCHS},500", "trainer=torchrun", "data.num_workers=1")
    processes = torchrun(folder, *LIVELY, *words)
    at_work = [folder / "reports" / f"1_rank{rank}_at_work" for rank in range(4)]
    while not all(path.exists() for path in at_work) and all(p.poll() is None for p in processes):
        time.sleep(0.05)
    processes[0].send_signal(signal.SIGTERM)
    said = "".join(process.communicate(timeout=100)[0] for process in processes)
    assert (folder / "reports" / "1_rank0.json").exists(), said
    runs = folder / "runs" / "sweeps" / "torchrun_night"
    jobs = [Ran(runs / job, reports(folder, job, 4)) for job in "01"]
    return Sweep(*jobs, said, [process.returncode for process in processes])


def test_all_ranks_work_in_the_folder_of_their_job(sweep: Sweep) -> None:
    root = sweep.ended.folder.parents[2]
    assert sorted(path.name for path in root.iterdir()) == ["latest", "sweeps"]
    assert [path.name for path in (root / "sweeps").iterdir()] == ["torchrun_night"]
    assert sorted(path.name for path in sweep.ended.folder.parent.iterdir() if path.is_dir()) == ["0", "1"]
    for run, ranks in (sweep.ended, sweep.stopped):
        assert {rank["folder"] for rank in ranks} == {str(run)}
    assert json.loads((sweep.ended.folder / "metrics.json").read_text("utf-8"))["epochs"] == EPOCHS
    # said of each job, and by one process only
    assert sweep.said.count("effective batch 32 = 8 images x 4 processes") == 2


def test_ranks_begin_with_the_same_weights_and_draw_their_own_numbers(sweep: Sweep) -> None:
    ranks = sweep.ended.ranks
    assert len({rank["initial"] for rank in ranks}) == 1
    for step in range(EPOCHS * STEPS):
        for generator in range(3):
            assert len({rank["draws"][step][generator] for rank in ranks}) == 4
    mixed = [weight for rank in ranks for weight in rank["mixed"]]
    assert len(set(mixed)) == len(mixed) == 4 * EPOCHS * STEPS
    assert len({json.dumps(rank["dropped"]) for rank in ranks}) == 4


def test_each_global_batch_has_both_copies_of_its_images(sweep: Sweep) -> None:
    """Repeated augmentation; an epoch keeps its length."""
    ranks = sweep.ended.ranks
    assert [len(rank["images"]) for rank in ranks] == [EPOCHS * STEPS] * 4
    for batches in zip(*(rank["images"] for rank in ranks), strict=True):
        copies = Counter(image for batch in batches for image in batch)
        assert set(copies.values()) == {2}
        assert len(copies) == 16
        assert all(len(set(batch)) == 8 for batch in batches)  # the copies are on two processes


def test_every_test_image_is_counted_once(sweep: Sweep) -> None:
    run, ranks = sweep.ended
    assert sorted(len(rank["tested"]) for rank in ranks) == [22, 23, 23, 23]
    assert len({image for rank in ranks for image in rank["tested"]}) == NUM_IMAGES
    trainer = {"accelerator": "cpu", "enable_progress_bar": False}
    alone = evaluate(EvalConfig.model_validate({"ckpt": str(run), "trainer": trainer}))
    together = json.loads((run / "metrics.json").read_text("utf-8"))
    assert len(alone) >= 4
    assert {name: together[name] for name in alone} == pytest.approx(alone, abs=1e-6)


def test_two_machines_end_with_the_weights_of_one(sweep: Sweep, tmp_path: Path) -> None:
    """Bit for bit; there workers load the images, here the processes themselves."""
    words = ("trainer=ddp_sim", "trainer.devices=4", f"trainer.max_epochs={EPOCHS}", "test=false")
    run, ranks = forked(tmp_path, 4, *LIVELY, *words)
    for key in ("images", "draws", "mixed", "dropped"):
        assert [rank[key] for rank in ranks] == [rank[key] for rank in sweep.ended.ranks]
    there, here = weights(sweep.ended.folder), weights(run)
    assert there.keys() == here.keys()
    assert [name for name in here if not torch.equal(there[name], here[name])] == []


def test_sigterm_to_one_machine_stops_both(sweep: Sweep) -> None:
    newest = newest_sound_checkpoint(sweep.stopped.folder)
    assert newest is not None
    step = load_checkpoint(newest)["global_step"]
    assert f"SIGTERM: stopped after step {step}" in sweep.said, sweep.said
    assert {len(rank["images"]) for rank in sweep.stopped.ranks} == {step}
    # torchrun has a status of its own; that of the other machine names those of its processes
    assert sweep.status == [1, 1]
    assert "exitcode  : 143" in sweep.said


PLAIN = (*TINY, "optimizer.name=sgd", "optimizer.lr=0.1", "scheduler.name=constant", "test=false")


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """One command on one process, on two, and on two that share the weights; two epochs each."""
    runs = {}
    for name, count, strategy in (("alone", 1, "ddp"), ("shared", 2, "ddp"), ("sharded", 2, "fsdp")):
        devices = ("trainer=ddp_sim", f"trainer.devices={count}", f"trainer.strategy={strategy}")
        runs[name] = forked(tmp_path_factory.mktemp(name), count, *PLAIN, *devices, "trainer.max_epochs=2")
    return runs


@pytest.mark.parametrize("way", ["shared", "sharded"])
def test_two_processes_step_as_one_does_with_the_same_global_batch(alike: dict[str, Ran], way: str) -> None:
    """The gradient of two processes is that of one: one command, whatever the number of devices."""
    batches = {
        name: [sorted(chain(*step)) for step in zip(*(rank["images"] for rank in run.ranks), strict=True)]
        for name, run in alike.items()
    }
    assert batches[way] == batches["alone"]
    assert [len(step) for step in batches[way]] == [32] * 2 * STEPS
    one, two = (weights(alike[name].folder) for name in ("alone", way))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], **CLOSE)


def test_shards_are_parts_and_their_checkpoints_whole(alike: dict[str, Ran], tmp_path: Path) -> None:
    held = {name: [rank["held"] for rank in run.ranks] for name, run in alike.items()}
    assert held["shared"] == held["alone"] * 2
    assert sum(held["sharded"]) == pytest.approx(held["alone"][0], rel=0.02)  # shards are padded
    assert max(held["sharded"]) < 0.52 * held["alone"][0]
    first, words = tmp_path / "first", (*PLAIN, "trainer=ddp_sim")
    shares = (*words, "trainer.strategy=fsdp")
    first.mkdir()
    half = forked(first, 2, *shares, "trainer.max_epochs=1").folder
    for name, count, more in (("sharded", 2, shares), ("alone", 1, (*words, "trainer.devices=1"))):
        folder = tmp_path / name
        shutil.copytree(half, folder / "run")
        going_on = forked(folder, count, *more, "trainer.max_epochs=2", f"resume={folder / 'run'}").folder
        ends = [load_checkpoint(run / "checkpoints" / "last.ckpt") for run in (going_on, alike[name].folder)]
        momenta = [dict(end["optimizer_states"][0]["state"]) for end in ends]
        for left, right in ((ends[0]["state_dict"], ends[1]["state_dict"]), momenta):
            assert left.keys() == right.keys()
            torch.testing.assert_close(left, right, **({"rtol": 0, "atol": 0} if count > 1 else CLOSE))
