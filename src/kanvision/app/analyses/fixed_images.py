"""What the analyses of a loss share: the images that it is taken over, its value, and what was trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from torch import Tensor

from kanvision.app.building import model_of
from kanvision.checkpoints import load_checkpoint, match_structure

from .study import Study, batches_of, not_augmented

__all__ = ["described", "fixed_batches", "loss_of", "trained_names"]


def fixed_batches(study: Study, images: Literal["split", "train"], number: int) -> list[dict[str, Tensor]]:
    """Random images by `analyse.seed` with their labels, in batches on the CPU, without augmentation."""
    datamodule = study.datamodule
    is_split = images == "split"
    dataset = datamodule.datasets[study.cfg.split] if is_split else not_augmented(datamodule, "train")
    order = np.random.default_rng(study.cfg.analyse.seed).permutation(len(dataset))
    return list(batches_of(datamodule, dataset, sorted(order[:number])))


def described(study: Study, images: Literal["split", "train"], batches: list[dict[str, Tensor]]) -> str:
    """The images in words."""
    count = sum(len(batch["image"]) for batch in batches)
    if images == "train":
        return f"{count} training images of {study.run.data.name}, not augmented"
    return f"{count} images of the {study.cfg.split} split of {study.run.data.name}"


def loss_of(study: Study, batch: Mapping[str, Tensor]) -> Tensor:
    """Mean loss of a batch as validation has it: of classes the plain cross-entropy."""
    on_device = {key: value.to(study.device) for key, value in batch.items()}
    value: Tensor = study.task.measurement(study.task(on_device["image"]), on_device)["value"]
    return value


def trained_names(study: Study) -> set[str]:
    """Names of the parameters that training moves: a frozen teacher or a frozen layer has no part in it."""
    fresh = model_of(study.run)
    match_structure(fresh, load_checkpoint(study.path))
    return {name for name, parameter in fresh.named_parameters() if parameter.requires_grad}
