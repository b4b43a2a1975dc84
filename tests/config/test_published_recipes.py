"""`python train.py model=<model> data=<data>` with no other word is the published run, line by line."""

from pathlib import Path

import pytest

from kanvision.config import compose, parse_train
from tests.covering import cover

CONF = Path(__file__).parents[2] / "conf"
RIVALS = ("attention_unet", "nested_unet", "unext", "rolling_unet", "u_mamba")

# Yang and Wang 2024 (arXiv 2409.10594), table 11, and the released training command: 8 GPUs x 128 images.
KAT_IMAGENET = {
    "model.name": "kat_tiny_patch16_224",
    "model.act_init": "swish",
    "model.act1_init": "identity",
    "model.init_from": None,
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
    "data.batch_size": None,
    "recipe.batch_size": 1024,
    "recipe.micro_batch_size": 128,
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
    "trainer.accumulate_grad_batches": None,
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
    "recipe.batch_size": 128,
    "data.mean": [0.5, 0.5, 0.5],
    "data.std": [0.5, 0.5, 0.5],
    "optimizer.name": "adamw",
    "optimizer.lr": 1e-4,
    "optimizer.weight_decay": 1e-5,
    "optimizer.decay_all": True,
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
# Bodner et al. 2024 (arXiv 2406.13155).
KKAN = {
    "model.name": "kkan_small",
    "basis.name": "bspline",
    "recipe.batch_size": 128,
    "data.mean": [0.5],
    "data.std": [0.5],
    "optimizer.name": "adamw",
    "optimizer.lr": 1e-3,
    "optimizer.weight_decay": 0.0,
    "optimizer.decay_all": True,
    "scheduler.name": "constant",
    "scheduler.warmup_epochs": 0.0,
    "augment.hflip": 0.0,
    "augment.auto_augment": None,
    "augment.random_affine": None,
    "loss.label_smoothing": 0.0,
    "ema": None,
    "trainer.max_epochs": 20,
}
# Li et al. 2024 (arXiv 2406.02918), as the authors' training script has it.
UKAN = {
    "model.name": "ukan_medium",
    "model.num_classes": 1,
    "model.num_layers": 3,
    "basis.name": "bspline",
    "data.mode": "binary",
    "data.img_size": 256,
    "data.preprocessing": "u_kan",
    "data.split": "published",
    "data.split_seed": 2981,
    "data.val_fraction": 0.0,
    "recipe.batch_size": 8,
    "data.eval_batch_size": None,
    "optimizer.name": "adam",
    "optimizer.lr": 1e-4,
    "optimizer.kan_lr": 1e-2,
    "optimizer.lr_scaling": "none",
    "optimizer.weight_decay": 1e-4,
    "optimizer.decay_all": True,
    "optimizer.layer_decay": None,
    "scheduler.name": "cosine",
    "scheduler.interval": "epoch",
    "scheduler.warmup_epochs": 0.0,
    "scheduler.min_lr": 1e-5,
    "scheduler.scale_min_lr": False,
    "loss.name": "bce_dice",
    "metrics.threshold": 0.5,
    "augment.crop": "none",
    "augment.hflip": 0.5,
    "augment.vflip": 0.5,
    "augment.rot90": 0.5,
    "augment.transpose": 0.0,
    "augment.brightness": 0.0,
    "augment.random_affine": None,
    "ema": None,
    "trainer.max_epochs": 400,
    "trainer.precision": "32-true",
    "trainer.gradient_clip_val": None,
    "trainer.accumulate_grad_batches": None,
    "monitor": "val/iou_batch",
}
# Rege Cambrin et al. 2024 (arXiv 2408.07040), configuration of the authors.
CROP_FIELDS = {
    "model.name": "ukan_crop",
    "model.num_classes": 2,
    "model.in_chans": 12,
    "data.mode": "binary",
    "data.img_size": 256,
    "recipe.batch_size": 16,
    "data.max_value": 1.0,
    "data.mean": [0.0] * 12,
    "data.std": [1.0] * 12,
    "optimizer.name": "adamw",
    "optimizer.lr": 1e-4,
    "optimizer.kan_lr": None,
    "optimizer.weight_decay": 1e-3,
    "optimizer.decay_all": True,
    "scheduler.name": "plateau",
    "scheduler.decay_rate": 0.2,
    "scheduler.patience": 5,
    "scheduler.min_lr": 1e-10,
    "scheduler.interval": "epoch",
    "loss.name": "generalized_dice",
    "augment.hflip": 0.5,
    "augment.vflip": 0.5,
    "augment.rot90": 0.0,
    "trainer.max_epochs": 150,
    "trainer.gradient_clip_val": 0.5,
    "trainer.precision": "32-true",
    "seed": 42,
    "monitor": "val/training_loss",
    "monitor_mode": "min",
}
# Maity et al. 2025 (arXiv 2503.10632), table 5; what it does not list is off.
KARAT = {
    "model.name": "karat_tiny_patch16_224",
    "model.init": "paper",
    "model.unit_scales": True,
    "model.share": "blockwise",
    "model.rank": 12,
    "model.order": "w_phi",
    "model.base_act": "zero",
    "model.project": "none",
    "model.drop_path_rate": 0.0,
    "model.img_size": 224,
    "basis.name": "fourier",
    "basis.num_frequencies": 3,
    "data.img_size": 224,
    "data.crop_pct": 0.9,
    "data.interpolation": "bicubic",
    "recipe.batch_size": 128,
    "optimizer.name": "adamw",
    # 5e-4 batch / 512
    "optimizer.lr": 1.25e-4,
    "optimizer.lr_scaling": "linear",
    "optimizer.eps": 1e-6,
    "optimizer.betas": (0.9, 0.999),
    "optimizer.weight_decay": 0.05,
    "optimizer.kan_lr": None,
    "scheduler.name": "cosine",
    "scheduler.interval": "epoch",
    "scheduler.warmup_epochs": 5.0,
    "scheduler.warmup_lr": 1e-6,
    "scheduler.min_lr": 1e-5,
    "loss.label_smoothing": 0.1,
    "augment.crop": "random_resized",
    "augment.scale": (0.08, 1.0),
    "augment.ratio": (0.67, 1.5),
    "augment.hflip": 0.5,
    "augment.color_jitter": 0.4,
    "augment.auto_augment": "rand-m15-n2-mstd1.0-inc1",
    "augment.re_prob": 0.0,
    "augment.num_repeats": 1,
    "mixup.mixup_alpha": 0.8,
    "mixup.cutmix_alpha": 1.0,
    "mixup.prob": 1.0,
    "mixup.switch_prob": 0.5,
    "mixup.mode": "batch",
    "ema.decay": 0.99992,
    "ema.warmup": False,
    "trainer.max_epochs": 100,
    "trainer.gradient_clip_val": 1.0,
}
DEIT_EXTRAS = {"model.drop_path_rate": 0.1, "augment.re_prob": 0.25, "augment.num_repeats": 3}
KARAT_CONVIT = {key: value for key, value in KARAT.items() if not key.startswith("ema.")} | {
    "model.name": "karat_convit_tiny_patch16_224",
    "optimizer.eps": 1e-8,
    "augment.auto_augment": "rand-m9-mstd0.5-inc1",
    "ema": None,
}
KARAT_CIFAR = KARAT | {"recipe.batch_size": 32, "optimizer.lr": 3.125e-5, "data.val_fraction": 0.0}
RUNS = {
    ("experiment=ukan/busi",): UKAN,
    ("experiment=ukan/cvc",): UKAN,
    ("experiment=ukan/glas",): UKAN | {"data.img_size": 512, "metrics.objects": True},
    ("experiment=ukan/busi_mlp",): UKAN | {"model.plain": True},
    ("experiment=ukan/busi_mlp_2",): UKAN | {"model.plain": (False, True, False)},
    # the recipe by itself measures on images that it does not train on
    ("model=ukan", "data=busi", "model.size=medium"): UKAN
    | {
        "data.preprocessing": "default",
        "data.split": "groups",
        "data.val_fraction": 0.1,
        "monitor": "val/iou",
    },
    ("experiment=crop_fields/s2_ukan",): CROP_FIELDS,
    ("experiment=crop_fields/s2_unet",): CROP_FIELDS | {"model.name": "unet_base"},
    ("experiment=crop_fields/s1_ukan",): CROP_FIELDS
    | {"model.in_chans": 2, "data.mean": [0.0] * 2, "data.std": [1.0] * 2},
    ("model=kat", "data=imagenet"): KAT_IMAGENET,
    ("model=kat", "data=imagenet", "model.size=base"): KAT_IMAGENET
    | {"model.name": "kat_base_patch16_224", "model.drop_path_rate": 0.4},
    ("model=karat", "data=imagenet"): KARAT,
    ("model=karat", "data=imagenet", "model.size=base"): KARAT
    | {"model.name": "karat_base_patch16_224", "basis.num_frequencies": 1},
    ("model=karat", "data=imagenet", "recipe=karat_imagenet_with_deit_extras"): KARAT | DEIT_EXTRAS,
    ("experiment=karat/cifar10_tiny_g3b",): KARAT_CIFAR,
    ("experiment=karat/cifar100_base_g1u",): KARAT_CIFAR
    | {"model.name": "karat_base_patch16_224", "basis.num_frequencies": 1, "model.share": "universal"},
    ("experiment=karat/svhn_tiny_g3b",): KARAT_CIFAR,
    ("experiment=karat/flowers102_base_g1u",): KARAT_CIFAR
    | {"model.name": "karat_base_patch16_224", "basis.num_frequencies": 1, "model.share": "universal"},
    ("experiment=karat/imagenet_convit_g3b",): KARAT_CONVIT,
    ("experiment=karat/imagenet_swin_g3b",): KARAT_CONVIT
    | {"model.name": "karat_swin_tiny_patch4_window7_224", "augment.color_jitter": 0.3},
    # only the weights differ from the run from scratch; swish stands where the ViT had GELU
    ("experiment=kat/imagenet_tiny_from_vit",): KAT_IMAGENET
    | {"model.init_from": "vit_tiny_patch16_224.augreg_in21k_ft_in1k", "model.init_from_mode": "paper"},
    ("experiment=kat/imagenet_base_from_vit",): KAT_IMAGENET
    | {
        "model.name": "kat_base_patch16_224",
        "model.drop_path_rate": 0.4,
        "model.init_from": "vit_base_patch16_224.augreg_in21k",
        "model.init_from_mode": "paper",
    },
    ("experiment=kat/imagenet_tiny_swish_swish",): KAT_IMAGENET | {"model.act1_init": "swish"},
    ("experiment=kat/imagenet_tiny_identity_gelu",): KAT_IMAGENET | {"model.act_init": "kat_gelu"},
    ("model=convkan", "data=cifar10"): CONVKAN_CIFAR,
    ("model=convkan", "data=cifar100"): CONVKAN_CIFAR,
    ("model=convkan", "data=mnist"): CONVKAN_MNIST,
    ("model=kkan", "data=fashion_mnist"): KKAN,
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


@pytest.mark.parametrize(
    "words",
    [
        ("model=convkan", "data=cifar100", "recipe=convkan_cifar100_regularization"),
        ("model=convkan", "data=cifar100", "recipe=convkan_cifar100_tuned"),
        ("model=vgg_kan", "data=imagenet"),
        ("model=res_kan", "data=cifar10"),
        ("model=res_kan", "data=tiny_imagenet"),
        ("model=dense_kan", "data=tiny_imagenet"),
    ],
    ids=" ".join,
)
def test_authors_who_gave_all_parameters_to_one_group_decayed_them_all(words):
    config = parse_train(compose("train", words, CONF))
    assert config.recipe.source.startswith("Drokin 2024")
    assert config.optimizer.decay_all
    assert config.optimizer.weight_decay


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


@pytest.mark.parametrize("data", ["cifar10", "cifar100", "imagenet", "svhn", "flowers102", "stl10"])
def test_the_softmax_baseline_is_trained_as_karat_is(data):
    karat, vit = (
        parse_train(compose("train", [f"experiment=karat/{data}_tiny_{kind}"], CONF))
        for kind in ("g3b", "softmax")
    )
    names = ("optimizer", "scheduler", "loss", "augment", "mixup", "ema", "trainer", "data", "finetune")
    for name in names:
        assert getattr(karat, name) == getattr(vit, name)
    assert karat.model.drop_path_rate == vit.model.drop_path_rate
    assert karat.recipe.batch_size == vit.recipe.batch_size


@pytest.mark.parametrize(("rival", "data"), cover(RIVALS, ["busi", "glas", "cvc"]))
def test_a_rival_of_ukan_is_trained_as_the_unet_beside_it(rival, data):
    for words in ([f"model={rival}", f"data={data}"], [f"experiment=ukan/{data}_{rival}"]):
        unet, other = (
            parse_train(compose("train", [word.replace(rival, name) for word in words], CONF))
            for name in ("unet", rival)
        )
        assert other.recipe.name == f"{rival}_{data}"
        names = ("optimizer", "scheduler", "loss", "metrics", "augment", "trainer", "data", "monitor", "seed")
        for name in names:
            assert getattr(unet, name) == getattr(other, name)


@pytest.mark.parametrize("data", ["busi", "glas", "cvc"])
def test_the_unet_is_trained_as_ukan_is_at_the_rate_of_its_convolutions(data):
    ukan, unet = (
        parse_train(compose("train", [f"model={m}", f"data={data}"], CONF)) for m in ("ukan", "unet")
    )
    for name in ("loss", "metrics", "augment", "trainer", "data", "monitor"):
        assert getattr(ukan, name) == getattr(unet, name)
    assert unet.optimizer == ukan.optimizer.model_copy(update={"kan_lr": None})
    assert unet.scheduler == ukan.scheduler.model_copy(update={"scale_min_lr": True})
