"""Grids that move and get finer in a run: trained, tested, evaluated and gone on from."""

import csv
import json

import pytest
import torch

QUICK = (
    "basis=bspline",
    "callbacks=grid",
    "callbacks.grid.move_every_n_epochs=1",
    "trainer.accelerator=cpu",
    "data.limit=120",
    "data.limit_test=120",
    "data.batch_size=16",
    "model.width_scale=0.125",
    "scheduler.warmup_epochs=0",
    "run.dir=run",
)


@pytest.mark.long
def test_a_run_with_finer_grids(program, tmp_path):
    program("train.py", *QUICK, "trainer.max_epochs=2", "callbacks.grid.refine_at={1: 10}")
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["state_dict"]["model.stages.0.0.basis.knots"].shape == (10 + 2 * 3 + 1,)
    with (tmp_path / "run" / "csv" / "metrics.csv").open() as file:
        shares = [row["grid/outside"] for row in csv.DictReader(file) if row.get("grid/outside")]
    assert len(shares) == 2
    assert all(0 <= float(share) < 0.1 for share in shares)
    trained = json.loads((tmp_path / "run" / "metrics.json").read_text())
    program("eval.py", "ckpt=run", "trainer.accelerator=cpu")
    evaluated = json.loads((tmp_path / "run" / "eval" / "test.json").read_text())
    assert evaluated["test/acc1"] == trained["test/acc1"]
    assert evaluated["parameters"] == trained["parameters"]

    more = ("trainer.max_epochs=3", "callbacks.grid.refine_at={1: 10, 3: 20}", "resume=run")
    went_on = program("train.py", *QUICK, *more)
    assert went_on.stderr == ""
    finest = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert finest["state_dict"]["model.stages.0.0.basis.knots"].shape == (20 + 2 * 3 + 1,)


def test_a_grid_that_cannot_be_refined_is_said(program):
    refused = program("train.py", *QUICK, "callbacks.grid.refine_at={1: 7}", check=False)
    assert refused.returncode != 0
    assert "7 cells are no multiple of the 5 that stages.0.0 has before" in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr
