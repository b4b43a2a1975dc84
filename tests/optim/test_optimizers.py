"""Every legal optimizer trains a KAN and goes on from a checkpoint as if never interrupted."""

import io

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from kanvision.layers import KANConv2d, KANLinear
from kanvision.optim import apply_settings, build_optimizer, group_settings
from kanvision.spec.optimizers import OPTIMIZERS
from tests.tasks.tiny_problem import NUM_CLASSES, tiny_task, tiny_trainer

SETTINGS = {"lr": 1e-3, "weight_decay": 0.01, "kan_lr": 5e-4}


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        KANConv2d(3, 4, 3, basis="gram", norm="batch", act="silu"),
        nn.Flatten(),
        KANLinear(64, NUM_CLASSES, basis="relu"),
    )


def images():
    return torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def two_steps(model, optimizer):
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model(images()), torch.arange(4)).backward()
        optimizer.step()


@pytest.mark.parametrize("name", [*OPTIMIZERS, "lookahead_AdamW", "lookahead_sgd", "lookahead_lion"])
def test_steps_and_exact_resumption(name):
    whole, file = network(), io.BytesIO()
    optimizer = build_optimizer(whole, name=name, **SETTINGS)
    start = {key: value.clone() for key, value in whole.named_parameters()}
    two_steps(whole, optimizer)
    torch.save([whole.state_dict(), optimizer.state_dict()], file)
    two_steps(whole, optimizer)
    for key, value in whole.named_parameters():
        assert value.isfinite().all(), key
        assert not torch.equal(value, start[key]), key

    file.seek(0)
    weights, state = torch.load(file, weights_only=True)  # as checkpoints are read
    rest = network()
    optimizer = build_optimizer(rest, name=name, **SETTINGS)
    settings = group_settings(optimizer)
    rest.load_state_dict(weights)
    optimizer.load_state_dict(state)
    apply_settings(optimizer, settings)
    torch.manual_seed(7)
    two_steps(rest, optimizer)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, rest.state_dict()[key]), key


def fit(name, folder, epochs, resume=None):
    options = {"optimizer": {"name": name, **SETTINGS}, "mixup": {}}
    task = tiny_task(network(), scheduler={"name": "constant", "warmup_epochs": 0}, **options)
    data = [{"image": image, "target": torch.tensor(i)} for i, image in enumerate(images())]
    trainer = tiny_trainer(folder, max_epochs=epochs, limit_val_batches=0)
    trainer.fit(task, DataLoader(data, batch_size=2), ckpt_path=resume, weights_only=True)
    return task


@pytest.mark.parametrize("name", ["muon", "adafactorbv", "lookahead_adamw"])
def test_resumption_in_the_trainer(tmp_path, name):
    whole = fit(name, tmp_path, 2)
    fit(name, tmp_path, 1).trainer.save_checkpoint(tmp_path / "half.ckpt")
    pl.seed_everything(7, verbose=False)
    rest = fit(name, tmp_path, 2, resume=tmp_path / "half.ckpt")
    for key, value in whole.state_dict().items():
        assert torch.equal(value, rest.state_dict()[key]), key
