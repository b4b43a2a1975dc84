"""A sweep from the command line to its table, with jobs that fail on the way."""

import csv
import json

import yaml

QUICK = (
    "trainer.accelerator=cpu",
    "trainer.max_epochs=1",
    "scheduler.warmup_epochs=0",
    "trainer.enable_progress_bar=false",
    "data.limit=60",
    "data.limit_test=60",
    "data.batch_size=20",
    "model.width_scale=0.125",
    "logger=none",
)


def test_two_bases_with_two_seeds_are_two_rows_and_what_fails_is_one_more(program, tmp_path):
    # There is no mnist in the empty folder.
    swept = ("data=digits,mnist", "basis=gram,rbf", "seed=range(1,3)")
    process = program("train.py", "-m", *QUICK, *swept, check=False)
    assert process.returncode == 1
    assert "Traceback" not in process.stderr
    assert process.stderr.count("failed; recorded in") == 4

    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    jobs = sorted(path for path in folder.iterdir() if path.is_dir())
    assert [job.name for job in jobs] == [str(number) for number in range(8)]
    metrics = [json.loads((job / "metrics.json").read_text()) for job in jobs[:4]]
    assert [record["seed"] for record in metrics] == [1, 2, 1, 2]
    assert not any((job / "metrics.json").exists() for job in jobs[4:])
    assert (tmp_path / "runs" / "latest").resolve() == jobs[3]  # the newest that has something to show

    rows = list(csv.DictReader((folder / "sweep.csv").read_text().splitlines()))
    assert [row["data"] for row in rows] == ["digits", "digits", "mnist", "mnist"]
    assert [(row["runs"], row["failed"]) for row in rows] == [("2", "0")] * 2 + [("0", "2")] * 2
    assert float(rows[0]["test/acc1"]) >= float(rows[1]["test/acc1"])
    by_basis = {row["basis"]: row for row in rows[:2]}
    assert by_basis.keys() == {"gram", "rbf"}
    accuracies = [record["test/acc1"] for record in metrics[:2]]
    assert float(by_basis["gram"]["test/acc1"]) == sum(accuracies) / 2
    assert int(by_basis["gram"]["parameters"]) == metrics[0]["parameters"]
    assert all("data.root" in row["problems"] for row in rows[2:])
    assert (folder / "sweep.md").read_text() != ""
    assert "8 runs in 4 rows, highest test/acc1 first" in process.stdout
    assert "4 of 8 runs failed" in process.stdout


def test_a_sweep_over_an_old_name_trains_the_plain_network(program, tmp_path):
    # would catch a plain baseline that is a KAN network: a default won over the old value
    program("train.py", "-m", *QUICK, "test=false", "model.layer=kagn,conv")
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    configs = [yaml.safe_load((folder / job / "config.yaml").read_text())["model"] for job in "01"]
    assert [(config["preset"], config["plain"]) for config in configs] == [("kagn", False), (None, True)]
    kan, plain = (json.loads((folder / job / "metrics.json").read_text())["parameters"] for job in "01")
    assert plain < kan / 2


def test_a_search_makes_its_trials(program, tmp_path):
    search = (
        "hparams_search=optuna",
        "hydra.sweeper.n_trials=2",
        "hydra.sweeper.storage=sqlite:///trials.db",
    )
    quick = [word for word in QUICK if not word.startswith("scheduler.warmup_epochs")]
    process = program("train.py", "-m", *search, *quick)

    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    records = [json.loads((folder / number / "metrics.json").read_text()) for number in "01"]
    found = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    assert found["best_value"] == max(record["best_val/acc1"] for record in records)
    rows = list(csv.DictReader((folder / "sweep.csv").read_text().splitlines()))
    rates = {float(row["optimizer.lr"]) for row in rows}
    assert len(rates) == 2
    assert found["best_params"]["optimizer.lr"] in rates
    assert "2 runs in 2 rows" in process.stdout
    assert (tmp_path / "trials.db").stat().st_size > 0
