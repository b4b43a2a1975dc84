"""The segmentation task: it learns, measures under its protocols, and refuses what it cannot do."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kanvision.metrics import pixel_counts, segmentation_metrics
from kanvision.tasks import SegmentationTask, create_task

from .tiny_problem import tiny_trainer

NUM_CLASSES = 3


class Stripes(torch.utils.data.Dataset):
    """Images whose channels are the one-hot mask, in noise."""

    def __init__(self, size: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randint(NUM_CLASSES, (size, 8, 1), generator=generator)
        self.masks = rows.expand(size, 8, 10).contiguous()
        clean = nn.functional.one_hot(self.masks, NUM_CLASSES).movedim(-1, 1).float()
        self.images = clean + 0.5 * torch.randn(clean.shape, generator=generator)

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self.images[index], "mask": self.masks[index], "index": index}


class StripesData(pl.LightningDataModule):
    def train_dataloader(self) -> DataLoader:
        return DataLoader(Stripes(24, 0), batch_size=6)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(Stripes(7, 1), batch_size=3)

    def test_dataloader(self) -> DataLoader:
        return self.val_dataloader()


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, NUM_CLASSES, 1))


def task(model: nn.Module | None = None, **changes: Any) -> SegmentationTask:
    options: dict[str, Any] = {
        "num_classes": NUM_CLASSES,
        "optimizer": {"name": "adamw", "lr": 0.02, "weight_decay": 0.0},
        "scheduler": {"name": "constant", "warmup_epochs": 0},
        "loss": {"name": "ce_dice", "label_smoothing": 0.0},
        "mixup": {"mixup_alpha": 0.0, "cutmix_alpha": 0.0, "prob": 1.0},
    }
    return create_task("segmentation", network() if model is None else model, **{**options, **changes})


def test_training_learns_and_measures(tmp_path):
    trainer = tiny_trainer(tmp_path, max_epochs=6)
    learner = task()
    before = learner.training_loss(next(iter(StripesData().train_dataloader()))).item()
    trainer.fit(learner, datamodule=StripesData())
    assert float(trainer.callback_metrics["train/loss"]) < before / 2
    assert float(trainer.callback_metrics["val/iou"]) > 0.8
    (result,) = trainer.test(learner, datamodule=StripesData(), verbose=False)
    overlap = {f"{score}{end}" for score in ("iou", "f1", "precision", "recall") for end in ("", "_dataset")}
    assert set(result) == {f"test/{name}" for name in overlap | {"loss", "training_loss"}}
    data = Stripes(7, 1)
    with torch.inference_mode():
        logits = learner.eval()(data.images)
    expected = segmentation_metrics(NUM_CLASSES - 1)
    expected.update(counts=pixel_counts(logits.argmax(dim=1), data.masks, NUM_CLASSES))
    for name, value in expected.compute().items():
        assert result[f"test/{name}"] == pytest.approx(float(value), abs=1e-6)
    # over all pixels, though the last batch is smaller
    loss = float(nn.functional.cross_entropy(logits, data.masks))
    assert result["test/loss"] == pytest.approx(loss, rel=1e-5)
    parts = [
        (float(learner.loss(x, t)), len(x)) for x, t in zip(logits.split(3), data.masks.split(3), strict=True)
    ]
    training_loss = sum(value * size for value, size in parts) / 7
    assert result["test/training_loss"] == pytest.approx(training_loss, rel=1e-5)


def test_predictions_are_probabilities_of_each_pixel():
    batch = {"image": torch.randn(2, 3, 5, 7)}
    probabilities = task().eval().predict_step(batch, 0)
    assert probabilities.shape == (2, NUM_CLASSES, 5, 7)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2, 5, 7))


def test_half_precision_output_is_scored_in_single():
    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.bfloat16()

    batch = {"image": torch.randn(2, NUM_CLASSES, 4, 4), "mask": torch.randint(NUM_CLASSES, (2, 4, 4))}
    learner = task(Half())
    assert learner.training_loss(batch).dtype == torch.float32
    assert learner.predict_step(batch, 0).dtype == torch.float32


def test_losses_of_deep_supervision_are_summed_and_the_first_logits_count(tmp_path):
    class Supervised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.heads = nn.ModuleList(nn.Conv2d(3, NUM_CLASSES, 1) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
            logits = tuple(head(x) for head in self.heads)
            return logits if self.training else logits[0]

    learner = task(Supervised())
    batch = next(iter(StripesData().train_dataloader()))
    logits = learner.model(batch["image"])
    expected = sum(learner.loss(part, batch["mask"]) for part in logits)
    torch.testing.assert_close(learner.training_loss(batch), expected)
    learner.training_loss(batch).backward()
    assert not [name for name, p in learner.model.named_parameters() if p.grad is None]
    torch.testing.assert_close(learner(batch["image"]), logits[0])
    assert learner.eval().predict_step(batch, 0).shape == (6, NUM_CLASSES, 8, 10)
    trainer = tiny_trainer(tmp_path, max_epochs=1)
    trainer.fit(learner, datamodule=StripesData())
    assert "val/iou" in trainer.callback_metrics


def test_a_pixel_without_a_finite_output_is_wrong():
    logits = torch.zeros(1, NUM_CLASSES, 2, 2)
    logits[0, 1] = 1.0
    logits[0, 2, 0, 0] = float("nan")
    batch = {"image": torch.zeros(1, 3, 2, 2), "mask": torch.ones(1, 2, 2, dtype=torch.long)}
    assert task().metric_inputs(logits, batch)["preds"].tolist() == [[[-1, 1], [1, 1]]]


@pytest.mark.parametrize("key", ["mixup_alpha", "cutmix_alpha"])
def test_masks_are_not_mixed(key: str):
    with pytest.raises(ValueError, match=rf"mixup\.{key}=0.5: masks are not mixed"):
        task(mixup={key: 0.5})
