"""What layers and penalties add to the loss arrives in training, and nowhere else."""

import copy
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader

from kanvision.callbacks import EMAWeights
from kanvision.layers import KANConv2d, MoEKANConv2d
from kanvision.tasks import ClassificationTask, SegmentationTask, Task

from .tiny_problem import NUM_CLASSES, Blobs, tiny_trainer

PENALTY = {"weight_l1": 1e-3, "weight_l2": 0.0, "entropy": 1e-2, "activation_l1": 0.5, "activation_l2": 0.25}


class Net(nn.Module):
    """A KAN convolution, a mixture with a loss of its own, and logits of an image or of its pixels."""

    def __init__(self, pixels: bool) -> None:
        super().__init__()
        self.pixels = pixels
        self.kan = KANConv2d(3, 4, 3, padding=1, basis="gram", norm="layer", act="silu")
        self.moe = MoEKANConv2d(4, 4, 1, basis="gram", num_experts=3, k=1, noisy=False, loss_coef=0.1)
        self.head = nn.Conv2d(4, NUM_CLASSES, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.head(self.moe(self.kan(x)))
        return y if self.pixels else y.mean((2, 3))


def make(kind: type[Task], **options: Any) -> Task:
    torch.manual_seed(0)
    options = {
        "num_classes": NUM_CLASSES,
        "optimizer": {"name": "sgd", "lr": 0.1, "weight_decay": 0.0},
        "scheduler": {"name": "constant", "warmup_epochs": 0},
        "loss": {"name": "cross_entropy"},
        **options,
    }
    return kind(Net(pixels=kind is SegmentationTask), **options)


def batches(kind: type[Task]) -> DataLoader:
    data = Blobs(8, 3, augment=False)
    samples = [data[index] for index in range(8)]
    if kind is SegmentationTask:
        samples = [{"image": s["image"], "mask": s["image"].argmax(0) % NUM_CLASSES} for s in samples]
    return DataLoader(samples, batch_size=8)


class Losses(Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
        self.values.append(outputs["loss"].item())


def fit(task: Task, folder: Path, **options: Any) -> tuple[list[float], dict[str, float]]:
    losses = Losses()
    callbacks = [losses, *options.pop("callbacks", [])]
    trainer = tiny_trainer(folder, max_epochs=1, callbacks=callbacks, **options)
    trainer.fit(task, batches(type(task)), batches(type(task)))
    return losses.values, {name: float(value) for name, value in trainer.callback_metrics.items()}


@pytest.mark.parametrize("kind", [ClassificationTask, SegmentationTask])
@pytest.mark.parametrize("auxiliary", [0.0, 2.0])
@pytest.mark.parametrize("penalty", [None, PENALTY])
def test_the_loss_is_the_sum_of_its_parts(
    tmp_path: Path, kind: type[Task], auxiliary: float, penalty: dict[str, float] | None
) -> None:
    task = make(kind, auxiliary=auxiliary, penalty=penalty)
    net, outputs = copy.deepcopy(task.model), {}
    for name in ("kan", "moe"):
        net.get_submodule(name)._forward_hooks.clear()
        net.get_submodule(name).register_forward_hook(lambda m, _, y, name=name: outputs.update({name: y}))
    (batch,) = batches(kind)
    target = batch["mask" if kind is SegmentationTask else "target"]
    plain = F.cross_entropy(net(batch["image"]), target)
    balance = balance_of(net, outputs["kan"])
    assert balance > 0
    expected = auxiliary * balance
    if penalty is not None:
        maps = outputs.values()
        activation = sum(0.5 * y.abs().mean() + 0.25 * y.square().mean() for y in maps)
        layers = [net.kan, *net.moe.experts]
        weights = sum(layer.basis_weight.abs().sum() + layer.base_weight.abs().sum() for layer in layers)
        expected = expected + auxiliary * activation + 1e-3 * weights
        for layer in layers:
            size = layer.basis_weight.unflatten(1, (-1, layer.basis.num_basis)).abs().mean(2)
            expected = expected + 1e-2 * torch.distributions.Categorical(size.flatten()).entropy()
    losses, metrics = fit(task, tmp_path)
    assert losses[0] == pytest.approx((plain + expected).item(), rel=1e-5)
    assert metrics["train/loss"] == pytest.approx(losses[0])
    assert metrics["train/auxiliary"] == pytest.approx(expected.item(), rel=1e-4)


def balance_of(net: Net, maps: torch.Tensor) -> torch.Tensor:
    """The gate's loss from its own definition: squared variations of importance and load, times 0.1."""
    logits = maps.mean((2, 3)) @ net.moe.gate.w_gate
    shares = logits.softmax(1)
    gates = torch.zeros_like(shares).scatter(1, shares.argmax(1, keepdim=True), 1.0)
    losses = []
    for total in (gates.sum(0), (gates > 0).float().sum(0)):
        losses.append(total.var() / (total.mean() ** 2 + 1e-10))
    return 0.1 * sum(losses)


def test_nothing_is_logged_where_nothing_is_added(tmp_path: Path) -> None:
    task = make(ClassificationTask, penalty=dict.fromkeys(PENALTY, 0.0))
    assert task.penalty is None
    task.model.moe = nn.Identity()
    _, metrics = fit(task, tmp_path)
    assert "train/auxiliary" not in metrics


def test_a_moving_average_and_a_checkpoint_do_not_mind(tmp_path: Path) -> None:
    pl.seed_everything(0, verbose=False)
    task = make(ClassificationTask, penalty=PENALTY)
    _, metrics = fit(task, tmp_path, callbacks=[EMAWeights(0.5)])
    assert metrics["train/auxiliary"] > 0
    assert set(task.state_dict()) == set(make(ClassificationTask).state_dict())


def test_weights_shrink(tmp_path: Path) -> None:
    sizes = {}
    for coefficient in (0.0, 0.05):
        task = make(ClassificationTask, penalty={"weight_l1": coefficient})
        fit(task, tmp_path)
        sizes[coefficient] = task.model.kan.basis_weight.abs().sum().item()
    assert sizes[0.05] < 0.95 * sizes[0.0]
