"""Kinds of masks, thresholds and what is measured, in real training runs."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kanvision.callbacks import BestCheckpoint
from kanvision.checkpoints import load_checkpoint
from kanvision.losses import SEGMENTATION_LOSSES
from kanvision.metrics import border_distances, object_tallies
from kanvision.tasks import SegmentationTask

from .tiny_problem import tiny_trainer

IGNORED = 255
HEADS = {"binary": (1, 2), "multiclass": (3,), "multilabel": (2,)}


class Shapes(torch.utils.data.Dataset):
    """Noisy images whose first two channels are high where two kinds of rectangles lie, some image without.

    The foreground is made of few pixels that the network cannot be sure of, so that 0.5 is a bad threshold.
    """

    def __init__(self, size: int, seed: int, mode: str, shift: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        planes = torch.zeros(size, 2, 12, 14)
        for image in range(1, size):
            for plane in planes[image]:
                top, left = torch.randint(8, (2,), generator=generator).tolist()
                plane[top : top + 4, left : left + 5] = 1
        noise = torch.randn(size, 3, 12, 14, generator=generator)
        self.images = noise
        self.images[:, :2] += 1.2 * planes + shift
        labels = {"multilabel": planes, "binary": planes[:, 0], "multiclass": planes[:, 0] + planes[:, 1] * 2}
        self.masks = labels[mode].long().clamp(max=2)

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self.images[index], "mask": self.masks[index], "index": index}


class Data(pl.LightningDataModule):
    def __init__(self, mode: str, test_shift: float = 0.0) -> None:
        super().__init__()
        self.mode, self.test_shift = mode, test_shift

    def train_dataloader(self) -> DataLoader:
        return DataLoader(Shapes(24, 0, self.mode), batch_size=6)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(Shapes(9, 1, self.mode), batch_size=4)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(Shapes(9, 2, self.mode, self.test_shift), batch_size=4)


def task(mode: str, num_classes: int, model: nn.Module | None = None, **changes: Any) -> SegmentationTask:
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "optimizer": {"name": "adamw", "lr": 0.03, "weight_decay": 0.0},
        "scheduler": {"name": "constant", "warmup_epochs": 0},
        "loss": {"name": "ce_dice" if mode == "multiclass" else "bce"},
        "metrics": {"hd95": "diagonal"},
    }
    net = nn.Conv2d(3, num_classes, 3, padding=1) if model is None else model
    return SegmentationTask(net, num_classes=num_classes, mode=mode, **{**options, **changes})


CASES = [(mode, heads) for mode, counts in HEADS.items() for heads in counts]


@pytest.mark.parametrize(("mode", "num_classes"), CASES)
def test_each_kind_of_masks_trains_and_is_measured(tmp_path, mode: str, num_classes: int):
    learner = task(mode, num_classes)
    trainer = tiny_trainer(tmp_path, max_epochs=8)
    trainer.fit(learner, datamodule=Data(mode))
    assert float(trainer.callback_metrics["val/iou_dataset"]) > 0.25
    assert "val/hd95" not in trainer.callback_metrics
    (result,) = trainer.test(learner, datamodule=Data(mode), verbose=False)
    data = Shapes(9, 2, mode)
    with torch.inference_mode():
        logits = learner.eval()(data.images)
        probabilities = learner.predictions(logits)
    assert probabilities.shape == logits.shape
    if mode == "multiclass":
        found = probabilities.argmax(dim=1)
        planes = [torch.stack([x == 1, x == 2], dim=1) for x in (found, data.masks)]
    else:
        found = (probabilities[:, -1:] if mode == "binary" else probabilities) > 0.5
        planes = [found, data.masks.reshape(found.shape) == 1]
    both, either = (planes[0] & planes[1]).sum((0, 2, 3)), (planes[0] | planes[1]).sum((0, 2, 3))
    assert result["test/iou_dataset"] == pytest.approx(float((both / either).mean()), abs=1e-6)
    distances = border_distances(*planes).nan_to_num(nan=0.0, posinf=(12**2 + 14**2) ** 0.5)
    counted = torch.stack([a.flatten(2).any(2) | b.flatten(2).any(2) for a, b in [planes]])[0]
    means = (distances * counted).sum(1) / counted.sum(1).clamp(min=1)
    assert result["test/hd95"] == pytest.approx(float(means.mean()), abs=1e-4)


def test_one_logit_and_two_are_judged_alike():
    data = Shapes(9, 2, "binary")
    batch = {"image": data.images, "mask": data.masks}
    two, one = task("binary", 2), task("binary", 1)
    logits = torch.randn(9, 2, 12, 14, generator=torch.Generator().manual_seed(0))
    a = two.test_metric_inputs(logits, batch)
    b = one.test_metric_inputs(logits[:, 1:] - logits[:, :1], batch)
    for key, value in a.items():
        torch.testing.assert_close(value, b[key])


def test_the_threshold_is_found_by_validation_kept_and_used_by_tests(tmp_path):
    learner = task("binary", 1, metrics={"threshold": "search"})
    best = BestCheckpoint(tmp_path, "val/iou")
    trainer = tiny_trainer(tmp_path, max_epochs=6, callbacks=[best])
    trainer.fit(learner, datamodule=Data("binary"))
    (found,) = learner.thresholds
    assert found != 0.5
    assert float(trainer.callback_metrics["val/threshold"]) == pytest.approx(found)
    kept = load_checkpoint(best.best_model_path)["kanvision"]["thresholds"]
    assert isinstance(kept, list)
    assert kept != [0.5]
    # another process: the threshold comes from the file
    other = task("binary", 1, metrics={"threshold": "search"})
    (result,) = trainer.test(other, datamodule=Data("binary"), ckpt_path=best.best_model_path, verbose=False)
    assert list(other.thresholds) == kept
    data = Shapes(9, 2, "binary")
    with torch.inference_mode():
        p = other.eval()(data.images).sigmoid()[:, 0]
    for threshold in (kept[0], 0.5):
        a, b = p > threshold, data.masks == 1
        iou = float((a & b).sum() / (a | b).sum())
        assert (result["test/iou_dataset"] == pytest.approx(iou, abs=1e-6)) is (threshold == kept[0])
    # the scores of the validations within training are at 0.5
    trainer.validate(other, datamodule=Data("binary"), verbose=False)
    val = Shapes(9, 1, "binary")
    assert "threshold" in other.metric_notes()
    assert f"{kept[0]:g}" in other.metric_notes()["threshold"]
    with torch.inference_mode():
        a, b = other.eval()(val.images).sigmoid()[:, 0] > kept[0], val.masks == 1
    assert float(trainer.callback_metrics["val/iou_dataset"]) == pytest.approx(
        float((a & b).sum() / (a | b).sum())
    )


@pytest.mark.parametrize("stage", ["test", "validate"])
def test_nothing_but_training_moves_the_threshold(tmp_path, stage: str):
    """Images of another brightness, for which another threshold is better, leave it where it is."""
    learner = task("binary", 1, metrics={"threshold": "search"})
    trainer = tiny_trainer(tmp_path, max_epochs=2)
    trainer.fit(learner, datamodule=Data("binary"))
    found = learner.thresholds
    shifted = Data("binary", test_shift=3.0)
    measure = getattr(trainer, stage)
    measure(learner, dataloaders=shifted.test_dataloader(), verbose=False)
    assert learner.thresholds == found
    assert learner.extra_state()["thresholds"] == list(found)
    again = task("binary", 1, learner.model, metrics={"threshold": "search"})
    again.scheduler_options = {"name": "constant", "warmup_epochs": 0}
    again.optimizer_options = {"name": "sgd", "lr": 1e-12, "weight_decay": 0.0}
    tiny_trainer(tmp_path, max_epochs=1).fit(
        again, Data("binary").train_dataloader(), shifted.test_dataloader()
    )
    assert again.thresholds != found  # as validation images, they do move it


def test_every_class_of_multilabel_masks_has_its_threshold(tmp_path):
    class Faint(nn.Module):
        """The second class is named with lower probabilities."""

        def __init__(self) -> None:
            super().__init__()
            self.offset = nn.Parameter(torch.tensor([0.0, -3.0])[:, None, None])

        def forward(self, x: Tensor) -> Tensor:
            return 2 * x[:, :2] + self.offset

    learner = task("multilabel", 2, Faint(), metrics={"threshold": "search", "per_class": True})
    learner.optimizer_options = {"name": "sgd", "lr": 1e-12, "weight_decay": 0.0}
    trainer = tiny_trainer(tmp_path, max_epochs=1)
    trainer.fit(learner, datamodule=Data("multilabel"))
    first, second = learner.thresholds
    assert second < first - 0.1
    for i, value in enumerate(learner.thresholds, 1):
        assert float(trainer.callback_metrics[f"val/threshold_class{i}"]) == pytest.approx(value)
        assert 0 < float(trainer.callback_metrics[f"val/iou_class{i}"]) < 1


def test_objects_come_from_the_batch_or_from_the_mask():
    data = Shapes(4, 2, "binary")
    learner = task("binary", 1, metrics={"objects": True})
    logits = torch.randn(4, 1, 12, 14, generator=torch.Generator().manual_seed(0))
    instances = data.masks * torch.arange(1, 15)
    batch = {"image": data.images, "mask": data.masks, "instances": instances}
    tallies = learner.test_metric_inputs(logits, batch)["tallies"]
    assert torch.equal(tallies, object_tallies(logits[:, 0] > 0, instances))
    del batch["instances"]
    assert not torch.equal(learner.test_metric_inputs(logits, batch)["tallies"], tallies)
    names = {"test/object_f1", "test/object_dice", "test/object_hausdorff"}
    assert names <= set(learner.test_metrics.keys())
    assert not any("object_" in name for name in learner.val_metrics)


def test_masks_of_another_size_are_scored_at_theirs():
    learner = task("binary", 1)
    logits = torch.randn(1, 1, 12, 14)
    mask = torch.randint(2, (1, 31, 20))
    measured = learner.test_metric_inputs(logits, {"image": torch.zeros(1, 3, 12, 14), "mask": mask})
    large = nn.functional.interpolate(logits, (31, 20), mode="bilinear")
    assert torch.equal(measured["preds"], (large[:, 0] > 0).long())
    assert measured["diagonal"] == pytest.approx((31**2 + 20**2) ** 0.5)


@pytest.mark.parametrize(("mode", "num_classes"), CASES)
def test_ignored_pixels_neither_train_nor_count(mode: str, num_classes: int):
    name = next(name for name, modes in SEGMENTATION_LOSSES.items() if mode in modes)
    learner = task(mode, num_classes, nn.Identity(), ignore_index=IGNORED, loss={"name": name})
    logits = torch.randn(9, num_classes, 12, 14, generator=torch.Generator().manual_seed(0))
    mask = Shapes(9, 2, mode).masks
    void = mask.clone()
    void[..., 9:] = IGNORED
    batch = {"image": logits, "mask": void}
    part = {"image": logits[..., :9], "mask": mask[..., :9]}
    torch.testing.assert_close(learner.training_loss(batch), learner.training_loss(part))
    a, b = learner.test_metric_inputs(logits, batch), learner.test_metric_inputs(logits[..., :9], part)
    for key in ("counts", "value", "training_loss"):
        torch.testing.assert_close(a[key], b[key])
    other = logits.clone()
    other[..., 9:] = 5.0
    torch.testing.assert_close(
        learner.test_metric_inputs(other, batch)["distances"], a["distances"], equal_nan=True
    )


def test_protocols_are_told():
    learner = task("binary", 1, metrics={"protocol": ["paper"], "hd95": "exclude", "objects": True})
    lines = learner.metric_notes()
    assert lines["iou_batch, f1_batch, precision_batch, recall_batch"].startswith(
        "paper: pixels of each batch"
    )
    assert "left out" in lines["hd95"]
    assert lines["threshold"] == "0.5"
    assert task("multiclass", 3).metric_notes().keys() == {
        "iou, f1, precision, recall",
        "iou_dataset, f1_dataset, precision_dataset, recall_dataset",
        "hd95",
    }


@pytest.mark.parametrize(
    ("mode", "num_classes", "changes", "message"),
    [
        ("binary", 3, {}, r"model\.num_classes=3: binary masks need 1 or 2"),
        ("multiclass", 1, {}, r"model\.num_classes=1: multiclass masks need at least 2, background included"),
        ("multiclass", 3, {"metrics": {"threshold": 0.4}}, r"metrics\.threshold=0.4: of multiclass masks"),
        ("multilabel", 2, {"metrics": {"objects": True}}, r"metrics\.objects=True: .* not for multilabel"),
        ("multiclass", 3, {"loss": {"name": "bce_dice"}}, r"not defined for multiclass masks"),
    ],
)
def test_what_does_not_fit_is_named(mode: str, num_classes: int, changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        task(mode, num_classes, **changes)
