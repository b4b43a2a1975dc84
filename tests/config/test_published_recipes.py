"""`python train.py model=<model> data=<data>` with no other word is the published run, line by line."""

from pathlib import Path

import pytest

from kanvision.config import compose, parse_train

CONF = Path(__file__).parents[2] / "conf"

# Yang and Wang 2024 (arXiv 2409.10594), table 11, and the released training command: 8 GPUs x 128 images.
KAT_IMAGENET = {
    "model.name": "kat_tiny_patch16_224",
    "model.act_init": "swish",
    "model.num_groups": 8,
    "model.init": "released",
    "model.attn_init": "mimetic",
    "model.num_classes": 1000,
    "model.img_size": 224,
    "model.drop_rate": 0.0,
    "model.drop_path_rate": 0.1,
    "data.img_size": 224,
    "data.crop_pct": 0.875,
    "data.interpolation": "bicubic",
    "data.mean": [0.485, 0.456, 0.406],
    "data.std": [0.229, 0.224, 0.225],
    "data.val_fraction": 0.0,
    "data.batch_size": 128,
    "recipe.batch_size": 1024,
    "optimizer.name": "adamw",
    "optimizer.lr": 1e-3,
    "optimizer.lr_scaling": "none",
    "optimizer.betas": (0.9, 0.999),
    "optimizer.eps": 1e-8,
    "optimizer.weight_decay": 0.05,
    "optimizer.decay_rationals": True,
    "optimizer.kan_lr": None,
    "optimizer.layer_decay": None,
    "scheduler.name": "cosine",
    "scheduler.interval": "epoch",
    "scheduler.warmup_epochs": 5.0,
    "scheduler.warmup_lr": 1e-5,
    "scheduler.min_lr": 0.0,
    "loss.name": "cross_entropy",
    "loss.label_smoothing": 0.1,
    "augment.crop": "random_resized",
    "augment.scale": (0.08, 1.0),
    "augment.ratio": (pytest.approx(3 / 4), pytest.approx(4 / 3)),
    "augment.interpolation": "random",
    "augment.hflip": 0.5,
    "augment.vflip": 0.0,
    "augment.auto_augment": "rand-m9-mstd0.5",
    "augment.random_affine": None,
    "augment.re_prob": 0.25,
    "augment.re_mode": "pixel",
    "augment.re_count": 1,
    "augment.num_repeats": 1,
    "mixup.mixup_alpha": 0.8,
    "mixup.cutmix_alpha": 1.0,
    "mixup.prob": 1.0,
    "mixup.switch_prob": 0.5,
    "mixup.mode": "batch",
    "ema.decay": 0.9999,
    "ema.warmup": False,
    "trainer.max_epochs": 300,
    "trainer.precision": "16-mixed",
    "trainer.matmul_precision": "high",
    "trainer.gradient_clip_val": None,
    "trainer.accumulate_grad_batches": 1,
    "seed": 42,
    "monitor": "val/acc1",
}

# Drokin 2024 (arXiv 2407.01092): the recipe of the 4- and 8-layer nets, as the authors' script has it.
CONVKAN_CIFAR = {
    "model.name": "convkan_8",
    "model.norm": "batch",
    "model.groups": 1,
    "model.drop_rate": 0.5,
    "model.layer_drop_rate": 0.25,
    "data.batch_size": 128,
    "data.mean": [0.5, 0.5, 0.5],
    "data.std": [0.5, 0.5, 0.5],
    "optimizer.name": "adamw",
    "optimizer.lr": 1e-4,
    "optimizer.weight_decay": 1e-5,
    "scheduler.name": "exponential",
    "scheduler.decay_rate": 0.975,
    "scheduler.decay_epochs": 1.0,
    "scheduler.interval": "epoch",
    "scheduler.warmup_epochs": 0.0,
    "loss.label_smoothing": 0.0,
    "augment.crop": "none",
    "augment.hflip": 0.5,
    "augment.auto_augment": "tv-cifar10+tv-imagenet+tv-svhn+tv-trivial",
    "trainer.max_epochs": 150,
    "trainer.precision": "16-mixed",
    "trainer.gradient_clip_val": None,
    "ema": None,
}
CONVKAN_MNIST = CONVKAN_CIFAR | {
    "data.mean": [0.5],
    "data.std": [0.5],
    "augment.hflip": 0.0,
    "augment.auto_augment": None,
    "augment.random_affine.degrees": 20.0,
    "augment.random_affine.translate": 0.1,
    "augment.random_affine.scale": (0.9, 1.1),
    "augment.color_jitter": 0.2,
}
RUNS = {
    ("model=kat", "data=imagenet"): KAT_IMAGENET,
    ("model=kat", "data=imagenet", "model.size=base"): KAT_IMAGENET
    | {"model.name": "kat_base_patch16_224", "model.drop_path_rate": 0.4},
    ("model=convkan", "data=cifar10"): CONVKAN_CIFAR,
    ("model=convkan", "data=cifar100"): CONVKAN_CIFAR,
    ("model=convkan", "data=mnist"): CONVKAN_MNIST,
}


@pytest.mark.parametrize(("words", "published"), RUNS.items(), ids=" ".join)
def test_composed_run_is_the_published_one(words, published):
    config = parse_train(compose("train", words, CONF))
    composed = {}
    for key in published:
        value = config
        for part in key.split("."):
            value = getattr(value, part)
        composed[key] = value
    assert composed == published


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_the_baseline_is_trained_as_kat_is(size):
    kat, vit = (
        parse_train(compose("train", [f"model={m}", "data=imagenet", f"model.size={size}"], CONF))
        for m in ("kat", "vit")
    )
    names = ("optimizer", "scheduler", "loss", "augment", "mixup", "ema", "trainer", "data")
    for name in names:
        assert getattr(kat, name) == getattr(vit, name)
    assert kat.model.drop_path_rate == vit.model.drop_path_rate
