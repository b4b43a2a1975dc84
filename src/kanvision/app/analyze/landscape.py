"""Analysis of the loss on a plane of weights, and the optimizer's path in it (`analysis=landscape`)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from kanvision.analysis.curvature.figures import contour_picture
from kanvision.analysis.curvature.landscape import (
    Plane,
    Projection,
    Weights,
    at_weights,
    batch_statistics,
    get_weights,
    path_plane,
    random_plane,
    share_in_plane,
    surface,
)
from kanvision.analysis.functions import spread_evenly
from kanvision.analysis.results import AnalysisResult, Picture, ResultTable
from kanvision.app.restore import RestoredRun
from kanvision.config import ConfigError
from kanvision.spec.evaluation import DirectionScaling

from .inputs import (
    batch_loss,
    describe_images,
    find_run_snapshots,
    fixed_batches,
    load_snapshot,
    trainable_parameter_names,
)

__all__ = ["landscape"]

MARGIN = 0.2  # around the path, as a share of its extent
UNIT: dict[DirectionScaling, str] = {
    "network": "all moved weights together",
    "tensor": "each tensor",
    "filter": "the weights of each output",
}


def landscape(run: RestoredRun) -> AnalysisResult:
    """Draw the loss around the checkpoint's weights."""
    options = run.cfg.analyze.landscape
    names = trainable_parameter_names(run)
    model = run.task.model
    center = get_weights(model, names)
    snapshots = _snapshots(run, names) if options.directions != "random" else {}
    plane, scaling = _plane(run, center, snapshots)
    batches = fixed_batches(run, options.images, options.num_images)
    images = describe_images(run, options.images, batches)
    has_batch_norms = any(isinstance(module, _BatchNorm) for module in model.modules())
    uses_batch_statistics = has_batch_norms and options.batch_norm == "batch"

    @torch.no_grad()
    def loss() -> float:
        total = sum(float(batch_loss(run, batch)) * len(batch["image"]) for batch in batches)
        return total / sum(len(batch["image"]) for batch in batches)

    projections = {epoch: plane.project(weights) for epoch, weights in snapshots.items()}
    xs, ys = _axes(options.num_points, options.range, list(projections.values()))
    with batch_statistics(model) if uses_batch_statistics else nullcontext():
        middle = loss()
        along = []
        for epoch, projection in run.track(projections.items(), "Loss along the path"):
            with at_weights(model, snapshots[epoch]):
                own = loss()
            with at_weights(model, plane.point(projection.x, projection.y)):
                along.append((epoch, *projection, own, loss()))
        bar = run.track(range(len(xs) * len(ys)), "Loss over the plane")
        losses = surface(loss, model, plane, xs, ys, lambda: next(bar, None))

    kind = "path" if projections else "random"
    low = np.unravel_index(np.nanargmin(losses), losses.shape) if np.isfinite(losses).any() else (0, 0)
    sentences = [
        f"Loss over {images}: {middle:.4g} at the checkpoint; over the plane from {np.nanmin(losses):.4g} "
        f"at ({xs[low[1]]:.3g}, {ys[low[0]]:.3g}) to {np.nanmax(losses):.4g}.",
        f"A step of 1 is as long as the weights: {UNIT[scaling]} ({scaling}).",
    ]
    numbers = {"loss": middle, "lowest": float(np.nanmin(losses)), "highest": float(np.nanmax(losses))}
    if projections:
        share = share_in_plane(list(projections.values()))
        numbers["path_share"] = share
        sentences.append(
            f"The plane holds {share:.1%} of the squared distance of the {len(projections)} snapshots from "
            "the checkpoint; the rest of their path is perpendicular to the picture."
        )
    limits = [
        f"Two directions of {sum(t.numel() for t in center.values()):,}: valleys and walls elsewhere do not "
        "show.",
        "The plane through two networks is not the same plane: compare shapes with care, and heights only "
        "over the same images.",
    ]
    if projections and run.train_cfg.ema is not None:
        limits.append(
            "The run averages its weights (ema): snapshots and checkpoint are averages, and their path is "
            "smoother than the optimizer's own."
        )
    if not options.include_vectors:
        limits.append(
            "Biases, norms and tokens are those of the checkpoint (analyze.landscape.include_vectors)."
        )
    if has_batch_norms:
        limits.append(
            "Batch norms use the statistics of each batch, computed at each point: the loss at the "
            "checkpoint differs from that of evaluation."
            if uses_batch_statistics
            else "Batch norms use the statistics of the checkpoint, which do not fit other weights."
        )
    rows = [(x, y, losses[j, i]) for j, y in enumerate(ys) for i, x in enumerate(xs)]
    tables = [
        ResultTable("surface", ("x", "y", "loss"), rows, "Loss at the points of the grid.", num_shown=0)
    ]
    if projections:
        columns = ("epoch", "x", "y", "distance", "distance_from_plane", "loss", "loss_in_plane")
        tables.append(
            ResultTable(
                "path",
                columns,
                along,
                "The snapshots: coordinates of the nearest point of the plane; distance from the checkpoint "
                "and from the plane (as norms of weights); loss of the snapshot, and of that nearest point.",
            )
        )
    picture = contour_picture(
        xs,
        ys,
        losses,
        title=f"{run.train_cfg.model.name}, {images}",
        labels=_labels(kind),
        track=[(projection.x, projection.y, epoch) for epoch, projection in projections.items()],
    )
    caption = (
        "Loss over a plane of weights, levels spaced evenly in the logarithm; the star is the checkpoint."
    )
    if projections:
        caption += " The line joins the snapshots of the training, each at the nearest point of the plane."
    return AnalysisResult(
        sentences,
        limits,
        numbers,
        [Picture("landscape", picture, caption)],
        tables,
        {"x": np.array(xs), "y": np.array(ys), "loss": losses},
    )


def _snapshots(run: RestoredRun, names: set[str]) -> dict[int, Weights]:
    """Return the weights of the run by epoch; empty if there are fewer than three checkpoints."""
    found = list(find_run_snapshots(run).items())
    if len(found) < 3:
        return {}
    return {
        epoch: {n: value.to(run.device) for n, value in load_snapshot(run, path).items() if n in names}
        for epoch, path in spread_evenly(found, run.cfg.analyze.landscape.num_snapshots)
    }


def _plane(
    run: RestoredRun, center: Weights, snapshots: dict[int, Weights]
) -> tuple[Plane, DirectionScaling]:
    options = run.cfg.analyze.landscape
    scaling = options.scaling
    why = "the run has saved fewer than three checkpoints"
    if snapshots:
        by_path: DirectionScaling = "network" if scaling == "auto" else scaling
        try:
            return path_plane(
                center, list(snapshots.values()), by_path, vectors=options.include_vectors
            ), by_path
        except ValueError as error:
            why = str(error)
    if options.directions == "path":
        fix = "train with callbacks=snapshots, or take analyze.landscape.directions=random"
        raise ConfigError.at(run.cfg, ["analyze.landscape.directions"], why, fix)
    snapshots.clear()
    at_random: DirectionScaling = "filter" if scaling == "auto" else scaling
    return random_plane(center, at_random, run.cfg.analyze.seed, vectors=options.include_vectors), at_random


def _axes(
    points: int, limit: float | None, projections: Sequence[Projection]
) -> tuple[list[float], list[float]]:
    """Return the coordinates of the grid along both axes."""
    if limit is not None or not projections:
        side = np.linspace(-(limit or 1.0), limit or 1.0, points)
        return side.tolist(), side.tolist()
    axes = []
    for values in (
        [projection.x for projection in projections],
        [projection.y for projection in projections],
    ):
        low, high = min(0.0, *values), max(0.0, *values)
        margin = MARGIN * (high - low)
        axes.append(np.linspace(low - margin, high + margin, points).tolist())
    return axes[0], axes[1]


def _labels(kind: str) -> tuple[str, str]:
    if kind == "path":
        return "first principal direction of the path", "second principal direction of the path"
    return "first random direction", "second random direction"
