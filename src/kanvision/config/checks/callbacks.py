"""Callbacks of Lightning that change what a run records elsewhere, or not at all."""

from __future__ import annotations

from collections.abc import Iterator

from kanvision.config.errors import Problem, problem_at
from kanvision.config.schema.root import TrainConfig

__all__ = ["callback_problems"]

_UNSUPPORTED = {
    "StochasticWeightAveraging": (
        "its average reaches the network after the last checkpoint: no test and no resumed run would have it",
        "take ema.decay=0.99, an average that is validated, tested and kept as best",
    ),
    "LearningRateFinder": (
        "it would train with a rate that the run's configuration does not hold",
        "compare rates in short runs: python train.py -m optimizer.lr=1e-4,3e-4,1e-3 trainer.max_epochs=2",
    ),
    "BatchSizeFinder": (
        "it would train with a batch that the run's configuration does not hold",
        "try out values of data.batch_size with trainer.fast_dev_run=true",
    ),
    "BackboneFinetuning": (
        "no network here has a part called backbone",
        "take finetune.init_from and finetune.freeze",
    ),
}
"""Callbacks of Lightning, why they cannot work here, and what does the same."""


def callback_problems(config: TrainConfig) -> Iterator[Problem]:
    """Complaints about callbacks that cannot work here, and about two ways to accumulate batches at once."""
    for name, entry in config.callbacks.items():
        target = str(entry.get("_target_", ""))
        kind = target.rpartition(".")[2] if target.startswith("pytorch_lightning.") else ""
        key = f"callbacks.{name}._target_"
        if kind in _UNSUPPORTED:
            yield Problem((key,), (f"{key}={target}",), *_UNSUPPORTED[kind])
        elif kind == "GradientAccumulationScheduler":
            yield from _accumulation(config, key, target)


def _accumulation(config: TrainConfig, key: str, target: str) -> Iterator[Problem]:
    trainer, data = config.trainer, config.data
    others = {
        "trainer.accumulate_grad_batches": trainer.accumulate_grad_batches in (None, 1),
        "trainer.global_batch_size": trainer.global_batch_size is None,
        "optimizer.lr_scaling": config.optimizer.lr_scaling == "none",
        # the recipe's batch may be too large for a device, and is then accumulated
        "data.batch_size": data.batch_size is not None or config.recipe.micro_batch_size is None,
    }
    for other in (name for name, fits in others.items() if not fits):
        problem = problem_at(config, [other], "the callback says how many batches an optimizer step has")
        fix = "set data.batch_size" if other == "data.batch_size" else "leave one out"
        yield Problem((key, *problem.keys), (f"{key}={target}", *problem.given), problem.why, fix)
