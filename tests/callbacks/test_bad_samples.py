"""What a run goes on without is counted, listed and limited, and changes nothing of exact resuming."""

import csv
import json
from pathlib import Path

import pytest

from kanvision.callbacks import TooManyBadSamplesError
from kanvision.checkpoints import load_checkpoint
from tests.programs import run_program

from .faulty_run import BROKEN, broken_pictures, train
from .stepwise import At, CrashError, crash, environment
from .test_resume import assert_same, without_paths

pytestmark = pytest.mark.filterwarnings("ignore:data.on_bad_sample=skip:UserWarning")
SCRIPT = Path(__file__).with_name("faulty_run.py")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return broken_pictures(tmp_path_factory.mktemp("pictures"))


def listed(folder: Path) -> dict[str, str]:
    """Split by file, from the table of a run."""
    with (folder / "bad_samples.csv").open(newline="") as file:
        return {row["problem"].partition(": ")[0]: row["split"] for row in csv.DictReader(file)}


def test_a_run_goes_on_and_says_without_what(pictures: Path, tmp_path: Path):
    with pytest.warns(UserWarning, match=r"data\.on_bad_sample=skip: .*bee_7\.png: cannot be read"):
        counter, trace, _ = train(pictures, tmp_path)
    assert listed(tmp_path) == {str(pictures / name): name.partition("/")[0] for name in BROKEN}
    assert counter.measured == {"val": 2, "test": 9}
    assert len(counter.lines()) == 3
    assert len(trace.steps) == 2 * 5


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_within_an_epoch_equals_uninterrupted(pictures: Path, tmp_path: Path, workers: int):
    data = {"num_workers": workers}
    whole, trace, metrics = train(pictures, tmp_path / "whole", data=data)
    parts = tmp_path / "parts"
    with pytest.raises(CrashError):
        train(pictures, parts, At(8, crash), data=data)
    assert all(split == "train" for split in listed(parts).values())
    second, after, same = train(pictures, parts, resume=parts / "step.ckpt", seed=99, data=data)
    assert after.steps == {step: seen for step, seen in trace.steps.items() if step >= 7}
    assert metrics == same
    assert (second.known, second.measured) == (whole.known, whole.measured)
    states = [load_checkpoint(folder / "last.ckpt") for folder in (tmp_path / "whole", parts)]
    assert_same(*map(without_paths, states))


def test_a_kill_after_the_last_epoch_forgets_no_images(pictures: Path, tmp_path: Path):
    first, _, _ = train(pictures, tmp_path)
    second, trace, _ = train(pictures, tmp_path, resume=tmp_path / "last.ckpt")
    assert trace.steps == {}
    assert second.measured == first.measured == {"val": 2, "test": 9}


def test_one_too_many_ends_the_run(pictures: Path, tmp_path: Path):
    with pytest.raises(
        TooManyBadSamplesError, match=r"data\.max_bad_samples=1, but 2 files cannot be used"
    ) as ended:
        train(pictures, tmp_path, max_bad_samples=1)
    for word in ("bee_7.png", "ant_2.png", "bad_samples.csv", "mode=check_data"):
        assert word in str(ended.value)
    assert len(listed(tmp_path)) == 2


def test_a_process_without_any_image_left_measures_nothing(pictures: Path, tmp_path: Path):
    """Batches of one image: that of a broken one is empty, and counts for nothing."""
    alone, _, metrics = train(pictures, tmp_path / "alone", data={"eval_batch_size": 1})
    together, _, same = train(pictures, tmp_path / "together", data={"eval_batch_size": 10})
    assert alone.measured == together.measured == {"val": 2, "test": 9}
    assert metrics == pytest.approx(same, abs=1e-6)


@pytest.mark.long
def test_two_processes_count_and_stop_together(pictures: Path, tmp_path: Path):
    """Each of them meets one of two faults in training; both end at the third, in the test."""
    words = [str(SCRIPT), str(pictures), str(tmp_path), "--devices=2", "--max-bad-samples=2"]
    result = run_program(words, tmp_path, environment())
    assert result.returncode == 0, result.stderr
    seen = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert seen[0] == seen[1]
    assert [Path(problem.partition(": ")[0]).name for problem in seen[0]["known"]] == [
        "ant_2.png",
        "bee_7.png",
    ]
    assert seen[0]["measured"] == {"val": 2}
    assert "data.max_bad_samples=2, but 3 files cannot be used" in seen[0]["error"]
    assert len(listed(tmp_path)) == 3
