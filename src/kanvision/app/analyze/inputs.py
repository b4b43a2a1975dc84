"""Inputs of the analyses: images, attention matrices, losses and snapshots of a restored run.

B batch, C channels, H W height and width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from kanvision.analysis.attention.capture import Attention, attentions
from kanvision.app.model import build_model
from kanvision.app.restore import RestoredRun, matching_state_dict, require_images
from kanvision.app.results_folder import run_folder
from kanvision.checkpoints import find_snapshots, load_checkpoint, match_structure
from kanvision.config import ConfigError
from kanvision.data import ImageDataModule
from kanvision.spec.evaluation import LossImages

__all__ = [
    "batch_loss",
    "collect_attention",
    "describe_images",
    "find_run_snapshots",
    "fixed_batches",
    "iter_batches",
    "iter_split",
    "load_snapshot",
    "sample_positions",
    "select_blocks",
    "trainable_parameter_names",
    "without_augmentation",
]


def sample_positions(run: RestoredRun, number: int, dataset: Any = None) -> list[int]:
    """Return random positions in a dataset (None: the split) by `analyze.seed`; all if there are no more."""
    count = len(run.datamodule.datasets[run.cfg.split] if dataset is None else dataset)
    positions = np.random.default_rng(run.cfg.analyze.seed).permutation(count)[:number]
    return [int(position) for position in positions]


def iter_split(run: RestoredRun, positions: Sequence[int]) -> Iterator[dict[str, Tensor]]:
    """Yield images of the split with their labels, on the device, `data.batch_size` at a time.

    Batches hold "image" (B, C, H, W), and "target" (B,) or "mask" (B, H, W).
    """
    for batch in iter_batches(run.datamodule, run.datamodule.datasets[run.cfg.split], positions):
        yield {key: value.to(run.device) for key, value in batch.items()}


def iter_batches(
    datamodule: ImageDataModule, dataset: Any, positions: Iterable[int]
) -> Iterator[dict[str, Tensor]]:
    """Yield images of a dataset at the given positions, `data.batch_size` at a time, on the CPU."""
    indices, size = [int(position) for position in positions], datamodule.eval_batch_size
    for start in range(0, len(indices), size):
        batch = dataset.__getitems__(indices[start : start + size])
        yield {key: value for key, value in batch.items() if isinstance(value, Tensor)}


def fixed_batches(run: RestoredRun, images: LossImages, number: int) -> list[dict[str, Tensor]]:
    """Return random images by `analyze.seed` with their labels, in batches on the CPU, not augmented."""
    datamodule = run.datamodule
    is_split = images == "split"
    dataset = datamodule.datasets[run.cfg.split] if is_split else without_augmentation(datamodule, "train")
    return list(iter_batches(datamodule, dataset, sorted(sample_positions(run, number, dataset))))


def describe_images(run: RestoredRun, images: LossImages, batches: list[dict[str, Tensor]]) -> str:
    """Return a description of the images of `fixed_batches`."""
    count = sum(len(batch["image"]) for batch in batches)
    if images == "train":
        return f"{count} training images of {run.train_cfg.data.name}, not augmented"
    return f"{count} images of the {run.cfg.split} split of {run.train_cfg.data.name}"


def without_augmentation(datamodule: ImageDataModule, split: str) -> Any:
    """Return the dataset of a split with the transforms of evaluation."""
    require_images(datamodule, split)
    dataset = datamodule.datasets[split]
    return datamodule.build_dataset(dataset.source, dataset.indices, training=False)


def batch_loss(run: RestoredRun, batch: Mapping[str, Tensor]) -> Tensor:
    """Return the mean validation loss of a batch; for a classifier, the plain cross-entropy."""
    on_device = {key: value.to(run.device) for key, value in batch.items()}
    value: Tensor = run.task.metric_inputs(run.task(on_device["image"]), on_device)["value"]
    return value


def trainable_parameter_names(run: RestoredRun) -> set[str]:
    """Return the names of the parameters that are trained, without those of frozen layers and teachers."""
    fresh = build_model(run.train_cfg, fetch=False)
    match_structure(fresh, load_checkpoint(run.path))
    return {name for name, parameter in fresh.named_parameters() if parameter.requires_grad}


def find_run_snapshots(run: RestoredRun) -> dict[int, Path]:
    """Return the checkpoints of the run by number of finished epochs, in order; at least the restored one."""
    found = find_snapshots(run_folder(run.path) / "checkpoints")
    return found or find_snapshots(run.path)


def load_snapshot(run: RestoredRun, snapshot: Path) -> dict[str, Tensor]:
    """Return the weights of another checkpoint of the run, by the names of the model, on the CPU."""
    return matching_state_dict(run.task, load_checkpoint(snapshot), snapshot)


def collect_attention(run: RestoredRun) -> list[Attention]:
    """Return all attentions of the model, with the matrices of the first image of the split."""
    (batch,) = iter_split(run, [0])
    return attentions(run.task.model, batch["image"])


def select_blocks(run: RestoredRun, key: str, blocks: Sequence[int], found: Sequence[Attention]) -> list[str]:
    """Return the module paths of selected attentions, each once; ConfigError if one does not exist."""
    if not found:
        name = run.train_cfg.model.name
        why = f"{name} has no attention between tokens, so there is no matrix to look at"
        fix = "networks with attention: model=vit, kat, karat, and transformers of timm (deit, convit, swin)"
        raise ConfigError.at(run.cfg, ["analysis"], why, fix)
    if wrong := [block for block in blocks if not -len(found) <= block < len(found)]:
        why = f"there is no attention number {', '.join(map(str, wrong))}"
        legal = ", ".join(f"{index} ({each.name})" for index, each in enumerate(found))
        raise ConfigError.at(run.cfg, [key], why, f"legal: {legal}")
    return list(dict.fromkeys(found[block].name for block in blocks))
