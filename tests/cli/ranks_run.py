"""Runs `train.py` and writes what this process saw, one file for each run and process.

Usage: ranks_run.py <folder of the files> <words of the command line>
"""

from __future__ import annotations

import hashlib
import json
import random
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from timm.layers import DropPath
from torch import Tensor, nn

from kanvision.app import training_run as building

REPOSITORY = Path(__file__).resolve().parents[2]


class Report(Callback):
    """Writes what this process drew, trained on and measured."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record: dict[str, Any] = {name: [] for name in ("images", "draws", "mixed", "dropped", "tested")}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        state = b"".join(tensor.numpy().tobytes() for tensor in pl_module.model.state_dict().values())
        self.record |= {"initial": hashlib.sha256(state).hexdigest(), "folder": trainer.default_root_dir}
        blocks = [module for module in pl_module.model.modules() if isinstance(module, DropPath)]
        for block in blocks[:1]:
            block.register_forward_hook(self.drop)
        if pl_module.mixup is not None:
            draw = pl_module.mixup._params_per_batch

            def recorded() -> Any:
                drawn = draw()
                self.record["mixed"].append(float(drawn[0]))
                return drawn

            pl_module.mixup._params_per_batch = recorded

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        own = [getattr(weight, "_local_tensor", weight) for weight in pl_module.model.parameters()]
        self.record["held"] = sum(weight.numel() for weight in own)

    def drop(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if module.training:
            self.record["dropped"].append((output == 0).flatten(1).all(1).tolist())

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.record["images"].append(batch["index"].tolist())
        states = random.getstate(), np.random.get_state(), torch.get_rng_state()
        self.record["draws"].append([random.random(), float(np.random.rand()), float(torch.rand(1))])
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if trainer.global_step == 2:
            run = Path(trainer.default_root_dir).name
            (self.folder / f"{run}_rank{trainer.global_rank}_at_work").touch()

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.record["tested"] += batch["index"].tolist()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.write(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self.write(trainer)

    def write(self, trainer: pl.Trainer) -> None:
        name = f"{Path(trainer.default_root_dir).name}_rank{trainer.global_rank}.json"
        (self.folder / name).write_text(json.dumps(self.record), "utf-8")


def main(folder: Path, words: list[str]) -> None:
    """Train as `train.py` does, with a report."""
    made = building.build_trainer

    def reporting(*arguments: Any, **options: Any) -> pl.Trainer:
        trainer = made(*arguments, **options)
        trainer.callbacks.append(Report(folder))
        return trainer

    building.build_trainer = reporting
    folder.mkdir(parents=True, exist_ok=True)
    sys.argv = [str(REPOSITORY / "train.py"), *words]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
