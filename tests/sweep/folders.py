"""Run folders as train.py leaves them, without a run."""

import json
from pathlib import Path
from typing import Any

import yaml

ENVIRONMENT = {
    "commit": "abc",
    "versions": {"torch": "2"},
    "device": "cpu",
    "threads": 1,
}


def make_run(
    folder: Path,
    *overrides: str,
    seed: int = 1,
    monitor: str = "val/acc1",
    mode: str = "max",
    choices: dict[str, str] | None = None,
    config: dict[str, Any] | None = None,
    **record: Any,
) -> Path:
    """A finished run; `acc1=0.5` becomes `test/acc1`. Without numbers it has not finished."""
    hydra = folder / ".hydra"
    hydra.mkdir(parents=True)
    words = [*overrides, f"seed={seed}"]
    (hydra / "overrides.yaml").write_text(yaml.safe_dump(words))
    (hydra / "hydra.yaml").write_text(yaml.safe_dump({"hydra": {"runtime": {"choices": choices or {}}}}))
    values = {"seed": seed, "monitor": monitor, "monitor_mode": mode, **(config or {})}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    if record:
        costs = {"parameters": 10, "flops": 2_000_000_000, "train_seconds": 1.0}
        numbers = {name: record.pop(name, value) for name, value in costs.items()}
        metrics = {f"test/{name}": value for name, value in record.items()}
        write_json(folder / "metrics.json", metrics | numbers | {"seed": seed, "epochs": 1} | ENVIRONMENT)
    return folder


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content))
