"""Ledger: one small file for each finished run, `docs/results/<table>/<row>/<run>.json`."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from .plan import Item

__all__ = ["Ledger", "describe_machine", "hash_config", "is_right", "make_record"]

KEPT = (
    *("parameters", "flops", "basis_flops", "epochs", "resumed", "train_seconds", "train_cpu_seconds"),
    *("images", "data_fingerprint", "commit", "versions", "python", "device", "threads"),
)
"""Facts of metrics.json that a record keeps beside the metrics."""
NO_TRAINING = (
    *("run", "resume", "seed", "callbacks", "logger", "trainer.enable_progress_bar"),
    *("data.root", "data.download", "data.num_workers"),
)
"""Keys that differ between runs of one row and change no number."""


class Ledger:
    """Records below one folder.

    Args:
        folder: docs/results of a checkout.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, item: Item) -> Path:
        """Return the file of a run."""
        return self.folder / f"{item}.json"

    def has(self, item: Item, tuning: Sequence[Item] = ()) -> bool:
        """Return True if a run is finished, with the learning rate that `tuning` chooses."""
        return self.path(item).is_file() and (not tuning or self.read(item, tuning) is not None)

    def read(self, item: Item, tuning: Sequence[Item] = ()) -> dict[str, Any] | None:
        """Return the record of a run.

        Args:
            item: The run.
            tuning: Runs that choose its learning rate.

        Returns:
            The record; None if the run is not finished, or was made with another rate than the one
            that all of `tuning` choose, for example before further rates were tried.

        Raises:
            ValueError: The file is damaged.
        """
        path = self.path(item)
        if not path.is_file():
            return None
        try:
            record = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        if not isinstance(record, dict):
            raise ValueError(f"{path}: expected a mapping")
        if tuning and not (all(map(self.has, tuning)) and record["lr"] == self.choose_lr(tuning)):
            return None
        return record

    def write(self, item: Item, record: Mapping[str, Any]) -> None:
        """Write a record in one step, so that a kill leaves no half of it."""
        path = self.path(item)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}")
        draft.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        draft.replace(path)

    def choose_lr(self, items: Sequence[Item]) -> float | None:
        """Return the rate with the best validation score of the runs that try rates.

        Args:
            items: Runs of one row that try rates; all of them have records.

        Returns:
            The rate; None if no rate is tried.
        """
        if not items:
            return None
        scores = {item.lr: self._validation_score(item) for item in items}
        return max(scores, key=scores.__getitem__)

    def _validation_score(self, item: Item) -> float:
        record = self.read(item)
        assert record is not None
        return max(float(score) for name, score in record["metrics"].items() if name.startswith("best_val/"))


def make_record(folder: Path, item: Item, words: Sequence[str]) -> dict[str, Any]:
    """Return the record of a finished run from its folder.

    Args:
        folder: Folder of the run.
        item: The run.
        words: Words of its command that determine its result.
    """
    results = json.loads((folder / "metrics.json").read_text("utf-8"))
    config = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    metrics = {name: value for name, value in results.items() if name.startswith(("test/", "best_"))}
    record = {
        "command": " ".join(["python train.py", *words]),
        "metrics": metrics,
        "lr": config["optimizer"]["lr"],
        "max_epochs": config["trainer"]["max_epochs"],
        "config_hash": hash_config(config),
        **{name: results[name] for name in KEPT},
        "machine": describe_machine(),
    }
    predictions = folder / "test_predictions.csv"
    if item.lr is None and predictions.is_file():
        record |= _score_images(predictions)
    return record


def describe_machine() -> str:
    """Return system, processor and number of cores."""
    model = ""
    if (facts := Path("/proc/cpuinfo")).is_file():
        lines = (line.partition(":") for line in facts.read_text("utf-8", "replace").splitlines())
        model = next((value.strip() for name, _, value in lines if name.strip() == "model name"), "")
    kind = model or platform.processor() or "unknown processor"
    return f"{platform.system()} {platform.machine()}, {kind}, {os.cpu_count()} cores"


def hash_config(config: Mapping[str, Any]) -> str:
    """Return a digest of the settings of a run that determine its training, except the seed."""
    kept = json.loads(json.dumps(config))
    for key in NO_TRAINING:
        *parents, last = key.split(".")
        node = kept
        for parent in parents:
            node = node.get(parent, {})
        node.pop(last, None)
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def _score_images(path: Path) -> dict[str, Any]:
    """Return scores of test images: a bit for each, 1 where its class is right, in base64; or its counts."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if "hits" in rows[0]:
        return {"counts": [[int(row[name]) for name in ("hits", "false_alarms", "misses")] for row in rows]}
    bits = [row["target"] == row["prediction"] for row in rows]
    return {"right": base64.b64encode(np.packbits(bits).tobytes()).decode()}


def is_right(record: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return whether the prediction of each test image was right, (N,)."""
    packed = np.frombuffer(base64.b64decode(record["right"]), np.uint8)
    return np.unpackbits(packed, count=record["images"]["test"]).astype(bool)
