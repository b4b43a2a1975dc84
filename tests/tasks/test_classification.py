"""The classification task in real training runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import Callback
from torch import nn
from torchmetrics.functional.classification import multiclass_calibration_error

from kanvision.checkpoints import load_checkpoint, load_state_dict
from kanvision.tasks import NonFiniteError

from .tiny_problem import NUM_CLASSES, NUM_TEST, Blobs, TinyData, TinyNet, tiny_task, tiny_trainer

SCHEDULER = {"name": "cosine", "warmup_epochs": 1, "warmup_lr": 1e-4, "interval": "step"}


def fit(task: pl.LightningModule, folder: Path, **options: Any) -> pl.Trainer:
    trainer = tiny_trainer(folder, **options)
    trainer.fit(task, datamodule=TinyData())
    return trainer


def test_learns_and_logs_exactly_the_promised_names(tmp_path: Path) -> None:
    pl.seed_everything(1, verbose=False)
    task = tiny_task(TinyNet(0.0), mixup={}, scheduler={**SCHEDULER, "interval": "epoch"})
    trainer = fit(task, tmp_path, max_epochs=12)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    kinds = ("loss", "acc1", "acc5", "ece")
    assert set(metrics) == {"train/loss", "train/loss_step", "train/lr", *(f"val/{kind}" for kind in kinds)}
    assert metrics["val/acc1"] > 0.5  # by chance 1/7
    scores = trainer.test(task, datamodule=TinyData(), verbose=False)[0]
    assert set(scores) == {f"test/{kind}" for kind in kinds}


def test_scores_equal_plain_formulas_over_all_images(tmp_path: Path) -> None:
    """Also where the last batch is smaller than the others."""
    torch.manual_seed(0)
    task = tiny_task().eval()
    scores = tiny_trainer(tmp_path).test(task, datamodule=TinyData(), verbose=False)[0]
    data = Blobs(NUM_TEST, 2, augment=False)
    with torch.no_grad():
        logits = task(data.images)
    ranks = (logits > logits.gather(1, data.targets[:, None])).sum(1)
    expected = {
        "loss": F.cross_entropy(logits, data.targets),
        "acc1": (ranks < 1).float().mean(),
        "acc5": (ranks < 5).float().mean(),
        "ece": multiclass_calibration_error(logits.softmax(1), data.targets, NUM_CLASSES, n_bins=15),
    }
    assert scores == pytest.approx(
        {f"test/{name}": float(value) for name, value in expected.items()}, abs=1e-6
    )


class Nested(TinyNet):
    """Gives the logits of half its classifier too, in training."""

    def forward(self, x: torch.Tensor) -> Any:
        logits = super().forward(x)
        return (logits / 2, logits) if self.training else logits


def test_losses_of_several_logits_are_summed() -> None:
    torch.manual_seed(0)
    task = tiny_task(Nested(0.0), mixup={})
    data = Blobs(8, 2, augment=False)
    batch = {"image": data.images, "target": data.targets}
    with torch.no_grad():
        half, whole = task(batch["image"])
        expected = task.loss(half, batch["target"]) + task.loss(whole, batch["target"])
        torch.testing.assert_close(task.training_loss(batch), expected)
        task.eval()
        assert task.predictions(task(batch["image"])).shape == (8, NUM_CLASSES)


class Batches(Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []
        self.sizes: list[int] = []
        self.rates: list[float] = []
        self.logged: list[float] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(outputs["loss"].item())
        self.sizes.append(len(batch["image"]))

    def on_before_optimizer_step(self, trainer: pl.Trainer, *_: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_training_loss_is_the_mean_over_images(tmp_path: Path) -> None:
    batches = Batches()
    trainer = fit(tiny_task(), tmp_path, max_epochs=1, callbacks=[batches])
    assert batches.sizes == [5, 5, 5, 5, 5, 2]
    mean = np.average(batches.losses, weights=batches.sizes)
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(mean, abs=1e-6)


@pytest.mark.parametrize(("interval", "accumulate"), [("epoch", 1), ("step", 1), ("step", 4), ("epoch", 4)])
def test_rates_follow_the_schedule(tmp_path: Path, interval: str, accumulate: int) -> None:
    """6 batches in an epoch; by fours they make two optimizer steps."""
    batches = Batches()
    scheduler = {**SCHEDULER, "interval": interval, "min_lr": 0.001}
    task = tiny_task(scheduler=scheduler, optimizer={"name": "sgd", "lr": 0.1})
    fit(task, tmp_path, max_epochs=4, callbacks=[batches], accumulate_grad_batches=accumulate)
    steps = 6 if accumulate == 1 else 2
    times = [i // steps if interval == "epoch" else i / steps for i in range(4 * steps)]
    expected = [
        1e-4 + (0.1 - 1e-4) * t if t < 1 else 0.001 + 0.099 * (1 + np.cos(np.pi * t / 4)) / 2 for t in times
    ]
    assert batches.rates == pytest.approx(expected, rel=1e-9)


class Recorder(nn.Module):
    """Remembers what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 36, NUM_CLASSES)
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.detach().clone())
        return self.head(x.flatten(1))


def batch_of(size: int) -> dict[str, torch.Tensor]:
    data = Blobs(size, 3, augment=False)
    return {"image": data.images, "target": data.targets, "index": torch.arange(size)}


@pytest.mark.parametrize("size", [1, 2, 5, 6])
@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_images_are_mixed_with_their_weights(size: int, mode: str) -> None:
    """With one distinct constant image per class, the mixed image tells what the target must be."""
    mixup = {"mixup_alpha": 1.0, "cutmix_alpha": 0.0, "mode": mode}
    task = tiny_task(Recorder(), mixup=mixup, loss={"name": "cross_entropy", "label_smoothing": 0.0})
    target = torch.arange(size)
    images = torch.zeros(size, NUM_CLASSES, 2, 2)
    images[target, target] = 1.0
    before = images.clone()
    np.random.seed(0)
    mixed, weights = task._mix(task.mixup, images, target)
    assert torch.equal(images, before)
    assert torch.allclose(mixed[:, :, 0, 0], weights, atol=1e-6)
    assert torch.allclose(weights.sum(1), torch.ones(size), atol=1e-6)
    if size > 1:
        assert not torch.equal(mixed, before)
    if size % 2:
        assert torch.equal(mixed[-1], before[-1])


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true", "16-true", "64-true"])
@pytest.mark.parametrize("mode", ["batch", "elem"])
@pytest.mark.parametrize("loss", ["cross_entropy", "bce"])
def test_mixed_targets_are_exact_in_any_precision(
    tmp_path: Path, precision: str, mode: str, loss: str
) -> None:
    mixup = {"mixup_alpha": 0.8, "cutmix_alpha": 0.0, "mode": mode}
    task = tiny_task(Recorder(), mixup=mixup, loss={"name": loss, "label_smoothing": 0.1})
    given: list[tuple[torch.Tensor, torch.Tensor]] = []
    task.loss.register_forward_pre_hook(lambda _, values: given.append(values))
    fit(task, tmp_path, max_epochs=1, limit_val_batches=0, limit_train_batches=2, precision=precision)
    wanted = torch.float64 if precision == "64-true" else torch.float32
    for (logits, weights), images in zip(given, task.model.seen, strict=True):
        assert weights.dtype == wanted
        assert torch.allclose(weights.sum(1), torch.ones(5, dtype=wanted), atol=1e-6)
        assert weights.min() >= 0.1 / NUM_CLASSES - 1e-6
        assert logits.dtype == wanted
        assert images.dtype == (torch.float32 if "true" not in precision else task.model.head.weight.dtype)


def test_evaluation_does_not_mix(tmp_path: Path) -> None:
    task = tiny_task(Recorder())
    tiny_trainer(tmp_path).test(task, datamodule=TinyData(), verbose=False)
    assert torch.equal(torch.cat(task.model.seen), Blobs(NUM_TEST, 2, augment=False).images)
    task.model.seen.clear()
    task.training_loss(batch_of(6))
    assert not torch.equal(task.model.seen[0], batch_of(6)["image"])


def smoothed(target: torch.Tensor, smoothing: float) -> torch.Tensor:
    return F.one_hot(target, NUM_CLASSES) * (1 - smoothing) + smoothing / NUM_CLASSES


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixup", [{}, {"mixup_alpha": 1.0, "prob": 0.0}])
@pytest.mark.parametrize("name", ["cross_entropy", "bce"])
def test_losses_equal_plain_formulas(name: str, smoothing: float, mixup: dict[str, float]) -> None:
    """Mixing with probability 0 is another path to the same loss."""
    task = tiny_task(TinyNet(0.0), loss={"name": name, "label_smoothing": smoothing}, mixup=mixup).eval()
    batch = batch_of(6)
    logits, q = task(batch["image"]), smoothed(batch["target"], smoothing)
    if name == "bce":
        expected = -(q * F.logsigmoid(logits) + (1 - q) * F.logsigmoid(-logits)).mean()
    else:
        expected = -(q * logits.log_softmax(1)).sum(1).mean()
    assert task.training_loss(batch).item() == pytest.approx(expected.item(), abs=1e-6)


def test_predictions_are_probabilities(tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = tiny_task()
    data = TinyData()
    data.predict_dataloader = data.val_dataloader
    parts = tiny_trainer(tmp_path).predict(task, datamodule=data)
    probabilities = torch.cat(parts)
    assert probabilities.shape == (NUM_TEST, NUM_CLASSES)
    assert torch.allclose(probabilities.sum(1), torch.ones(NUM_TEST), atol=1e-6)
    assert torch.allclose(probabilities, task.eval()(Blobs(NUM_TEST, 2, False).images).softmax(1), atol=1e-6)


class NanNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * torch.full((len(x), NUM_CLASSES), float("nan"))


@pytest.mark.parametrize("stage", ["validate", "test", "fit"])
def test_a_network_without_numbers_has_no_score(stage: str, tmp_path: Path) -> None:
    logger = pl.loggers.CSVLogger(tmp_path)
    trainer = tiny_trainer(tmp_path, max_epochs=1, logger=logger)
    where = {"fit": "validation after epoch 0", "validate": "validation", "test": "test"}[stage]
    with pytest.raises(NonFiniteError, match=rf"^{where}: .* for \d+ of \d+ images, so there is no score"):
        getattr(trainer, stage)(tiny_task(NanNet()), datamodule=TinyData())
    logger.save()
    assert not [path for path in tmp_path.rglob("*.csv") if "acc1" in path.read_text()]


def test_one_infinite_output_is_enough_and_the_next_test_starts_anew(tmp_path: Path) -> None:
    class Infinite(TinyNet):
        spoilt = True

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = super().forward(x)
            return logits.index_fill(1, torch.tensor([0]), torch.inf) if self.spoilt else logits

    task, trainer = tiny_task(Infinite()), tiny_trainer(tmp_path)
    with pytest.raises(NonFiniteError, match=f"for {NUM_TEST} of {NUM_TEST} images"):
        trainer.test(task, datamodule=TinyData(), verbose=False)
    task.model.spoilt = False
    assert np.isfinite(trainer.test(task, datamodule=TinyData(), verbose=False)[0]["test/loss"])


def test_checkpoint_holds_the_configuration_and_clean_names(tmp_path: Path) -> None:
    config = {"model": {"name": "tiny", "size": 8}, "tuple": (1, None, 0.5), "list": [True]}
    task = tiny_task(config=config, channels_last=True, compile=True)
    assert task.model._compiled_call_impl is not None
    with torch.compiler.set_stance("force_eager"):
        trainer = fit(task, tmp_path, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    checkpoint = load_checkpoint(tmp_path / "a.ckpt")
    assert checkpoint["kanvision"]["config"] == config
    assert isinstance(checkpoint["kanvision"]["version"], str)
    assert set(checkpoint["state_dict"]) == {f"model.{name}" for name in TinyNet().state_dict()}
    other = TinyNet()
    load_state_dict(other, checkpoint)
    assert torch.equal(other.stem.weight, task.model.stem.weight)


def test_channels_last_gives_the_same_scores(tmp_path: Path) -> None:
    scores = []
    for channels_last in (False, True):
        torch.manual_seed(0)
        task = tiny_task(channels_last=channels_last)
        assert task.model.stem.weight.is_contiguous(memory_format=torch.channels_last) is channels_last
        scores.append(tiny_trainer(tmp_path).test(task, datamodule=TinyData(), verbose=False)[0])
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


@pytest.mark.parametrize(
    "bad", [{"path": Path("a")}, {"a": [np.float64(1.0)]}, {"net": nn.Identity()}, {1.5: {2}}]
)
def test_only_primitives_enter_a_checkpoint(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="to be loaded safely"):
        tiny_task(config=bad)


def test_training_data_of_unknown_length_is_refused(tmp_path: Path) -> None:
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self) -> Any:
            return iter([batch_of(1)])

    loader = torch.utils.data.DataLoader(Stream(), batch_size=None)
    with pytest.raises(ValueError, match="known length"):
        tiny_trainer(tmp_path).fit(tiny_task(), train_dataloaders=loader)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_other_precisions_train(tmp_path: Path, precision: str) -> None:
    trainer = fit(tiny_task(), tmp_path, max_epochs=1, precision=precision)
    assert torch.isfinite(trainer.callback_metrics["train/loss"])
    assert torch.isfinite(trainer.callback_metrics["val/loss"])
