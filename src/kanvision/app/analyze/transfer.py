"""analysis=transfer: how far the frozen features of a network go on other images."""

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
from kanvision.app.build import build_model, create_datamodule
from kanvision.config import ConfigError, as_config_error
from kanvision.config.errors import problem_at
from kanvision.data import READERS, ImageDataModule, build_datamodule
from kanvision.data.splits.holdout import stratified_limit

from .study import AnalysisContext, iter_batches, without_augmentation

__all__ = ["transfer"]


def transfer(study: AnalysisContext) -> AnalysisResult:
    """Train probes on frozen features of a data set's training images, and score them on its test."""
    options = study.cfg.analyze.transfer
    datamodule = _datamodule(study)
    name = options.data or study.run.data.name
    model = study.task.model
    torch.manual_seed(study.cfg.analyze.seed)
    fresh = build_model(study.run).eval().requires_grad_(False).to(study.device)
    sets: dict[str, list[Any]] = {"trained": [], "untrained": [], "pixels": []}
    for split, number in (("train", options.num_train), ("test", options.num_test)):
        batches = list(study.track(_batches(study, datamodule, split, number), f"Images of {split}"))
        with as_config_error(study.cfg, "analysis"):
            sets["trained"].append(extract_features(model, _on(study, batches)))
            sets["untrained"].append(extract_features(fresh, _on(study, batches)))
        raw = torch.cat([batch["image"] for batch in batches]).flatten(1).numpy()
        sets["pixels"].append((raw, sets["trained"][-1][1]))
    scores: dict[str, dict[str, Score]] = {}
    for kind, (train, test) in study.track(sets.items(), "Probes"):
        scores[kind] = {
            "nearest neighbors": neighbor_score(train, test, options.num_neighbors),
            "linear": linear_score(train, test, study.cfg.analyze.seed),
        }
    known, asked = (sets["trained"][i][1] for i in (0, 1))
    chance = float((asked == np.bincount(known).argmax()).mean())
    trained, untrained, pixels = (scores[kind] for kind in ("trained", "untrained", "pixels"))
    sentences = [
        f"Frozen features on {name}, {len(known)} images to learn from and {len(asked)} of its test: linear "
        f"{trained['linear'].accuracy:.1%} ± {trained['linear'].error:.1%}, nearest neighbors "
        f"{trained['nearest neighbors'].accuracy:.1%} ± {trained['nearest neighbors'].error:.1%}.",
        f"The same network with random weights: {untrained['linear'].accuracy:.1%} and "
        f"{untrained['nearest neighbors'].accuracy:.1%}; raw pixels: {pixels['linear'].accuracy:.1%} and "
        f"{pixels['nearest neighbors'].accuracy:.1%}; always the most frequent class: {chance:.1%}.",
    ]
    limits = [
        "Errors are those of the number of test images; the choice of training images and of the network's "
        "seed is not in them.",
        "Features are what the classifier is given. What fine-tuning makes of all weights is another "
        "question: python train.py finetune.init_from=<run>.",
    ]
    if options.data in (None, study.run.data.name):
        limits.append("The network was trained on these data: this is no transfer, analyze.transfer.data is.")
    rows = [(f, probe, *score) for f, by_probe in scores.items() for probe, score in by_probe.items()]
    table = ResultTable(
        "scores", ("features", "probe", "accuracy", "standard_error"), rows, "Accuracy of each probe."
    )
    numbers = {f"{f}/{p}".replace(" ", "_"): s.accuracy for f, by in scores.items() for p, s in by.items()}
    picture = score_picture(scores, chance, title=f"{study.run.model.name} on {name}")
    caption = (
        "Accuracy of probes on features of the trained network, of one with random weights, and on pixels; "
        "bars: standard error."
    )
    return AnalysisResult(
        sentences, limits, {**numbers, "chance": chance}, [Picture("transfer", picture, caption)], [table]
    )


def _datamodule(study: AnalysisContext) -> ImageDataModule:
    """The other data as the network takes them: its size of images, channels, mean and std."""
    options, run = study.cfg.analyze.transfer, study.run
    if run.data.task != "classification":
        why, fix = "the network names no class of an image", "take a checkpoint of a classifier"
        raise ConfigError([problem_at(study.cfg, ["analysis"], why, fix)])
    if options.data in (None, run.data.name) and options.root is None:
        return study.datamodule
    if options.data is not None and options.data not in READERS:
        why = "there are no such data with one class an image"
        fix = f"legal: {', '.join(sorted(READERS))}"
        raise ConfigError([problem_at(study.cfg, ["analyze.transfer.data"], why, fix)])
    facts = run.data.model_dump(exclude={"task"})
    shape = {k: facts[k] for k in ("in_chans", "img_size", "mean", "std", "interpolation", "crop_pct")}
    datamodule = build_datamodule(
        "classification",
        name=options.data or run.data.name,
        root=options.root,
        batch_size=create_datamodule(run).eval_batch_size,
        **shape,
    )
    datamodule.setup()
    return datamodule


def _batches(
    study: AnalysisContext, datamodule: ImageDataModule, split: str, number: int
) -> Iterator[dict[str, Tensor]]:
    """Images of a split without augmentation, as many of each class, on the CPU."""
    dataset = without_augmentation(datamodule, split)
    targets = datamodule.get_strata(dataset.source)[dataset.indices]
    return iter_batches(datamodule, dataset, stratified_limit(targets, number, study.cfg.analyze.seed))


def _on(study: AnalysisContext, batches: list[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    for batch in batches:
        yield {key: value.to(study.device) for key, value in batch.items()}
