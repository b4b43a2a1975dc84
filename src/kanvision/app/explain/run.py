"""Command `eval.py mode=explain`: explain the predictions of a model, and score the explanations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from kanvision.analysis.explain.explainer import ChannelWorth, Explainer
from kanvision.analysis.functions import spread_evenly
from kanvision.app.restore import RestoredRun, restore
from kanvision.app.run_record import environment, write_metrics
from kanvision.config import EvalConfig, as_config_error
from kanvision.data import ImageDataModule
from kanvision.models.feature_locations import FeatureLocation, feature_location, feature_locations
from kanvision.spec.models import LOCATIONS
from kanvision.tasks import Task

from .output import Drawing, Row, channel_names, print_scores, write_channels, write_rows
from .targets import check_classes, explanation_targets

__all__ = ["explain"]


def explain(cfg: EvalConfig) -> dict[str, float]:
    """Explain the predictions of a checkpoint; return mean scores by `<method>@<layer>/<score>`.

    Writes a picture of each image, an overview, `scores.csv` (a row for each image, class and method),
    `channels.csv` with the chart `channels.png` and `channels.svg`, and `summary.json`.

    Raises:
        CheckpointError: If the file is none of ours, is damaged, or does not fit its own configuration.
        DataError: If the data are missing or broken.
        ConfigError: If this version does not know the checkpoint's configuration, or the model does not have
            a selected layer or class.
    """
    run = restore(cfg)
    # single images are explained, so that an unreadable one cannot be replaced
    data = run.train_cfg.data.model_copy(update={"on_bad_sample": "raise"})
    run = replace(run, train_cfg=run.train_cfg.model_copy(update={"data": data}))
    task, datamodule, device = run.task, run.datamodule, run.device
    check_classes(cfg, task, datamodule.class_names)
    run.freeze()
    explainer = _build_explainer(run)
    folder = run.results_folder("explain")
    drawing = Drawing(folder, datamodule)
    rows: list[Row] = []
    worth: list[ChannelWorth] = []
    count = len(datamodule.datasets[cfg.split])
    # spread evenly, so that sorted data have samples of every kind
    positions = spread_evenly(range(count), cfg.explain.num_images or count)
    for place, position in enumerate(run.track(positions, "Explaining")):
        sample = datamodule.datasets[cfg.split].__getitems__([position])
        image = sample["image"].to(device)
        explanations = []
        for class_name, target in explanation_targets(cfg, task, image, sample, datamodule.class_names):
            results, attributions = explainer.explain(image, target)
            if cfg.explain.channels:
                worth.append(explainer.channels(image, target, attributions))
            name = _sample_name(datamodule, cfg.split, position)
            rows += [Row(name, class_name, f.method, f.layer, f.scores) for f in results]
            explanations.append((class_name, target, results, attributions))
        if explanations and (cfg.explain.num_pictures is None or place < cfg.explain.num_pictures):
            label = datamodule.class_names[int(sample["target"])] if "target" in sample else None
            drawing.add(_sample_name(datamodule, cfg.split, position), image, explanations, label)
    drawing.finish()
    means = write_rows(folder / "scores.csv", rows)
    channels: Mapping[str, Any] = {}
    if worth:
        names = channel_names(datamodule)
        channels = write_channels(folder, names, worth, run.title)
    facts = run.facts() | {
        "split": cfg.split,
        "images": len(positions),
        "answers": len({(row.image, row.class_name) for row in rows}),
        "options": cfg.explain.model_dump(mode="json"),
    }
    write_metrics(folder / "summary.json", {**facts, "scores": means, "channels": channels, **environment()})
    print_scores(run.console, f"{run.title}: {facts['answers']} answers", means)
    run.console.print(f"Written: {folder}", soft_wrap=True)
    return {f"{method}/{name}": value for method, scores in means.items() for name, value in scores.items()}


def _build_explainer(run: RestoredRun) -> Explainer:
    cfg, task, datamodule, device = run.cfg, run.task, run.datamodule, run.device
    options = cfg.explain
    locations = _find_locations(cfg, task)
    shape = (datamodule.spec.in_chans, 1, 1)
    baseline = torch.zeros(shape, device=device)
    if options.baseline == "black":
        mean, std = (
            torch.tensor(values, device=device).view(shape) for values in (datamodule.mean, datamodule.std)
        )
        baseline = -mean / std
    return Explainer(
        logits=task,
        locations=locations,
        baseline=baseline,
        stride=getattr(task.model, "stride", 1),
        steps=options.num_steps if "integrated_gradients" in options.methods else 0,
        batch_size=datamodule.eval_batch_size,
        threshold=options.threshold,
        border=options.border,
    )


def _find_locations(cfg: EvalConfig, task: Task) -> dict[str, FeatureLocation]:
    """Return the layers of Grad-CAM by name, those near the output first."""
    if "grad_cam" not in cfg.explain.methods:
        return {}
    if cfg.explain.layers is not None:
        with as_config_error(cfg, "explain.layers"):
            return {name: feature_location(task.model, name) for name in cfg.explain.layers}
    found: dict[str, FeatureLocation] = {}
    for name in reversed(LOCATIONS):
        location = feature_locations(task.model).get(name)
        if location is not None and location not in found.values():
            found[name] = location
    return found


def _sample_name(datamodule: ImageDataModule, split: str, position: int) -> str:
    names = getattr(datamodule.datasets[split], "names", None)
    return str(position) if names is None else str(names[position])
