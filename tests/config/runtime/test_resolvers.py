"""One folder for all processes of a run, found again after a restart, never that of another run."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from kanvision.config import register_resolvers
from kanvision.config.runtime.resolvers import run_dir, run_id
from tests.programs import run_program


def make_run(folder: Path, *, checkpoint: bool = True, finished: bool = False, age: float = 0.0) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").touch()
    if checkpoint:
        path = folder / "checkpoints" / "last.ckpt"
        path.touch()
        os.utime(path, (1e9 - age, 1e9 - age))
    if finished:
        (folder / "metrics.json").touch()
    return folder


# --- names --------------------------------------------------------------------------------------------------


def test_a_name_is_made_once_and_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_id()
    assert os.environ["KANVISION_RUN_ID"] == first == run_id()
    monkeypatch.setenv("KANVISION_RUN_ID", "mine")
    assert run_id() == "mine"


def test_a_name_from_the_job_stays_the_same_after_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    def name(**environment: str) -> str:
        with monkeypatch.context() as patch:
            patch.delenv("KANVISION_RUN_ID", raising=False)
            for key, value in environment.items():
                patch.setenv(key, value)
            return run_id()

    assert (
        name(TORCHELASTIC_RUN_ID="night") == name(TORCHELASTIC_RUN_ID="night", RANK="3") == "torchrun_night"
    )
    slurm = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0"}
    assert name(**slurm) == name(**{**slurm, "SLURM_PROCID": "5", "SLURM_RESTART_COUNT": "1"}) == "slurm_7"
    assert name(**slurm, SLURM_STEP_ID="2") == "slurm_7_2"
    assert "slurm" not in name(**slurm, SLURM_JOB_NAME="bash")
    assert "slurm" not in name(SLURM_JOB_ID="7")


def test_torchrun_without_a_name_of_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    script = "from kanvision.config.runtime.resolvers import run_id; print(run_id())"
    ranks = [subprocess.run([sys.executable, "-c", script], capture_output=True, text=True) for _ in range(2)]
    assert ranks[0].stdout == ranks[1].stdout
    assert ranks[0].stdout.startswith(f"torchrun_{os.getpid()}")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match="--rdzv-id"):
        run_id()


# --- folders ------------------------------------------------------------------------------------------------


def test_a_new_run_gets_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(run_dir(str(tmp_path), "convkan_digits", None))
    assert folder == tmp_path / "convkan_digits" / os.environ["KANVISION_RUN_ID"]
    assert os.environ["KANVISION_RUN_DIR"] == str(folder)
    # another process in the same second
    make_run(folder)
    stem = os.environ["KANVISION_RUN_ID"]
    monkeypatch.delenv("KANVISION_RUN_ID")
    monkeypatch.setattr(
        "kanvision.config.runtime.resolvers.datetime", type("Clock", (), {"now": lambda: Clock(stem)})
    )
    assert Path(run_dir(str(tmp_path), "convkan_digits", None)) == folder.with_name(f"{stem}_2")


class Clock:
    def __init__(self, text: str) -> None:
        self.text = text

    def strftime(self, pattern: str) -> str:
        return self.text


def test_a_named_run_goes_on_in_its_folder_until_it_has_finished(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_PROCID", "0")
    folder = make_run(tmp_path / "a" / "slurm_7")
    assert run_dir(str(tmp_path), "a", None) == str(folder)
    (folder / "metrics.json").touch()
    assert run_dir(str(tmp_path), "a", None) == f"{folder}_2"


def test_auto_takes_the_newest_unfinished_run_that_has_a_checkpoint(tmp_path: Path) -> None:
    make_run(tmp_path / "a" / "old", age=100)
    newest = make_run(tmp_path / "a" / "unfinished", age=50)
    make_run(tmp_path / "a" / "done", finished=True)
    make_run(tmp_path / "a" / "crashed_at_once", checkpoint=False)
    make_run(tmp_path / "b" / "other_name")
    assert run_dir(str(tmp_path), "a", "auto") == str(newest)
    assert run_dir(str(tmp_path), "a", None) != str(newest)
    assert Path(run_dir(str(tmp_path), "c", "auto")).parent == tmp_path / "c"


def test_auto_takes_the_run_of_the_same_job_before_newer_ones(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_PROCID", "0")
    own = make_run(tmp_path / "a" / "slurm_7", age=100)
    newest = make_run(tmp_path / "a" / "slurm_8")
    assert run_dir(str(tmp_path), "a", "auto") == str(own)
    (own / "metrics.json").touch()
    assert run_dir(str(tmp_path), "a", "auto") == str(newest)


def test_a_run_is_resumed_in_its_own_folder(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a" / "one", finished=True)
    for resume in (folder, folder / "checkpoints", folder / "checkpoints" / "last.ckpt"):
        assert run_dir(str(tmp_path), "a", str(resume)) == str(folder)
    lonely = tmp_path / "elsewhere" / "deep" / "best.ckpt"
    lonely.parent.mkdir(parents=True)
    lonely.touch()
    assert Path(run_dir(str(tmp_path), "a", str(lonely))).parent == tmp_path / "a"


def test_processes_started_by_rank_zero_take_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(Path(run_dir(str(tmp_path), "a", None)))
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert run_dir(str(tmp_path), "a", None) == str(folder)


def test_a_process_gives_the_same_answer_after_it_has_filled_the_folder(tmp_path: Path) -> None:
    register_resolvers()
    cfg = OmegaConf.create({"root": str(tmp_path), "dir": "${run_dir:${root},a,null}"})
    folder = make_run(Path(cfg.dir), finished=True)
    assert cfg.dir == str(folder)
    register_resolvers()
    assert cfg.dir != str(folder)


# --- in Hydra -----------------------------------------------------------------------------------------------

SCRIPT = """
import sys
from pathlib import Path
import hydra
from kanvision.config import ConfigError, ConfigGroups, exit_with_message, parse_train, register_resolvers
from kanvision.config.conf_source import register_conf

CONF = Path(sys.argv.pop(1))

class DataError(ValueError):
    pass

@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def main(cfg):
    with exit_with_message(ConfigError, DataError):
        config = parse_train(cfg, ConfigGroups([CONF]))
        print(config.run.dir, config.seed, Path(config.run.dir).is_dir())
        if config.seed == 13:
            raise DataError("no such folder: data")

register_resolvers()
register_conf([CONF])
main()
"""


@pytest.fixture
def in_hydra(tmp_path: Path, conf: Path):
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(SCRIPT), "utf-8")

    def call(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return run_program([str(script), str(conf), *argv], tmp_path, {**os.environ, **environment})

    return call


def test_hydra_and_the_run_agree_on_the_folder(in_hydra, tmp_path: Path) -> None:
    done = in_hydra("seed=1")
    folder, seed, exists = done.stdout.split()
    assert (seed, exists, done.returncode) == ("1", "True", 0), done.stderr
    assert (tmp_path / folder / ".hydra" / "config.yaml").is_file()
    assert Path(folder).parent == Path("runs/convkan_digits")
    assert in_hydra("seed=1", "run.dir=here").stdout.startswith("here 1")
    assert (tmp_path / "here" / ".hydra").is_dir()


def test_each_job_of_a_sweep_has_a_folder_that_all_its_processes_share(in_hydra, tmp_path: Path) -> None:
    def jobs(**environment: str) -> list[list[str]]:
        lines = in_hydra("-m", "seed=1,2", **environment).stdout.splitlines()
        return [line.split() for line in lines if line.endswith("True")]

    (first, *_), (second, *_) = ranks = jobs(KANVISION_RUN_ID="one")
    assert [job[1] for job in ranks] == ["1", "2"]
    assert [Path(first).name, Path(second).name] == ["0", "1"]
    assert Path(first).parent == Path(second).parent == tmp_path / "runs" / "sweeps" / "one"
    # a process that Lightning starts inherits the folder of the first job, and follows to the second
    assert jobs(KANVISION_RUN_ID="one", KANVISION_RUN_DIR=first, LOCAL_RANK="1") == ranks


def test_mistakes_of_the_user_are_shown_without_a_traceback(in_hydra) -> None:
    done = in_hydra("seed=13")
    assert done.returncode == 1
    assert done.stderr.strip() == "no such folder: data"
    done = in_hydra("seed=-1")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "1. seed=-1" in done.stderr
    done = in_hydra("seed=13", HYDRA_FULL_ERROR="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "no such folder: data" in done.stderr
