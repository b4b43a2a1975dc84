"""A run with snapshots, looked at from the command line."""

import json


def test_a_run_is_looked_at_in_several_ways(program, tmp_path):
    small = (
        "model=karat",
        "model.size=micro",
        "model.depth=1",
        "data.limit=40",
        "data.limit_test=40",
        "scheduler.warmup_epochs=0",
    )
    program(
        "train.py",
        *small,
        "trainer=cpu",
        "trainer.max_epochs=1",
        "test=false",
        "callbacks=snapshots",
        "logger=none",
        "run.dir=run",
    )
    for name in ("attention", "spectra", "histograms"):
        words = ("ckpt=run", "mode=analyze", f"analysis={name}", "trainer.accelerator=cpu", "split=val")
        done = program("eval.py", *words)
        assert done.stderr == ""
        assert f"{name}: karat_micro" in done.stdout
        folder = tmp_path / "run" / "analyses" / name
        summary = json.loads((folder / "summary.json").read_text())
        for picture in summary["pictures"]:
            assert {f"{picture}.png", f"{picture}.svg"} <= {path.name for path in folder.iterdir()}
    assert "epochs 0, 1" in summary["sentences"][0]
    assert (tmp_path / "run" / "analyses" / "index.html").read_text().count("<h2>") == 3
