"""Cost of the training loop beside the network: `python -m benchmarks.loop`.

A step of `train.py` with its defaults (callbacks, logs, checks, timed checkpoints) is compared with a step of
a minimal loop with the same network, batches, loss and optimizer. Both run in one process in turns, so that
the load of the machine affects both. A step lasts from one batch of the loader to the next. Processor time is
that of all threads; wall time includes other work of the machine.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from kanvision.config import compose, parse_train, register_resolvers
from kanvision.data.loading.loaders import TrainLoader
from kanvision.losses import classification_loss
from kanvision.optim import build_optimizer

CONF = Path(__file__).resolve().parents[1] / "conf"
APP = ("kanvision.app.build", "kanvision.app.train")
"""Looked up when they are needed, as the other benchmarks run without Lightning and Hydra."""
TRAINING = (
    *("trainer.accelerator=cpu", "test=false", "scheduler.warmup_epochs=0", "~recipe"),
    *("data=digits", "trainer.limit_val_batches=1", "trainer.enable_progress_bar=true"),
)


class Costs(NamedTuple):
    """Milliseconds of each step."""

    wall: list[float]
    processor: list[float]


def timed(train: Callable[[], Any]) -> Costs:
    """Measure the steps of a training, without the first and the last one of an epoch."""
    costs = Costs([], [])
    given_out = TrainLoader._counted

    def stamped(self: TrainLoader, iterator: Any) -> Iterator[Any]:
        before = 0.0, 0.0
        for number, batch in enumerate(given_out(self, iterator)):
            now = time.perf_counter(), time.process_time()
            if number > 1:
                costs.wall.append(1000 * (now[0] - before[0]))
                costs.processor.append(1000 * (now[1] - before[1]))
            before = now
            yield batch

    TrainLoader._counted = stamped  # type: ignore[method-assign]
    try:
        train()
    finally:
        TrainLoader._counted = given_out  # type: ignore[method-assign]
    return costs


def configured(words: Sequence[str]) -> Any:
    """The checked configuration."""
    register_resolvers()
    return parse_train(compose("train", [*TRAINING, *words], CONF))


def bare(cfg: Any) -> None:
    """The loop that one would write by hand."""
    building = importlib.import_module(APP[0])
    building.prepare_process(cfg)
    datamodule = building.setup_datamodule(cfg)
    cfg = building.fill_data_facts(cfg, datamodule)
    model = building.build_model(cfg).train()
    batch_loss = classification_loss(cfg.loss.name)
    optimizer = build_optimizer(model, **cfg.optimizer.model_dump(exclude={"lr_scaling"}))
    loader = datamodule.train_dataloader()
    for epoch in range(cfg.trainer.max_epochs):
        loader.batch_sampler.set_epoch(epoch)
        for batch in loader:
            optimizer.zero_grad()
            batch_loss(model(batch["image"]), batch["target"]).backward()
            optimizer.step()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="trainings of each kind, in turns")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of a training")
    parser.add_argument("words", nargs="*", help="as for train.py: model=kat data.batch_size=16 ...")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    train = importlib.import_module(APP[1]).train
    found: dict[str, list[Costs]] = {"bare loop": [], "train.py": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(given.rounds):
            words = [*given.words, f"trainer.max_epochs={given.epochs}"]
            by_hand = configured([*words, f"run.dir={folder}/none"])
            ours = configured([*words, f"run.dir={folder}/{number}"])
            found["bare loop"].append(timed(lambda: bare(by_hand)))  # noqa: B023
            found["train.py"].append(timed(lambda: train(ours)))  # noqa: B023
    steps = {name: sum(len(costs.wall) for costs in rounds) for name, rounds in found.items()}
    print(f"\ntorch {torch.__version__}, {platform.machine()}, {os.cpu_count()} cores, one thread")
    print(
        f"{' '.join(given.words)}; {given.rounds} rounds in turns; median of the rounds' medians, ms a step\n"
    )
    print("| loop | steps | wall | processor |\n|---|---|---|---|")
    medians = {
        name: [
            statistics.median(statistics.median(getattr(costs, kind)) for costs in rounds)
            for kind in Costs._fields
        ]
        for name, rounds in found.items()
    }
    for name, (wall, processor) in medians.items():
        print(f"| {name} | {steps[name]} | {wall:.2f} | {processor:.2f} |")
    wall, processor = (100 * (ours / hand - 1) for hand, ours in zip(*medians.values(), strict=True))
    print(f"| what the loop adds | | {wall:+.1f} % | {processor:+.1f} % |")


if __name__ == "__main__":
    main()
