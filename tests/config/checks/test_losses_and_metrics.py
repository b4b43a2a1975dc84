"""Losses, metrics and monitors that do not fit the data, each with its way out."""

from pathlib import Path

import pytest

from kanvision.config import ConfigError, ConfigGroups, compose, notes, parse_train
from kanvision.config.runtime.resolvers import main_metric

CONF = Path(__file__).resolve().parents[3] / "conf"
CHOICES = ConfigGroups([CONF])
FIELDS, BUSI = "model=smp data=synthetic_fields", "model=smp data=busi"

# refused line -> words of the complaint, a legal line next to it
CASES = {
    f"{FIELDS} loss.name=bce_dice": ("no loss for multiclass masks", f"{BUSI} loss.name=bce_dice"),
    f"{FIELDS} loss.name=bce": ("legal: cross_entropy, focal", f"{BUSI} loss.name=bce"),
    f"{BUSI} loss.name=dice loss.label_smoothing=0.1": (
        "does not smooth labels",
        f"{BUSI} loss.name=ce_dice loss.label_smoothing=0.1",
    ),
    f"{FIELDS} loss.class_weights=balanced": ("no class of an image", "loss.class_weights=balanced"),
    "loss.class_weights=[1,2]": ("2 weights for 10 classes", "loss.class_weights=[1,2,1,1,1,1,1,1,1,0.5]"),
    "loss.class_weights=balanced loss.name=bce": ("no weights of classes", "loss.name=bce"),
    "loss.class_weights=balanced data.sampling=balanced": ("count twice", "data.sampling=balanced"),
    "data.sampling=balanced augment.num_repeats=3": ("order of its own", "augment.num_repeats=3"),
    f"{FIELDS} metrics.threshold=0.4": ("most probable class", f"{BUSI} metrics.threshold=0.4"),
    f"{FIELDS} metrics.threshold=search": ("most probable class", f"{BUSI} metrics.threshold=search"),
    f"{FIELDS} metrics.objects=true": ("binary masks", f"{BUSI} metrics.objects=true"),
    f"{BUSI} metrics.threshold=1.5": ("expected", f"{BUSI} metrics.threshold=0.05"),
    f"{BUSI} metrics.protocol=batch": ("image, dataset or paper", f"{BUSI} metrics.protocol=paper"),
    f"{BUSI} metrics.protocol=[]": ("expected", f"{BUSI} metrics.protocol=[dataset]"),
    f"{BUSI} monitor=val/iou_batch": (
        "segmentation logs no such metric",
        f"{BUSI} monitor=val/iou_batch metrics.protocol=[image,paper]",
    ),
    f"{FIELDS} monitor=val/iou_class3": (
        "segmentation logs no such metric",
        f"{FIELDS} monitor=val/iou_class3 metrics.per_class=true",
    ),
    f"{BUSI} scheduler.name=plateau": (
        "detected after a validation",
        f"{BUSI} scheduler.name=plateau scheduler.interval=epoch",
    ),
    f"{BUSI} scheduler.name=plateau scheduler.interval=epoch monitor=train/loss monitor_mode=min": (
        "metric of validation",
        f"{BUSI} scheduler.name=plateau scheduler.interval=epoch monitor=val/loss monitor_mode=min",
    ),
    f"{BUSI} scheduler.name=plateau scheduler.interval=epoch trainer.limit_val_batches=0": (
        "no plateau is detected",
        f"{BUSI} scheduler.name=cosine trainer.limit_val_batches=0",
    ),
    f"{FIELDS} monitor=val/training_loss": (
        "take monitor_mode=min",
        f"{FIELDS} monitor=val/training_loss monitor_mode=min",
    ),
}


def parsed(line: str):
    return parse_train(compose("train", line.split(), CONF), CHOICES)


@pytest.mark.parametrize("line", CASES)
def test_what_does_not_fit_is_refused_and_its_neighbor_is_not(line: str):
    words, neighbor = CASES[line]
    with pytest.raises(ConfigError) as caught:
        parsed(line)
    assert words in str(caught.value)
    parsed(neighbor)


@pytest.mark.parametrize(
    ("protocol", "monitor"),
    [("[image,dataset]", "val/iou"), ("dataset", "val/iou_dataset"), ("[paper,image]", "val/iou_batch")],
)
def test_the_first_protocol_chooses_the_checkpoint(protocol: str, monitor: str):
    assert parsed(f"{BUSI} metrics.protocol={protocol}").monitor == monitor
    assert main_metric("classification", ["paper"]) == "val/acc1"


def test_one_protocol_is_a_list_of_one():
    assert parsed(f"{BUSI} metrics.protocol=paper").metrics.protocol == ["paper"]


@pytest.mark.parametrize(
    ("line", "override", "reason"),
    [
        ("", "metrics.hd95=exclude", "it is for images with masks"),
        (BUSI, "metrics.per_class=true", "there is one foreground class"),
        (BUSI, "loss.gamma=1", "only the focal loss"),
        (BUSI, "loss.alpha=0.3", "only the Tversky loss"),
        (BUSI, "scheduler.patience=3", "only the plateau schedule"),
        (BUSI, "scheduler.scale_min_lr=false", "all parameters have one learning rate"),
    ],
)
def test_settings_without_effect_are_noted(line: str, override: str, reason: str):
    (note,) = notes(parsed(f"{line} {override}"), [override])
    assert reason in note
