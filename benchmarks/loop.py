"""What the training loop costs beside the network: `python -m benchmarks.loop`.

A step of `train.py`, with everything that it does by default (callbacks, logs, checks, checkpoints by the
clock), against a step of a bare loop: the same network, batches, loss and optimizer, and nothing else. Both
run in one process in turns, so that both meet the same machine; a step is from one batch that the loader
hands out to the next. Processor time is of all threads; on a machine with other work, wall time counts that
too.
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
    """What the steps of a training cost; the first and the last one of an epoch are left out."""
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
    building.prepare(cfg)
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
