"""mode=functions of a small run, through eval.py's own functions."""

import csv
import json
from pathlib import Path

import pytest

from kanvision.app import load_evaluation
from kanvision.app.train import train
from kanvision.config import ConfigError, compose, parse_eval, parse_train

CONF = Path(__file__).resolve().parents[3] / "conf"
QUICK = (
    *("trainer.accelerator=cpu", "data.limit=60", "data.limit_test=40", "data.batch_size=20", "test=false"),
    *("trainer.max_epochs=1", "scheduler.warmup_epochs=0", "trainer.enable_progress_bar=false"),
    *("model=convkan", "model.width_scale=0.25", "logger=none", "basis=bspline"),
)

FEW = ("analyze.functions.num_panels=2", "analyze.functions.layers=[stages.0.0]")


def evaluate(*overrides: str) -> dict[str, float]:
    quiet = ("trainer.enable_progress_bar=false", "trainer.accelerator=cpu")
    config = parse_eval(compose("eval", [*overrides, *quiet], config_dir=CONF))
    return load_evaluation(config.mode)(config)


def test_page_of_a_run_and_its_start(tmp_path: Path) -> None:
    """Catches a start that is not the initial network: the seed's and the snapshot's must be equal."""
    tables = {}
    for name, callbacks in (("kept", "snapshots"), ("bare", "default")):
        folder = tmp_path / name
        train(
            parse_train(
                compose("train", [*QUICK, f"callbacks={callbacks}", f"run.dir={folder}"], config_dir=CONF)
            )
        )
        numbers = evaluate("mode=functions", f"ckpt={folder}", *FEW)
        assert numbers["stages.0.0/functions"] == 72
        page = folder / "analyses" / "functions"
        facts = json.loads((page / "summary.json").read_text("utf-8"))
        words = {"kept": "snapshot before the first epoch", "bare": "the network that seed=42 builds"}
        assert any(words[name] in sentence for sentence in facts["sentences"])
        with (page / "layers.csv").open(newline="", encoding="utf-8") as file:
            tables[name] = list(csv.DictReader(file))
        assert float(tables[name][0]["changed"]) > 0
        assert (page / "functions_stages.0.0.svg").is_file()
    assert tables["kept"] == tables["bare"]


def test_other_layers_and_analyses_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(parse_train(compose("train", [*QUICK, "callbacks=default", f"run.dir={folder}"], config_dir=CONF)))
    with pytest.raises(ConfigError, match="short for mode=analyze analysis=functions"):
        evaluate("mode=functions", "analysis=spectra", f"ckpt={folder}")
    with pytest.raises(ConfigError, match=r"no learned functions at head"):
        evaluate("mode=functions", "analyze.functions.layers=[head]", f"ckpt={folder}")
