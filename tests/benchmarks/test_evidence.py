"""Queue, ledger and pages of the comparisons: nothing twice, no number without a record."""

import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.evidence.check import check_row, prediction_bounds
from benchmarks.evidence.costs import Costs, print_plan
from benchmarks.evidence.ledger import Ledger, describe_machine, hash_config, is_right
from benchmarks.evidence.pages import render_pages
from benchmarks.evidence.papers import PAPERS, Ours, Papers, render_papers
from benchmarks.evidence.plan import REPOSITORY, Comparison, Item, Plan, Step
from benchmarks.evidence.queue import Queue
from benchmarks.evidence.results import read_table
from pydantic import ValidationError

TABLE = "bases_digits"


def plan(**protocol: Any) -> Plan:
    values = {"seeds": [1, 2, 3], "shows": "a test", "baseline": "conv", **protocol}
    made = Plan(tables={TABLE: Comparison(**values)}, queue=[Step(table=TABLE, rows=["conv", "gram", "rbf"])])
    made.find_rows([REPOSITORY / "conf"])
    return made


def record(score: float, **facts: Any) -> dict[str, Any]:
    return {
        "command": "python train.py",
        "metrics": {"test/acc1": score / 100, "best_val/acc1": score / 100},
        "lr": 0.001,
        "parameters": 10,
        "flops": 5,
        "basis_flops": 1,
        "images": {"train": 4, "val": 2, "test": 3},
        "data_fingerprint": {"train": "a"},
        "commit": "abc",
        "train_cpu_seconds": 60.0,
        **facts,
    }


def test_the_pages_are_those_of_the_records() -> None:
    """A number that was typed by hand, or whose record is gone, is found: run `--pages`."""
    for name, text in render_pages().items():
        assert (REPOSITORY / name).read_text("utf-8") == text, (
            f"{name}: python -m benchmarks.evidence --pages"
        )


def test_a_result_is_on_the_page_of_papers_beside_its_published_number() -> None:
    page = render_papers(
        REPOSITORY, {"kat/imagenet_tiny": Ours("75.00 (74.00 to 76.00) (3 seeds)", "8 GPUs")}
    )
    (line,) = [line for line in page.splitlines() if "experiment=kat/imagenet_tiny " in line]
    assert [cell.strip() for cell in line.split("|")[1:-1]] == [
        "`tiny`",
        "`model=kat`",
        "5,718,328",
        "acc1 74.6",
        "",
        "75.00 (74.00 to 76.00) (3 seeds)",
        "`python train.py experiment=kat/imagenet_tiny trainer=ddp data.root=<ImageNet folder>`",
        "ours: 8 GPUs",
    ]
    assert page.count("3 seeds") == 1


def test_a_table_that_the_page_of_papers_leaves_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "conf").symlink_to(REPOSITORY / "conf")
    (tmp_path / PAPERS).parent.mkdir(parents=True)
    text = (REPOSITORY / PAPERS).read_text("utf-8")
    named = (
        text.replace("kat_flashkat, ", "")
        .replace("kat_start", "kat_stat")
        .replace("[ukan_busi, ", "[ukan_cvc, ")
    )
    (tmp_path / PAPERS).write_text(named, "utf-8")
    faults = (
        "docs/results/papers.yaml: kat_flashkat is in no chapter, and not omitted; "
        "kat_start is in no chapter, and not omitted; ukan_busi is in no chapter, and not omitted; "
        "kat_stat is no file of conf/tables; ukan_cvc is named twice"
    )
    with pytest.raises(ValueError, match=re.escape(faults)):
        Papers.load(tmp_path)


def test_every_record_is_on_the_list() -> None:
    """A record that no table reads would be a result that is left out."""
    listed = {f"{item}.json" for item in Plan.load().items()}
    folder = REPOSITORY / "docs" / "results"
    found = {path.relative_to(folder).as_posix() for path in folder.glob("*/*/*.json")}
    assert found - listed == set()


def test_a_list_with_unknown_names_is_refused() -> None:
    for step in (Step(table=TABLE, rows=["gran"]), Step(table="nowhere")):
        wrong = plan().model_copy(update={"queue": [step]})
        with pytest.raises(ValueError, match=r"gran: bases_digits.yaml has no such row|nowhere is no key"):
            wrong.find_rows([REPOSITORY / "conf"])
    with pytest.raises(ValidationError, match="a compared seed must not choose the learning rate"):
        plan(learning_rates=[0.1], tuning_seed=2)
    with pytest.raises(ValidationError, match="at least three"):
        plan(seeds=[1, 2])


def test_rates_are_tried_first_and_the_best_on_validation_images_is_taken(tmp_path: Path) -> None:
    made = plan(learning_rates=[0.1, 0.2])
    queue = Queue(made, Ledger(tmp_path), tmp_path / "runs")
    trials = [Item(TABLE, "gram", 0, lr) for lr in (0.1, 0.2)]
    compared = Item(TABLE, "gram", 1)
    assert queue.missing().index(trials[1]) < queue.missing().index(compared)
    queue.ledger.write(trials[0], record(70.0))
    assert not queue.is_ready(compared)
    queue.ledger.write(trials[1], record(80.0))
    assert queue.is_ready(compared)
    assert "optimizer.lr=0.2" in queue.words(compared)
    assert {"seed=0", "optimizer.lr=0.1", "test=false"} <= set(queue.words(trials[0]))
    assert not set(trials) & set(queue.missing())


def test_verdicts_follow_the_rule(tmp_path: Path) -> None:
    """A clear difference is separated, a difference within the noise of three seeds is not."""
    made, ledger = plan(), Ledger(tmp_path)
    scores = {"conv": [90.0, 91.0, 92.0], "gram": [85.0, 86.1, 86.9], "rbf": [91.0, 90.5, 94.0]}
    for row, values in scores.items():
        for seed, value in enumerate(values, 1):
            ledger.write(Item(TABLE, row, seed), record(value))
    rows = {row.name: row for row in read_table(made, ledger, TABLE).rows}
    assert rows["conv"].contrast is None
    assert rows["gram"].verdict == "worse"
    assert rows["rbf"].verdict == "not separated"
    gram = rows["gram"].contrast
    assert gram is not None
    assert gram.p_value is not None
    assert gram.p_adjusted == pytest.approx(2 * gram.p_value)
    assert gram.over_seeds.mean == pytest.approx(-5.0)
    assert rows["gram"].cpu_minutes("abc") == 1.0
    ledger.write(Item(TABLE, "gram", 3), record(86.9, data_fingerprint={"train": "b"}))
    with pytest.raises(ValueError, match="gram: records differ in data_fingerprint"):
        read_table(made, ledger, TABLE)


def test_two_seeds_give_no_number(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for seed in (1, 2):
        ledger.write(Item(TABLE, "gram", seed), record(90.0))
    table = read_table(plan(), ledger, TABLE)
    assert table.rows == []
    assert "gram" in table.missing


def test_a_hash_is_of_the_training_alone() -> None:
    config = {
        "seed": 1,
        "run": {"dir": "a"},
        "optimizer": {"lr": 0.1},
        "data": {"root": "x", "name": "digits"},
    }
    other = {
        "seed": 2,
        "run": {"dir": "b"},
        "optimizer": {"lr": 0.1},
        "data": {"root": "y", "name": "digits"},
    }
    assert hash_config(config) == hash_config(other)
    assert hash_config(config) != hash_config({**config, "optimizer": {"lr": 0.2}})
    assert config["data"] == {"root": "x", "name": "digits"}


def test_a_record_counts_with_the_chosen_learning_rate_only(tmp_path: Path) -> None:
    """Detects tables that mix the rates of a narrow grid and of the wider one that replaced it."""
    made = plan(learning_rates=[0.1, 0.2])
    ledger, item = Ledger(tmp_path), Item(TABLE, "gram", 1)
    narrow, wide = made.tuning(item)
    ledger.write(item, record(90.0, lr=0.1))
    ledger.write(narrow, {"metrics": {"best_val/acc1": 0.8}})
    assert not ledger.has(item, made.tuning(item))  # the other rate was not tried yet
    ledger.write(wide, {"metrics": {"best_val/acc1": 0.7}})
    assert ledger.has(item, made.tuning(item))
    ledger.write(wide, {"metrics": {"best_val/acc1": 0.9}})
    assert ledger.read(item, made.tuning(item)) is None
    queue = Queue(made, ledger, tmp_path / "runs")
    assert queue.folder(item).name == "seed_1_rate_0.2"
    assert item in queue.missing([TABLE])


def test_bounds_of_one_more_run() -> None:
    """t(0.975, 2) = 4.303."""
    low, high = prediction_bounds([1.0, 2.0, 3.0])
    assert (low + high) / 2 == pytest.approx(2.0)
    assert high == pytest.approx(2 + 4.303 * math.sqrt(4 / 3), rel=1e-3)


def test_a_run_becomes_a_record_once_and_can_be_checked(tmp_path: Path, capsys) -> None:
    """A real run of a few steps; its record needs no file of the run, and has no path of this machine."""
    short = ["trainer.max_epochs=1", "trainer.limit_train_batches=2", "data.batch_size=16"]
    made = plan(arguments=short).model_copy(update={"queue": [Step(table=TABLE, rows=["conv"])]})
    made.find_rows([REPOSITORY / "conf"])
    queue = Queue(made, Ledger(tmp_path / "results"), tmp_path / "runs")
    first = Item(TABLE, "conv", 1)
    for other in (Item(TABLE, "conv", 2), Item(TABLE, "conv", 3)):
        queue.ledger.write(other, record(10.0))
    queue.work(hours=0.1, processes=1)
    assert queue.failed == {}
    done = queue.ledger.read(first)
    assert done is not None
    assert str(tmp_path) not in json.dumps(done)
    assert statistics.fmean(is_right(done)) == pytest.approx(done["metrics"]["test/acc1"], abs=1e-6)
    assert np.shape(is_right(done)) == (done["images"]["test"],)
    assert not list((tmp_path / "runs").rglob("*.ckpt"))
    before = queue.ledger.path(first).stat().st_mtime_ns
    queue.work(hours=0.1, processes=1)
    assert queue.ledger.path(first).stat().st_mtime_ns == before
    score = 100 * done["metrics"]["test/acc1"]
    for seed, value in ((2, score + 0.5), (3, score - 0.5)):
        queue.ledger.write(Item(TABLE, "conv", seed), record(value))
    assert check_row(queue, TABLE, "conv", None)
    assert f"{score:.2f} %, recorded {score:.2f} %" in capsys.readouterr().out


def test_hours_are_those_of_a_timed_epoch_and_are_timed_once(tmp_path: Path, capsys) -> None:
    made = plan(arguments=["trainer.max_epochs=5"]).model_copy(
        update={"queue": [Step(table=TABLE, rows=["conv"])]}
    )
    made.find_rows([REPOSITORY / "conf"])
    queue = Queue(made, Ledger(tmp_path), tmp_path / "runs")
    item = Item(TABLE, "conv", 1)
    seconds = Costs(queue).estimate_seconds(item)
    assert seconds is not None
    stored = json.loads((tmp_path / "epochs.json").read_text())
    timed = stored[describe_machine()][f"{TABLE}/conv"]
    assert timed["max_epochs"] == 5
    assert seconds == 5 * timed["cpu_seconds"] > 0
    stored[describe_machine()][f"{TABLE}/conv"]["cpu_seconds"] = 720.0
    (tmp_path / "epochs.json").write_text(json.dumps(stored))
    print_plan(queue, 2, [])
    assert f"{TABLE}/conv: 3 runs, 3.00 h\n3.0 hours of one core; 1.5 hours with 2" in capsys.readouterr().out
    queue.ledger.write(item, record(90.0, train_cpu_seconds=36.0))
    assert Costs(queue).estimate_seconds(Item(TABLE, "conv", 2)) == 36.0
