"""Analysis of the learned functions of a network (`analysis=functions`, `mode=functions`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from kanvision.analysis.functions import (
    MeasuredLayer,
    find_learned_layers,
    measure_layers,
    overview_chart,
    spread_evenly,
)
from kanvision.analysis.results import AnalysisResult, Picture, ResultTable
from kanvision.app.build import prepare_process
from kanvision.app.model import build_model
from kanvision.app.restore import RestoredRun
from kanvision.config import ConfigError
from kanvision.layers import Edge
from kanvision.visualization.functions import draw_functions

from .inputs import find_run_snapshots, iter_split, load_snapshot, sample_positions

__all__ = ["functions"]

TOLERANCE = 1e-9
"""Largest difference in float64 between a curve and the layer's own output."""
COLUMNS = 4
LIMITS = (
    "A function shows one edge. The output of a layer is a sum over all of its edges, before norm and "
    "activation, and constants of single functions cancel in it.",
    "A function that varies much is used much; the prediction may still not depend on it.",
)


def functions(run: RestoredRun) -> AnalysisResult:
    """Draw and rank the learned functions of layers over the inputs of images of the split.

    Raises:
        ConfigError: The network has no learned functions, or none at a path in `analyze.functions.layers`.
        RuntimeError: A curve differs from what its layer computes.
    """
    options, model = run.cfg.analyze.functions, run.task.model
    found = find_learned_layers(model)
    if not found:
        why, fix = f"{run.train_cfg.model.name} has no learned functions of one variable", "take a KAN"
        raise ConfigError.at(run.cfg, ["analysis"], why, fix)
    if unknown := [name for name in options.layers or () if name not in found]:
        why = f"no learned functions at {', '.join(unknown)}"
        raise ConfigError.at(run.cfg, ["analyze.functions.layers"], why, f"legal: {', '.join(found)}")
    names = options.layers or list(found)
    start, origin = _start(run)
    before = find_learned_layers(start) if start is not None else {}
    before = {name: before[name] for name in names if _is_alike(before.get(name), found[name])}
    positions = sorted(sample_positions(run, options.num_images))

    def batches() -> Iterator[Tensor]:
        for batch in run.track(iter_split(run, positions), "Inputs of the layers"):
            yield batch["image"]

    layers = measure_layers(model, batches, {name: found[name] for name in names}, before, options.num_bins)
    chosen = {layer.name: _choose(layer, options.num_panels) for layer in layers}
    errors = {
        layer.name: _check(layer, [*used, *more]) for layer in layers for used, more in [chosen[layer.name]]
    }
    rows = [_summarize(layer, errors[layer.name]) for layer in layers]
    drawn = spread_evenly(names, options.num_pictures)
    return AnalysisResult(
        _sentences(run, layers, rows, len(positions), origin),
        LIMITS,
        {f"{row[0]}/{name}": float(str(row[place])) for row in rows for name, place in NUMBERS.items()},
        _pictures([layer for layer in layers if layer.name in drawn], chosen, len(layers), origin),
        _tables(layers, chosen, rows, options.num_edges),
    )


def _start(run: RestoredRun) -> tuple[nn.Module | None, str]:
    """Return the network before training and its origin; None if its weights came from elsewhere."""
    cfg = run.train_cfg
    config = run.task.config or {}
    snapshots = find_run_snapshots(run)
    sources = (
        cfg.finetune.init_from,
        (config.get("model") or {}).get("init_from"),
        getattr(cfg.model, "teacher", None),
    )
    if 0 not in snapshots and any(source is not None for source in sources):
        return None, ""
    # `restore` builds the network at the same place of the random numbers as training does.
    prepare_process(cfg)
    model = build_model(cfg, fetch=False).eval().requires_grad_(False)
    if 0 not in snapshots:
        return model, f"the network that seed={cfg.seed} builds"
    weights = load_snapshot(run, snapshots[0])
    own = model.state_dict()
    if any(name not in weights or weights[name].shape != value.shape for name, value in own.items()):
        return None, ""
    model.load_state_dict({name: weights[name] for name in own})
    return model, "the snapshot before the first epoch"


def _is_alike(before: object, now: object) -> bool:
    shapes = [getattr(each, "weight", torch.empty(0)).shape[:3] for each in (before, now)]
    return before is not None and shapes[0] == shapes[1]


def _choose(layer: MeasuredLayer, number: int) -> tuple[list[Edge], list[Edge]]:
    """Return the most used edges, and the most changed ones that are not among them."""
    used = layer.most_used(number)
    changed = [edge for edge in layer.most_changed(number + COLUMNS) if edge not in used]
    return used, changed[:COLUMNS]


def _check(layer: MeasuredLayer, edges: Sequence[Edge]) -> float:
    error = layer.functions.largest_error(torch.linspace(*layer.limits, 33, dtype=torch.float64), edges)
    if not error <= TOLERANCE:
        raise RuntimeError(f"{layer.name}: a curve differs from the output of the layer by {error:.3g}")
    return error


NUMBERS = {"functions": 2, "std": 3, "top_tenth": 4, "curved": 5, "outside": 7}
SUMMARY = ("layer", "x", "functions", "std", "top_tenth", "curved", "changed", "outside", "error")


def _summarize(layer: MeasuredLayer, error: float) -> list[object]:
    """Return the row of a layer in the table of all layers."""
    std, curved, changed = layer.statistics
    variance = std.square()
    total = float(variance.sum()) or 1.0
    tenth = variance.topk(max(1, len(variance) // 10)).values
    outside = layer.share_outside if layer.functions.domain is not None else 0.0
    relative = None if changed is None else float((changed.square().sum() / total).sqrt())
    return [
        layer.name,
        layer.functions.argument,
        len(std),
        float(variance.mean().sqrt()),
        float(tenth.sum() / total),
        float((curved * variance).sum() / total),
        relative,
        outside,
        error,
    ]


def _sentences(
    run: RestoredRun,
    layers: Sequence[MeasuredLayer],
    rows: Sequence[Sequence[object]],
    images: int,
    origin: str,
) -> list[str]:
    total = sum(layer.functions.num_edges for layer in layers)
    curved = {str(row[0]): float(row[5]) for row in rows}  # type: ignore[arg-type]
    most, least = max(curved, key=curved.__getitem__), min(curved, key=curved.__getitem__)
    largest = max(float(row[-1]) for row in rows)  # type: ignore[arg-type]
    sentences = [
        f"{len(layers)} layers with {total:,} learned functions of one variable, over the inputs of "
        f"{images} images of the {run.cfg.split} split.",
        f"The drawn curves are those that the layers apply: the largest difference from outputs of the "
        f"layers, each with one input that is not 0, is {largest:.1e} (float64).",
        f"A straight line explains all but {curved[most]:.1%} of the variance of the functions in {most}, "
        f"and all but {curved[least]:.1%} in {least}.",
    ]
    if origin:
        sentences.append(f"Functions before training are those of {origin}.")
    else:
        sentences.append("The start of the training is not known, so no change is measured.")
    outside = {layer.name: layer.share_outside for layer in layers if layer.functions.domain is not None}
    if outside and max(outside.values()) > 0:
        name = max(outside, key=outside.__getitem__)
        sentences.append(f"Up to {outside[name]:.2%} of the inputs ({name}) lie outside of the domain.")
    if silent := [layer.name for layer in layers if not int(layer.counts.sum())]:
        sentences.append(f"No inputs were seen, so all points count equally: {', '.join(silent)}.")
    return sentences


def _pictures(
    drawn: Sequence[MeasuredLayer], chosen: dict[str, tuple[list[Edge], list[Edge]]], number: int, origin: str
) -> list[Picture]:
    dashed = f" Dashed: before training ({origin})." if origin else ""
    reading = (
        "Titles: input channel -> output channel, position in the kernel, standard deviation over the "
        f"inputs. Gray line: zero; below: histogram of the inputs of the channel.{dashed}"
    )
    first = [(layer.name, layer.panels(chosen[layer.name][0][:COLUMNS])) for layer in drawn]
    few = f" {len(drawn)} of {number} layers." if len(drawn) < number else ""
    pictures = [
        Picture(
            "functions",
            draw_functions(first, COLUMNS),
            f"The most used functions of each layer.{few} {reading}",
        ),
        Picture(
            "layers",
            overview_chart(drawn),
            "Left: share of the variance that the most used functions hold; the diagonal would be equal use. "
            "Right: 0 for a straight line over the inputs.",
        ),
    ]
    for layer in drawn:
        used, changed = chosen[layer.name]
        panels = layer.panels(used) + layer.panels(changed, " changed")
        about = f"{layer.name}: {len(used)} most used of {layer.functions.num_edges:,} functions"
        about += f", then {len(changed)} of the most changed." if changed else "."
        pictures.append(
            Picture(
                f"functions_{layer.name or 'network'}",
                draw_functions([(layer.name, panels)], COLUMNS),
                f"{about} x: {layer.functions.argument}. {reading}",
            )
        )
    return pictures


def _tables(
    layers: Sequence[MeasuredLayer],
    chosen: dict[str, tuple[list[Edge], list[Edge]]],
    rows: Sequence[Sequence[object]],
    num_edges: int,
) -> list[ResultTable]:
    edges: list[list[object]] = []
    curves: list[list[object]] = []
    for layer in layers:
        std, curved, changed = layer.statistics
        listed = layer.most_used(num_edges)
        listed += [edge for edge in layer.most_changed(num_edges) if edge not in set(listed)]
        for edge in listed:
            place = layer.index(edge)
            change = None if changed is None else float(changed[place])
            edges.append([layer.name, *edge, float(std[place]), float(curved[place]), change])
        drawn = [edge for each in chosen[layer.name] for edge in each]
        for panel, edge in zip(layer.panels(drawn), drawn, strict=True):
            before = [None] * len(panel.x) if panel.start is None else panel.start
            curves += [
                [layer.name, *edge, x, y, old] for x, y, old in zip(panel.x, panel.y, before, strict=True)
            ]
    return [
        ResultTable(
            "layers",
            SUMMARY,
            rows,
            "std: standard deviation over the inputs, root mean square over the functions; top_tenth: share "
            "of the variance in a tenth of the functions; curved: share that no straight line explains; "
            "changed: root mean square change in training, relative to std; outside: share of the inputs "
            "outside of the domain; error: largest difference from the layer's own output.",
            200,
        ),
        ResultTable(
            "edges",
            ["layer", "output", "channel", "tap", "std", "curved", "changed"],
            edges,
            f"The {num_edges} most used and the {num_edges} most changed functions of each layer.",
            40,
        ),
        ResultTable(
            "curves",
            ["layer", "output", "channel", "tap", "x", "y", "before"],
            curves,
            "Points of the drawn functions.",
            0,
        ),
    ]
