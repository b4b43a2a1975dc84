"""Rows: one for each combination, averaged over seeds, best first, nothing left out."""

import statistics
from pathlib import Path

import pytest

from kanvision.sweep import SweepTable, read_runs, tabulate
from kanvision.sweep.runs import write_failure

from .folders import make_run, write_json


def table(folder: Path) -> SweepTable:
    return tabulate(read_runs(folder))


def values(found: SweepTable, key: str) -> list[str]:
    return [row.settings[key] for row in found.rows]


def test_seeds_are_averaged(tmp_path: Path) -> None:
    for seed, (gram, rbf) in enumerate([(0.5, 0.8), (0.7, 0.9), (0.6, 1.0)]):
        make_run(tmp_path / f"g{seed}", "basis=gram", "data=digits", seed=seed, acc1=gram, loss=1 - gram)
        make_run(tmp_path / f"r{seed}", "basis=rbf", "data=digits", seed=seed, acc1=rbf, loss=1 - rbf)
    found = table(tmp_path)
    assert (found.keys, found.shared) == (["basis"], {"data": "digits"})
    assert found.metrics == ["test/acc1", "test/loss"]
    assert values(found, "basis") == ["rbf", "gram"]
    spread = found.rows[1].metrics["test/acc1"]
    assert (spread.mean, spread.count) == (pytest.approx(0.6), 3)
    assert spread.std == pytest.approx(statistics.stdev([0.5, 0.7, 0.6]))
    assert [run.seed for run in found.rows[0].runs] == ["0", "1", "2"]
    assert found.rows[0].numbers["parameters"].mean == 10


def test_seeds_of_the_split_are_averaged_too(tmp_path: Path) -> None:
    for split, score in ((2981, 0.5), (6142, 0.7), (1187, 0.6)):
        make_run(tmp_path / f"{split}", f"data.split_seed={split}", "data=busi", seed=42, acc1=score)
    (row,) = table(tmp_path).rows
    assert row.metrics["test/acc1"].mean == pytest.approx(0.6)
    assert sorted(run.seed for run in row.runs) == ["42/1187", "42/2981", "42/6142"]


def test_one_run_has_no_spread(tmp_path: Path) -> None:
    make_run(tmp_path / "1", acc1=0.5)
    (row,) = table(tmp_path).rows
    assert row.metrics["test/acc1"].std is None
    assert row.settings == {}


@pytest.mark.parametrize(
    ("monitor", "mode", "first"),
    [("val/acc1", "max", ["b", "a"]), ("val/loss", "min", ["a", "b"]), ("val/acc1", "min", ["a", "b"])],
)
def test_the_direction_is_that_of_the_monitored_metric(
    tmp_path: Path, monitor: str, mode: str, first: list[str]
) -> None:
    for basis, acc1, loss in (("a", 0.1, 0.2), ("b", 0.2, 0.9)):
        make_run(tmp_path / basis, f"basis={basis}", monitor=monitor, mode=mode, acc1=acc1, loss=loss)
    found = table(tmp_path)
    assert values(found, "basis") == first
    assert found.metrics[0] == monitor.replace("val", "test")


def test_without_a_test_the_validation_decides(tmp_path: Path) -> None:
    for basis, score in (("a", 0.1), ("b", 0.2)):
        folder = make_run(tmp_path / basis, f"basis={basis}")
        write_json(folder / "metrics.json", {"best_val/acc1": score, "seed": 1})
    found = table(tmp_path)
    assert (found.metrics, values(found, "basis")) == (["best_val/acc1"], ["b", "a"])


def test_of_equals_the_smaller_comes_first(tmp_path: Path) -> None:
    make_run(tmp_path / "1", "basis=big", acc1=0.5, parameters=100)
    make_run(tmp_path / "2", "basis=small", acc1=0.5, parameters=50)
    assert values(table(tmp_path), "basis") == ["small", "big"]


def test_a_failed_seed_does_not_hide_the_others(tmp_path: Path) -> None:
    make_run(tmp_path / "1", "basis=gram", seed=1, acc1=0.5)
    write_failure(make_run(tmp_path / "2", "basis=gram", seed=2), "out of memory\nmore")
    (row,) = table(tmp_path).rows
    assert (len(row.runs), row.metrics["test/acc1"].mean) == (1, 0.5)
    assert [(failure.run.seed, failure.headline) for failure in row.failures] == [("2", "out of memory")]


def test_a_combination_without_a_result_is_a_row_at_the_end(tmp_path: Path) -> None:
    write_failure(make_run(tmp_path / "1", "basis=bad"), "broken")
    make_run(tmp_path / "2", "basis=unfinished")
    make_run(tmp_path / "3", "basis=good", acc1=0.0)
    found = table(tmp_path)
    assert values(found, "basis") == ["good", "bad", "unfinished"]
    assert [len(row.failures) for row in found.rows] == [0, 1, 1]
    assert (found.num_runs, len(found.failures)) == (3, 2)


def test_a_metric_that_is_not_finite_counts_as_a_failure(tmp_path: Path) -> None:
    make_run(tmp_path / "1", "basis=gram", seed=1, acc1=0.5)
    make_run(tmp_path / "2", "basis=gram", seed=2, acc1=None)
    (row,) = table(tmp_path).rows
    assert row.metrics["test/acc1"].count == 1
    assert "test/acc1 is not a finite number" in row.failures[0].reason


def test_a_metric_that_some_runs_lack_is_averaged_over_the_others(tmp_path: Path) -> None:
    make_run(tmp_path / "1", seed=1, acc1=0.5, loss=0.3)
    make_run(tmp_path / "2", seed=2, acc1=0.7)
    make_run(tmp_path / "3", seed=3, acc1=0.6, loss=None)
    (row,) = table(tmp_path).rows
    assert (row.metrics["test/acc1"].count, row.metrics["test/loss"].count) == (3, 1)
    assert row.failures == []


def test_a_key_that_only_some_runs_were_given_has_its_default_in_the_others(tmp_path: Path) -> None:
    make_run(tmp_path / "1", acc1=0.1, choices={"basis": "gram"}, config={"optimizer": {"lr": 0.004}})
    make_run(tmp_path / "2", "basis=rbf", acc1=0.2, config={"optimizer": {"lr": 0.004}})
    make_run(tmp_path / "3", "basis=gram", "optimizer.lr=4e-3", acc1=0.3)
    found = table(tmp_path)
    assert (found.keys, found.shared) == (["basis"], {"optimizer.lr": "0.004"})
    assert sorted((row.settings["basis"], len(row.runs)) for row in found.rows) == [("gram", 2), ("rbf", 1)]


def test_where_a_run_lies_is_not_a_setting(tmp_path: Path) -> None:
    make_run(tmp_path / "1", "run.dir=a", seed=1, acc1=0.1)
    make_run(tmp_path / "2", "resume=auto", seed=2, acc1=0.2)
    found = table(tmp_path)
    assert (found.keys, len(found.rows)) == ([], 1)


def test_all_that_the_numbers_depend_on_is_named(tmp_path: Path) -> None:
    make_run(tmp_path / "1", seed=1, acc1=0.1)
    folder = make_run(tmp_path / "2", seed=2, acc1=0.2)
    write_json(folder / "metrics.json", {"test/acc1": 0.2, "commit": "def", "device": "A100", "threads": 4})
    assert table(tmp_path).facts == {
        "commit": ["abc", "def"],
        "torch": ["2"],
        "device": ["cpu (1 threads)", "A100 (4 threads)"],
    }
