"""A full disk and a lost process end a run with the reason and what is left of it, not with a traceback."""

import os
import socket
import subprocess
from pathlib import Path

from tests.programs import Program, run_program

from .conftest import REPOSITORY

TRAIN = str(REPOSITORY / "train.py")
QUICK = (
    "data.limit=160",
    "data.limit_test=60",
    "data.batch_size=16",
    "model.width_scale=0.125",
    "trainer.max_epochs=2",
    "scheduler.warmup_epochs=0",
    "test=false",
    "run.dir=run",
)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}


def beside(name: str) -> str:
    return str(Path(__file__).with_name(name))


def limited(folder: Path, most: int, *words: str) -> subprocess.CompletedProcess[str]:
    words = (beside("limited.py"), str(most), TRAIN, "trainer.accelerator=cpu", *QUICK, *words)
    return run_program(words, folder, ENVIRONMENT)


def test_a_disk_that_takes_no_checkpoint(tmp_path: Path) -> None:
    done = limited(tmp_path, 100_000, "logger=none")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    assert f"{path}: the checkpoint could not be written ([Errno 27] File too large)" in done.stderr
    assert "Stopped during training; run holds no checkpoint, so training has to start over" in done.stderr
    assert list(path.parent.iterdir()) == []


def test_a_disk_that_takes_next_to_nothing(tmp_path: Path) -> None:
    done = limited(tmp_path, 10_000)
    assert done.returncode == 1
    assert "run.dir=run\n     nothing can be written there: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_lost_process_is_named(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"NODE_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    words = (TRAIN, "trainer=ddp_sim", "logger=none", "callbacks.step.every_n_steps=1", *QUICK)
    # the checkpoints are those of process 0: it is lost after the first of them
    lost = (beside("signal_run.py"), "kanvision.tasks:Task.on_train_epoch_end", "SIGKILL", *words)
    ranks = []
    for rank, command in enumerate((words, lost)):
        outputs = tmp_path / str(rank)
        outputs.mkdir()
        environment = {**ENVIRONMENT, **shared, "LOCAL_RANK": str(rank)}
        ranks.append(Program(command, tmp_path, environment, outputs))
    done = ranks[0].finish(120)
    ranks[1].kill()
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "process 0 of 2 has lost the connection to another one, whose output may say why: " in done.stderr
    assert "Stopped during training; resume=run continues from its latest checkpoint" in done.stderr
