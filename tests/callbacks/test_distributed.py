"""Two processes: exact resuming, different random numbers, and every image measured once."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from kanvision.checkpoints import load_checkpoint, load_state_dict
from tests.programs import run_program
from tests.tasks.tiny_problem import NUM_TEST, TinyData, tiny_task, tiny_trainer

from .stepwise import environment
from .test_resume import assert_same, without_paths

SCRIPT = Path(__file__).with_name("distributed_run.py")
pytestmark = pytest.mark.long


def run(folder: Path, *resume: Path) -> list[dict[str, Any]]:
    """Run the script; what each process saw."""
    result = run_program([str(SCRIPT), str(folder), *map(str, resume)], folder, environment())
    assert result.returncode == 0, result.stderr
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder)


def test_processes_draw_different_numbers_and_validate_one_model(
    whole: tuple[Path, list[dict[str, Any]]],
) -> None:
    first, second = whole[1]
    assert len(first["draws"]) == len(second["draws"]) == 9
    assert not set(first["draws"]) & set(second["draws"])
    assert first["statistics"] == second["statistics"]
    local = ("train/loss_step",)
    assert {k: v for k, v in first["fit"].items() if k not in local} == {
        k: v for k, v in second["fit"].items() if k not in local
    }
    last_epoch = [step for record in (first, second) for step in record["train"][-3:]]
    mean = sum(loss * len(indices) for indices, loss in last_epoch) / sum(len(i) for i, _ in last_epoch)
    assert first["fit"]["train/loss"] == pytest.approx(mean, abs=1e-6)


def test_resumed_equals_uninterrupted(whole: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    folder, records = whole
    shutil.copy(folder / "first.ckpt", tmp_path / "last.ckpt")
    resumed = run(tmp_path, tmp_path / "last.ckpt")
    for rank in (0, 1):
        assert resumed[rank]["train"] == records[rank]["train"][3:]
        assert resumed[rank]["fit"] == records[rank]["fit"]
    left, right = (without_paths(load_checkpoint(path / "last.ckpt")) for path in (folder, tmp_path))
    assert_same(left, right)


def test_every_image_is_measured_once(whole: tuple[Path, list[dict[str, Any]]]) -> None:
    """The scores of two processes are those of one."""
    folder, records = whole
    assert sorted(records[0]["tested"] + records[1]["tested"]) == list(range(NUM_TEST))
    assert len(records[0]["tested"]) != len(records[1]["tested"])
    task = tiny_task()
    load_state_dict(task.model, load_checkpoint(folder / "last.ckpt"))
    alone = tiny_trainer(folder).test(task, datamodule=TinyData(), verbose=False)[0]
    for record in records:
        assert record["test"] == pytest.approx(alone, abs=1e-6)
