"""Analysis of attention maps, before and after the activation (`analysis=attention`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kanvision.analysis.attention.capture import attentions, has_class_token, maps
from kanvision.analysis.attention.maps import BlockMaps, likeness, map_facts, map_sheet
from kanvision.analysis.results import AnalysisResult, Picture, ResultTable
from kanvision.app.restore import RestoredRun
from kanvision.config import ConfigError, as_config_error
from kanvision.visualization import to_uint8_rgb

from .inputs import collect_attention, iter_split, sample_positions, select_blocks

__all__ = ["attention"]

LIMITS = (
    "Each map has a color scale of its own: colors of two maps do not compare.",
    "A map is one step of one block. All blocks before have mixed the tokens, and the map does not contain "
    "values and the residual connection: it does not explain the prediction (see mode=explain).",
    "Maps without negative entries always have a cosine well above 0: compare it with that of the same "
    "network before training, not between softmax and learned functions.",
)


def attention(run: RestoredRun) -> AnalysisResult:
    """Return the attention maps of some images, as pictures and arrays, with a table of their statistics."""
    options = run.cfg.analyze.attention
    found = collect_attention(run)
    names = select_blocks(run, "analyze.attention.blocks", options.blocks, found)
    heads = _heads(run, options.heads, {a.name: a.before.shape[1] for a in found if a.name in names})
    positions = _positions(run)
    model = run.task.model
    collected: dict[str, list[list[NDArray[Any]]]] = {name: [[], []] for name in names}
    pictures, labels = [], []
    for batch in run.track(list(iter_split(run, positions)), "Attending"):
        images = batch["image"]
        with torch.no_grad():
            predictions = run.task.predictions(run.task(images))
        labels += _labels(run, batch, predictions)
        facts = run.datamodule
        rgb = getattr(facts, "rgb", None)
        pictures.append(to_uint8_rgb(images.cpu(), facts.mean, facts.std, rgb))
        for each in attentions(model, images, names):
            for batches, matrix in zip(collected[each.name], (each.before, each.after), strict=True):
                with as_config_error(run.cfg, "analysis"):
                    batches.append(maps(model, each.name, matrix, len(images))[:, heads].cpu().numpy())
    soft = {each.name: each.num_softmax_heads for each in found}
    blocks = [
        BlockMaps(name, heads, soft[name], *(np.concatenate(batches) for batches in collected[name]))
        for name in names
    ]
    return _summarize(run, positions, np.concatenate(pictures), labels, blocks)


def _summarize(
    run: RestoredRun,
    positions: list[int],
    pictures: NDArray[np.uint8],
    labels: list[str],
    blocks: list[BlockMaps],
) -> AnalysisResult:
    options = run.cfg.analyze.attention
    drawn = options.num_pictures if options.images is None else len(positions)
    rows: list[list[object]] = []
    numbers: dict[str, float] = {}
    sentences, figures = [], []
    arrays: dict[str, NDArray[Any]] = {"positions": np.array(positions), "images": pictures}
    row_name = "the class token's row" if has_class_token(run.task.model) else "the mean row of all tokens"
    for block in blocks:
        facts = []
        for index, position in enumerate(positions):
            label = labels[index].replace("\n", ", ")
            for column, head in enumerate(block.heads):
                facts.append(map_facts(block.before[index, column], block.after[index, column]))
                rows.append([position, label, block.name, head, *facts[-1].values()])
        means = {key: float(np.mean([each[key] for each in facts])) for key in facts[0]}
        alike = likeness(block.after)
        numbers |= {f"{block.name}/{key}": means[key] for key in ("negative_share", "effective_patches")}
        numbers[f"{block.name}/likeness"] = alike
        patches = block.after[0, 0].size
        sentences.append(
            f"{block.name}, {len(block.heads)} heads, {len(positions)} images, {row_name} over {patches} "
            f"patches: after the activation {means['negative_share']:.1%} of the weight is negative, a map "
            f"is spread over {means['effective_patches']:.1f} patches, and maps of two images have a cosine "
            f"of {alike:.3f} (1: the image does not matter)."
        )
        figures.append(
            Picture(
                f"maps_{block.name}",
                map_sheet(pictures[:drawn], labels[:drawn], block),
                f"{block.name}: {row_name}, for each image and head. Logits: q k / sqrt(d) where they are "
                "positive, from black to yellow. After: the entries that values are mixed by, red positive, "
                "blue negative, white 0. Above each map: the end of its color scale.",
            )
        )
        arrays |= {f"{block.name}/before": block.before, f"{block.name}/after": block.after}
    keys = list(map_facts(blocks[0].before[0, 0], blocks[0].after[0, 0]))
    caption = (
        "Over the patches of a map: logits; entries after the activation, their sum, the share of negative "
        "ones, (sum |a|)^2 / sum a^2 patches."
    )
    table = ResultTable("maps", ["position", "image", "block", "head", *keys], rows, caption)
    return AnalysisResult(sentences, LIMITS, numbers, figures, [table], arrays)


def _positions(run: RestoredRun) -> list[int]:
    """Return the positions of the selected images."""
    options = run.cfg.analyze.attention
    if options.images is None:
        return sample_positions(run, options.num_images)
    count = len(run.datamodule.datasets[run.cfg.split])
    if wrong := [position for position in options.images if position >= count]:
        why = f"there is no image {', '.join(map(str, wrong))}"
        fix = f"split={run.cfg.split} has {count}, from 0 to {count - 1}"
        raise ConfigError.at(run.cfg, ["analyze.attention.images", "split"], why, fix)
    return options.images


def _heads(run: RestoredRun, selected: Sequence[int] | None, counts: dict[str, int]) -> list[int]:
    """Return the selected heads, which all selected blocks must have."""
    fewest = min(counts.values())
    if selected is None:
        return list(range(fewest))
    if wrong := [head for head in selected if head >= fewest]:
        why = f"there is no head {', '.join(map(str, wrong))}"
        fix = f"legal: 0 to {fewest - 1} in {', '.join(counts)}"
        raise ConfigError.at(run.cfg, ["analyze.attention.heads"], why, fix)
    return list(selected)


def _labels(run: RestoredRun, batch: dict[str, torch.Tensor], predictions: torch.Tensor) -> list[str]:
    """Return the target class of each image, and the predicted one if it differs."""
    if "target" not in batch:
        return [""] * len(predictions)
    names = run.datamodule.class_names
    pairs = zip(batch["target"].tolist(), predictions.argmax(1).tolist(), strict=True)
    return [names[t] if t == p else f"{names[t]}\n(predicted: {names[p]})" for t, p in pairs]
