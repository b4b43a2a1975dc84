"""Analysis of a model's frozen features on other images by probes (`analysis=transfer`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanvision.analysis.feature_probe import (
    Score,
    extract_features,
    linear_score,
    neighbor_score,
    score_picture,
)
from kanvision.analysis.results import AnalysisResult, Picture, ResultTable
from kanvision.app.build import create_datamodule
from kanvision.app.model import build_model
from kanvision.app.restore import RestoredRun
from kanvision.config import ConfigError, as_config_error, program
from kanvision.data import READERS, ImageDataModule, build_datamodule
from kanvision.data.splits.holdout import stratified_limit

from .inputs import iter_batches, without_augmentation

__all__ = ["transfer"]


def transfer(run: RestoredRun) -> AnalysisResult:
    """Train probes on frozen features of training images, and score them on test images."""
    options = run.cfg.analyze.transfer
    datamodule = _datamodule(run)
    name = options.data or run.train_cfg.data.name
    model = run.task.model
    torch.manual_seed(run.cfg.analyze.seed)
    fresh = build_model(run.train_cfg, fetch=False).eval().requires_grad_(False).to(run.device)
    sets: dict[str, list[Any]] = {"trained": [], "untrained": [], "pixels": []}
    for split, number in (("train", options.num_train), ("test", options.num_test)):
        batches = list(run.track(_batches(run, datamodule, split, number), f"Images of {split}"))
        with as_config_error(run.cfg, "analysis"):
            sets["trained"].append(extract_features(model, _on(run, batches)))
            sets["untrained"].append(extract_features(fresh, _on(run, batches)))
        raw = torch.cat([batch["image"] for batch in batches]).flatten(1).numpy()
        sets["pixels"].append((raw, sets["trained"][-1][1]))
    scores: dict[str, dict[str, Score]] = {}
    for kind, (train, test) in run.track(sets.items(), "Probes"):
        scores[kind] = {
            "nearest neighbors": neighbor_score(train, test, options.num_neighbors),
            "linear": linear_score(train, test, run.cfg.analyze.seed),
        }
    train_labels, test_labels = (sets["trained"][i][1] for i in (0, 1))
    chance = float((test_labels == np.bincount(train_labels).argmax()).mean())
    trained, untrained, pixels = (scores[kind] for kind in ("trained", "untrained", "pixels"))
    sentences = [
        f"Frozen features on {name}, {len(train_labels)} training and {len(test_labels)} test images: linear "
        f"{trained['linear'].accuracy:.1%} ± {trained['linear'].error:.1%}, nearest neighbors "
        f"{trained['nearest neighbors'].accuracy:.1%} ± {trained['nearest neighbors'].error:.1%}.",
        f"The same network with random weights: {untrained['linear'].accuracy:.1%} and "
        f"{untrained['nearest neighbors'].accuracy:.1%}; raw pixels: {pixels['linear'].accuracy:.1%} and "
        f"{pixels['nearest neighbors'].accuracy:.1%}; always the most frequent class: {chance:.1%}.",
    ]
    limits = [
        "Errors are due to the number of test images; they do not include the choice of training images and "
        "of the network's seed.",
        "Features are the input of the classifier. Fine-tuning of all weights may give other scores: "
        f"{program('train')} finetune.init_from=<run>.",
    ]
    if options.data in (None, run.train_cfg.data.name):
        limits.append("The network was trained on these data: this is no transfer, analyze.transfer.data is.")
    rows = [(f, probe, *score) for f, by_probe in scores.items() for probe, score in by_probe.items()]
    table = ResultTable(
        "scores", ("features", "probe", "accuracy", "standard_error"), rows, "Accuracy of each probe."
    )
    numbers = {f"{f}/{p}".replace(" ", "_"): s.accuracy for f, by in scores.items() for p, s in by.items()}
    picture = score_picture(scores, chance, title=f"{run.train_cfg.model.name} on {name}")
    caption = (
        "Accuracy of probes on features of the trained network, of one with random weights, and on pixels; "
        "bars: standard error."
    )
    return AnalysisResult(
        sentences, limits, {**numbers, "chance": chance}, [Picture("transfer", picture, caption)], [table]
    )


def _datamodule(run: RestoredRun) -> ImageDataModule:
    """Return the other data with the model's image size, channels, mean and std."""
    options, train_cfg = run.cfg.analyze.transfer, run.train_cfg
    if train_cfg.data.task != "classification":
        why, fix = "the network names no class of an image", "take a checkpoint of a classifier"
        raise ConfigError.at(run.cfg, ["analysis"], why, fix)
    if options.data in (None, train_cfg.data.name) and options.root is None:
        return run.datamodule
    if options.data is not None and options.data not in READERS:
        why = "there are no such data with one class an image"
        fix = f"legal: {', '.join(sorted(READERS))}"
        raise ConfigError.at(run.cfg, ["analyze.transfer.data"], why, fix)
    facts = train_cfg.data.model_dump(exclude={"task"})
    shape = {k: facts[k] for k in ("in_chans", "img_size", "mean", "std", "interpolation", "crop_pct")}
    datamodule = build_datamodule(
        "classification",
        name=options.data or train_cfg.data.name,
        root=options.root,
        batch_size=create_datamodule(train_cfg).eval_batch_size,
        **shape,
    )
    datamodule.setup()
    return datamodule


def _batches(
    run: RestoredRun, datamodule: ImageDataModule, split: str, number: int
) -> Iterator[dict[str, Tensor]]:
    """Yield images of a split without augmentation, as many of each class, on the CPU."""
    dataset = without_augmentation(datamodule, split)
    targets = datamodule.get_strata(dataset.source)[dataset.indices]
    return iter_batches(datamodule, dataset, stratified_limit(targets, number, run.cfg.analyze.seed))


def _on(run: RestoredRun, batches: list[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    for batch in batches:
        yield {key: value.to(run.device) for key, value in batch.items()}
