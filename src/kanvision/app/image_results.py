"""Results of single images of an evaluation: tables, charts and a gallery of the worst and best cases.

N images, C classes, K foreground classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import auc, confusion_matrix, precision_recall_fscore_support, roc_curve

from kanvision.analysis.results import AnalysisResult, Picture, ResultTable
from kanvision.analysis.score_charts import (
    calibration_chart,
    confusion_chart,
    gallery,
    roc_chart,
    score_histogram,
)
from kanvision.callbacks import ImageOutputs
from kanvision.callbacks.prediction_images import mask_panels, resize_masks
from kanvision.metrics import OverlapScore
from kanvision.metrics.classification import ECE_BINS
from kanvision.spec.tasks import SCORES
from kanvision.statistics import proportion_interval
from kanvision.visualization import to_uint8_rgb

from .restore import RestoredRun

__all__ = ["classification_result", "find_image_name", "segmentation_result"]

NUM_CASES = 16
"""Number of worst and of best images in the gallery."""
MOST_PROBABILITIES = 50_000_000
"""Largest number of probabilities whose curves are computed, which sorts them."""
Texts = Callable[[int], str]


def find_image_name(run: RestoredRun, index: int) -> str:
    """Return the name of an image of the split, its path relative to the data where it is a file."""
    source: Any = run.datamodule.datasets[run.cfg.split].source
    names = getattr(source, "names", None)
    if names is not None:
        return str(names[index])
    return source.name(index) if hasattr(source, "name") else str(index)


def classification_result(
    run: RestoredRun, outputs: ImageOutputs, metrics: dict[str, float]
) -> AnalysisResult:
    """Return the scores of images and classes of a classifier."""
    probabilities, target = outputs.values, outputs.target
    assert target is not None
    count, num_classes = probabilities.shape
    names = run.task.class_names or run.datamodule.class_names
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    of_target = probabilities[np.arange(count), target]
    is_right = predicted == target
    classes = np.arange(num_classes)
    confusion = confusion_matrix(target, predicted, labels=classes)
    precision, recall, f1, support = precision_recall_fscore_support(
        target, predicted, labels=classes, zero_division=0.0
    )
    curves = _roc_curves(probabilities, target) if probabilities.size <= MOST_PROBABILITIES else {}
    edges, accuracy, mean_confidence, in_bin = _calibration(confidence, is_right)
    low, high = proportion_interval(int(is_right.sum()), count)
    present = support > 0
    numbers = {
        "accuracy": float(is_right.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        "precision": float(precision[present].mean()),
        "recall": float(recall[present].mean()),
        "f1": float(f1[present].mean()),
    }
    if curves:
        numbers["roc_auc"] = float(np.mean([area for _, _, area in curves.values()]))
    rest = confusion - np.diag(np.diag(confusion))
    worst_pair = np.unravel_index(int(rest.argmax()), rest.shape)
    areas = [f"macro ROC-AUC {numbers['roc_auc']:.4f}"] if curves else []
    sentences = [
        f"{int(is_right.sum()):,} of {count:,} images of the {run.cfg.split} split are classified correctly: "
        f"accuracy {numbers['accuracy']:.4f}, 95 % interval {low:.4f} to {high:.4f} (Wilson, over images).",
        f"Mean over {int(present.sum())} classes with images: precision {numbers['precision']:.4f}, recall "
        f"{numbers['recall']:.4f}, F1 {numbers['f1']:.4f}{''.join(f', {text}' for text in areas)}.",
    ]
    if rest.any():
        sentences.append(
            f"The most frequent error: {int(rest[worst_pair])} images of {names[worst_pair[0]]} are "
            f"predicted as {names[worst_pair[1]]}."
        )
    if not present.all():
        sentences.append(f"{int((~present).sum())} classes have no image and are not part of any mean.")
    rows = [
        [
            find_image_name(run, int(outputs.indices[i])),
            int(outputs.indices[i]),
            names[target[i]],
            names[predicted[i]],
            int(is_right[i]),
            float(confidence[i]),
            float(of_target[i]),
            float(-np.log(max(of_target[i], 1e-30))),
        ]
        for i in range(count)
    ]
    by_class = [
        [
            names[c],
            int(support[c]),
            *_shown(present[c], precision[c], recall[c], f1[c]),
            _area(curves, c),
            _confused(confusion, c, names),
        ]
        for c in range(num_classes)
    ]
    order = np.argsort(of_target, kind="stable")

    def text(place: int) -> str:
        line = f"{names[predicted[place]]} {confidence[place]:.0%}"
        return line if is_right[place] else f"{line}\nis {names[target[place]]} {of_target[place]:.0%}"

    pictures = [
        Picture(
            "confusion",
            confusion_chart(confusion, names),
            "Rows: classes; columns: predictions; numbers of images.",
        ),
        Picture(
            "calibration",
            calibration_chart(edges, accuracy, mean_confidence, in_bin),
            f"Accuracy of the images in {ECE_BINS} bins of the confidence, with standard errors. Expected "
            f"calibration error: {metrics.get(f'{run.cfg.split}/ece', float('nan')):.4f}.",
        ),
        Picture(
            "gallery",
            gallery(_cases(run, outputs, order, text), 8),
            "Images with the lowest and the highest probability of their class. Above: prediction with its "
            "probability; below it the class, if that is another one.",
        ),
    ]
    if curves:
        named = {names[c]: curve for c, curve in curves.items()}
        pictures.insert(1, Picture("roc", roc_chart(named), "One class against all others; area by class."))
    pairs = [
        [names[row], names[column], int(confusion[row, column])]
        for row, column in zip(*np.nonzero(confusion), strict=True)
    ]
    return AnalysisResult(
        sentences,
        ("An interval over images says nothing about another seed of the training.",),
        numbers,
        pictures,
        [
            ResultTable(
                "classes",
                ["class", "images", "precision", "recall", "f1", "roc_auc", "most confused with"],
                by_class,
                "Empty where a class has no image.",
                100,
            ),
            ResultTable(
                "images",
                ["image", "index", "class", "prediction", "correct", "confidence", "probability", "loss"],
                rows,
                "confidence: probability of the prediction; probability: that of the class; loss: its "
                "negative logarithm.",
                0,
            ),
            ResultTable("confusion", ["class", "prediction", "images"], pairs, "Pairs that occur.", 0),
            ResultTable(
                "calibration",
                ["low", "high", "images", "confidence", "accuracy"],
                [
                    list(row)
                    for row in zip(edges[:-1], edges[1:], in_bin, mean_confidence, accuracy, strict=True)
                ],
                "",
                0,
            ),
        ],
    )


def _shown(is_present: bool, *values: float) -> list[float | None]:
    return [float(value) if is_present else None for value in values]


def _area(curves: dict[int, tuple[Any, Any, float]], label: int) -> float | None:
    return curves[label][2] if label in curves else None


def _confused(confusion: NDArray[np.int64], label: int, names: Sequence[str]) -> str:
    row = confusion[label].copy()
    row[label] = 0
    return f"{names[int(row.argmax())]} ({int(row.max())})" if row.any() else ""


def _roc_curves(
    probabilities: NDArray[np.float32], target: NDArray[np.int64]
) -> dict[int, tuple[NDArray[np.float64], NDArray[np.float64], float]]:
    """Return false and true positive rates and the area of each class with images and images of others."""
    curves = {}
    for label in range(probabilities.shape[1]):
        is_class = target == label
        if 0 < is_class.sum() < len(target):
            false, true, _ = roc_curve(is_class, probabilities[:, label])
            curves[label] = (false, true, float(auc(false, true)))
    return curves


def _calibration(
    confidence: NDArray[np.float32], is_right: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], ...]:
    """Return ends of bins, and accuracy, mean confidence and number of images in each."""
    edges = np.linspace(0, 1, ECE_BINS + 1)
    bins = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, ECE_BINS - 1)
    counts, right, total = (
        np.bincount(bins, weights, ECE_BINS).astype(np.float64)
        for weights in (None, is_right.astype(np.float64), confidence.astype(np.float64))
    )
    many = np.maximum(counts, 1)
    return edges, right / many, total / many, counts


def segmentation_result(run: RestoredRun, outputs: ImageOutputs) -> AnalysisResult:
    """Return the scores of images and classes of a segmenter."""
    counts = torch.from_numpy(outputs.values).permute(1, 0, 2)  # (3, N, K)
    num_foreground = counts.shape[2]
    names = _foreground_names(run, num_foreground)
    scores = {
        score: OverlapScore(num_foreground, score).score_images(counts).double().numpy() for score in SCORES
    }
    iou = scores["iou"]
    rows = []
    for place, index in enumerate(outputs.indices):
        pixels = counts[:, place].sum(1).tolist()
        rows.append(
            [
                find_image_name(run, int(index)),
                int(index),
                *(float(scores[score][place]) for score in SCORES),
                *pixels,
            ]
        )
    by_class = []
    for label, name in enumerate(names):
        occurs = counts[:, :, label].sum(0) > 0
        own = [
            float(
                OverlapScore(num_foreground, score).score_images(
                    counts[:, :, label : label + 1].sum(1, keepdim=True)
                )
            )
            for score in SCORES
        ]
        by_class.append([name, int(occurs.sum()), *_shown(bool(occurs.any()), *own)])
    order = np.argsort(iou, kind="stable")
    low, middle, high = np.quantile(iou, (0.1, 0.5, 0.9))
    sentences = [
        f"{len(iou):,} images of the {run.cfg.split} split: mean IoU {iou.mean():.4f} (protocol image), "
        f"median {middle:.4f}; a tenth of the images is below {low:.4f}, a tenth above {high:.4f}."
    ]

    def text(place: int) -> str:
        return f"{find_image_name(run, int(outputs.indices[place]))}\nIoU {iou[place]:.3f}"

    columns = ["image", "index", *SCORES, "true_positives", "false_positives", "false_negatives"]
    return AnalysisResult(
        sentences,
        ("A score of an image is the mean over the classes that are in its mask or its prediction.",),
        {"iou": float(iou.mean()), "iou_median": float(middle)},
        [
            Picture("iou", score_histogram(iou, "IoU"), "Images by their IoU."),
            Picture(
                "gallery",
                gallery(_cases(run, outputs, order, text), 2),
                "Images with the lowest and the highest IoU: image, mask, prediction, errors (green: correct "
                "foreground; red: false positive; blue: false negative; yellow: another class).",
            ),
        ],
        [
            ResultTable(
                "classes",
                ["class", "images", *SCORES],
                by_class,
                "Pixels of all images taken together; images: those with the class in mask or prediction.",
                100,
            ),
            ResultTable(
                "images", columns, rows, "Scores of each image; numbers of pixels over all classes.", 0
            ),
        ],
    )


def _foreground_names(run: RestoredRun, number: int) -> list[str]:
    names = list(run.task.class_names or run.datamodule.class_names)
    return names[-number:] if len(names) >= number else [f"class {label + 1}" for label in range(number)]


def _cases(
    run: RestoredRun, outputs: ImageOutputs, order: NDArray[np.int64], text: Texts
) -> dict[str, list[tuple[NDArray[np.uint8], str]]]:
    """Return the worst and the best images with their texts; images without errors are no worst case."""
    worst = list(order[:NUM_CASES])
    best = [place for place in order[::-1][:NUM_CASES] if place not in worst]
    groups = {"worst": worst, "best": best}
    return {
        title: list(zip(_draw(run, outputs.indices[places]), map(text, map(int, places)), strict=True))
        for title, places in groups.items()
        if len(places)
    }


def _draw(run: RestoredRun, indices: Iterable[int]) -> list[NDArray[np.uint8]]:
    """Return pictures of images of the split; those of a segmenter with mask, prediction and errors."""
    dataset, data = run.datamodule.datasets[run.cfg.split], run.datamodule
    position = {int(index): place for place, index in enumerate(dataset.indices)}
    drawn: list[NDArray[np.uint8]] = []
    for index in indices:
        batch = dataset.__getitems__([position[int(index)]])
        image = batch["image"].float()
        shown = to_uint8_rgb(image, data.mean, data.std, getattr(data, "rgb", None))
        if "mask" in batch:
            task: Any = run.task.eval()
            with torch.no_grad():
                measured = task.metric_inputs(
                    task(image.to(task.device)), {"mask": batch["mask"].to(task.device)}
                )
            target = batch["mask"]
            if task.ignore_index is not None:
                target = target.masked_fill(target == task.ignore_index, -1)
            masks = (resize_masks(mask.cpu(), image.shape[-2:]) for mask in (target, measured["preds"]))
            shown = np.stack([panel.pixels for panel in mask_panels(shown, *masks)])
        drawn.append(shown[0])
    return drawn
