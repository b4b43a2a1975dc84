"""Costs of models side by side."""

from pathlib import Path

import pytest

from kanvision.app.benchmark import benchmark
from kanvision.app.train import train
from kanvision.config import BenchmarkConfig, ConfigError, compose, parse_eval, parse_train
from kanvision.models import create_model

CONF = Path(__file__).resolve().parents[2] / "conf"


def config(*words: str) -> BenchmarkConfig:
    found = parse_eval(compose("benchmark", [*words, "accelerator=cpu", "num_passes=5"], CONF))
    assert isinstance(found, BenchmarkConfig)
    return found


def test_names_twins_and_runs_stand_side_by_side(tmp_path: Path) -> None:
    """Catches a twin that is the KAN, parameters of another model, and memory that is not measured."""
    run = tmp_path / "run"
    words = (
        "trainer=cpu",
        "trainer.enable_progress_bar=false",
        "data.limit=20",
        "data.limit_test=20",
        "logger=none",
    )
    words += ("model.width_scale=0.25", "trainer.max_epochs=1", "scheduler.warmup_epochs=0", "test=false")
    train(parse_train(compose("train", [*words, f"run.dir={run}"], CONF)))
    models = f"models=[convkan_4,'convkan_4:plain',{run}]"
    numbers = benchmark(config(models, "img_size=16", "batch_sizes=[2]", f"output={tmp_path / 'out'}"))
    for name, options in (("convkan_4", {}), ("convkan_4:plain", {"plain": True})):
        model = create_model("convkan_4", num_classes=10, in_chans=3, **options)
        assert numbers[f"{name}/2/parameters"] == sum(p.numel() for p in model.parameters())
        # the input of the second layer at least
        assert numbers[f"{name}/2/peak_memory_mb"] > 2 * 32 * 16 * 16 * 4 / 1e6
        assert 0 < numbers[f"{name}/2/p50_ms"] <= numbers[f"{name}/2/p95_ms"]
    assert numbers[f"{run}/2/parameters"] < numbers["convkan_4/2/parameters"]
    assert numbers["convkan_4/2/peak_memory_mb"] > numbers["convkan_4:plain/2/peak_memory_mb"]
    assert (tmp_path / "out" / "index.html").is_file()


def test_all_unknown_models_are_named() -> None:
    with pytest.raises(ConfigError, match=r"(?s)convkan_5.*after the colon"):
        benchmark(config("models=[convkan_5,'convkan_4:half']"))
