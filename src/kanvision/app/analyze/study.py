"""What an analysis gets to look at: a trained network, its data, its run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from kanvision.analysis.attention.capture import Attention, attentions
from kanvision.app.build import build_model, setup_datamodule
from kanvision.app.restore import matching_state_dict, run_folder
from kanvision.checkpoints import find_snapshots, load_checkpoint, match_structure
from kanvision.config import ConfigError, EvalConfig, TrainConfig
from kanvision.config.errors import problem_at
from kanvision.data import ImageDataModule
from kanvision.spec.evaluation import LossImages
from kanvision.tasks import Task

__all__ = [
    "AnalysisContext",
    "batch_loss",
    "collect_attention",
    "describe_images",
    "fixed_batches",
    "iter_batches",
    "select_blocks",
    "trainable_parameter_names",
    "without_augmentation",
]


def fixed_batches(study: AnalysisContext, images: LossImages, number: int) -> list[dict[str, Tensor]]:
    """Random images by `analyze.seed` with their labels, in batches on the CPU, without augmentation."""
    datamodule = study.datamodule
    is_split = images == "split"
    dataset = datamodule.datasets[study.cfg.split] if is_split else without_augmentation(datamodule, "train")
    order = np.random.default_rng(study.cfg.analyze.seed).permutation(len(dataset))
    return list(iter_batches(datamodule, dataset, sorted(order[:number])))


def describe_images(study: AnalysisContext, images: LossImages, batches: list[dict[str, Tensor]]) -> str:
    """The images in words."""
    count = sum(len(batch["image"]) for batch in batches)
    if images == "train":
        return f"{count} training images of {study.run.data.name}, not augmented"
    return f"{count} images of the {study.cfg.split} split of {study.run.data.name}"


def batch_loss(study: AnalysisContext, batch: Mapping[str, Tensor]) -> Tensor:
    """Mean loss of a batch as validation has it: of classes the plain cross-entropy."""
    on_device = {key: value.to(study.device) for key, value in batch.items()}
    value: Tensor = study.task.metric_inputs(study.task(on_device["image"]), on_device)["value"]
    return value


def trainable_parameter_names(study: AnalysisContext) -> set[str]:
    """Names of the parameters that training moves: a frozen teacher or a frozen layer has no part in it."""
    fresh = build_model(study.run)
    match_structure(fresh, load_checkpoint(study.path))
    return {name for name, parameter in fresh.named_parameters() if parameter.requires_grad}


def collect_attention(study: AnalysisContext) -> list[Attention]:
    """The attentions of the network, with the matrices of the first image of the split."""
    (batch,) = study.batches([0])
    return attentions(study.task.model, batch["image"])


def select_blocks(
    study: AnalysisContext, key: str, blocks: Sequence[int], found: Sequence[Attention]
) -> list[str]:
    """Paths of the attentions that the user wants, each once.

    Args:
        study: What is looked at.
        key: Dotted key of `blocks`, for the message.
        blocks: Numbers of attentions, from the end if negative.
        found: All that there are.

    Raises:
        ConfigError: The network does not attend, or there are not so many attentions.
    """
    if not found:
        name = study.run.model.name
        why = f"{name} has no attention between tokens, so there is no matrix to look at"
        fix = "networks with attention: model=vit, kat, karat, and transformers of timm (deit, convit, swin)"
        raise ConfigError([problem_at(study.cfg, ["analysis"], why, fix)])
    if wrong := [block for block in blocks if not -len(found) <= block < len(found)]:
        why = f"there is no attention number {', '.join(map(str, wrong))}"
        legal = ", ".join(f"{index} ({each.name})" for index, each in enumerate(found))
        raise ConfigError([problem_at(study.cfg, [key], why, f"legal: {legal}")])
    return list(dict.fromkeys(found[block].name for block in blocks))


Item = TypeVar("Item")


@dataclass(frozen=True)
class AnalysisContext:
    """A checkpoint under examination. B batch, C channels, H W space."""

    cfg: EvalConfig
    """What the user wants; keys of analysis=<name> are in `cfg.analyze.<name>`."""
    path: Path
    """The checkpoint."""
    run: TrainConfig
    """Configuration of the run that wrote it."""
    task: Task
    """Network with the checkpoint's weights, in evaluation mode, without gradients, on `device`."""
    device: torch.device
    console: Console

    @cached_property
    def datamodule(self) -> ImageDataModule:
        """The data, which are read when they are first asked for."""
        return setup_datamodule(self.run, self.task.class_names)

    def track(self, items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
        """The items, with a bar that shows how many are done."""
        is_quiet = not self.cfg.trainer.enable_progress_bar
        yield from track(items, what, total=total, console=self.console, transient=True, disable=is_quiet)

    def sample(self, number: int) -> list[int]:
        """Positions of random images of the split, in random order; all where there are no more."""
        count = len(self.datamodule.datasets[self.cfg.split])
        chosen = np.random.default_rng(self.cfg.analyze.seed).permutation(count)[:number]
        return [int(position) for position in chosen]

    def batches(self, positions: Sequence[int]) -> Iterator[dict[str, Tensor]]:
        """Images of the split with their labels, on the device, `data.batch_size` at a time.

        Batches hold "image" (B, C, H, W), and "target" (B,) or "mask" (B, H, W).
        """
        for batch in iter_batches(self.datamodule, self.datamodule.datasets[self.cfg.split], positions):
            yield {key: value.to(self.device) for key, value in batch.items()}

    @cached_property
    def snapshots(self) -> dict[int, Path]:
        """Checkpoints of the run by the number of epochs behind them, in order; at least this one."""
        found = find_snapshots(run_folder(self.path) / "checkpoints")
        return found or find_snapshots(self.path)

    def weights(self, snapshot: Path) -> dict[str, Tensor]:
        """Weights of another checkpoint of the run, by the network's own names, on the CPU."""
        return matching_state_dict(self.task, load_checkpoint(snapshot), snapshot)


def iter_batches(
    datamodule: ImageDataModule, dataset: Any, positions: Iterable[int]
) -> Iterator[dict[str, Tensor]]:
    """Images at some places of a part of the data, `data.batch_size` at a time, on the CPU."""
    indices, size = [int(position) for position in positions], datamodule.eval_batch_size
    for start in range(0, len(indices), size):
        batch = dataset.__getitems__(indices[start : start + size])
        yield {key: value for key, value in batch.items() if isinstance(value, Tensor)}


def without_augmentation(datamodule: ImageDataModule, split: str) -> Any:
    """A part of the data as evaluation sees it."""
    dataset = datamodule.datasets[split]
    return datamodule.build_dataset(dataset.source, dataset.indices, training=False)
