"""The segmentation datamodule: splits, batches, samplers, the data file of conf."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from kanvision.config.conf_source import register_conf
from kanvision.config.schema.data import SyntheticFieldsConfig
from kanvision.data import SEGMENTATION_READERS, SegmentationDataModule, build_datamodule
from kanvision.data.transforms.normalize import Preprocessing
from kanvision.data.transforms.segmentation import _import_albumentations
from tests.data import fake_masks
from tests.data.fake_masks import save, scan

CONF = Path(__file__).resolve().parents[3] / "conf"
SMALL = {
    "in_chans": 2,
    "img_size": 16,
    "num_classes": 3,
    "mean": [0.4, 0.4],
    "std": [0.15, 0.2],
    "batch_size": 4,
    "limit": 12,
    "limit_test": 12,
}
FLIPS = {"hflip": 0.5, "vflip": 0.5, "num_repeats": 1}


def fields(**changes) -> SegmentationDataModule:
    return SegmentationDataModule("synthetic_fields", **{**SMALL, **changes})


@pytest.mark.parametrize("name", sorted(SEGMENTATION_READERS))
def test_the_header_of_a_run_shows_the_stored_values_of_every_data_set(name: str, tmp_path: Path):
    """BUSI, GlaS and CVC had no such line, so that a threshold which loses masks went unseen."""
    make = {
        "busi": fake_masks.busi,
        "cvc": fake_masks.cvc,
        "glas": fake_masks.glas,
        "segmentation_folder": fake_masks.own_pairs,
        "sentinel_crops": fake_masks.crops,
    }
    expected = {
        "busi": r"0 \(.*%\), 255 \(.*%\) in all 22 masks",
        "cvc": r"0 \(.*%\), 255 \(8\.3%\), 90 \(0\.7%\) in all 15 masks",
        "glas": r"0 \(.*%\), 2 \(.*%\), 1 \(.*%\), .*more values in all 15 masks",
        "segmentation_folder": r"0 \(.*%\), 1 \(.*%\) in all 10 masks",
        "sentinel_crops": r"0 \(.*%\), 7 \(.*%\), .* in all 20 masks",
        "synthetic_fields": "0 and 1, generated",
    }
    if name in make:
        make[name](tmp_path)
    options = {"in_chans": 12} if name == "sentinel_crops" else {"in_chans": 3}
    data = build_datamodule(
        "segmentation",
        name=name,
        root=str(tmp_path) if name in make else None,
        **{"img_size": 16, "num_classes": 2, "mode": "binary", "batch_size": 4, **options},
    )
    data.setup()
    assert re.fullmatch(expected[name], data.facts["masks"]), data.facts


def batches(data: SegmentationDataModule, epoch: int = 0) -> list[dict[str, torch.Tensor]]:
    loader = data.train_dataloader()
    loader.batch_sampler.set_epoch(epoch)
    return list(loader)


def same(first, second) -> bool:
    return all(torch.equal(a[key], b[key]) for a, b in zip(first, second, strict=True) for key in a)


def test_the_data_file_has_every_key_and_builds():
    register_conf([CONF])
    with initialize_config_dir(str(CONF), version_base="1.3"):
        values = OmegaConf.to_container(compose(overrides=["+data=synthetic_fields"]))["data"]
    assert set(values) == set(SyntheticFieldsConfig.model_fields)
    checked = SyntheticFieldsConfig(**values)
    assert checked.task == "segmentation"
    data = build_datamodule(checked.task, **checked.model_dump(exclude={"task"}), seed=0)
    assert data.num_images == {"train": 576, "val": 64, "test": 160}
    assert data.num_classes == checked.num_classes == 4
    assert data.class_names[0] == "background"
    # mean and std of the file are those of the images
    images = torch.cat([next(iter(data.train_dataloader()))["image"] for _ in range(4)])
    assert images.mean(dim=(0, 2, 3)).abs().max() < 0.3
    assert (images.std(dim=(0, 2, 3)) - 1).abs().max() < 0.3


def test_batches_and_public_face():
    data = fields()
    data.prepare_data()
    data.setup()
    batch = next(iter(data.val_dataloader()))
    assert set(batch) == {"image", "mask", "index"}
    assert (batch["image"].shape, batch["image"].dtype) == ((4, 2, 16, 16), torch.float32)
    assert (batch["mask"].shape, batch["mask"].dtype) == ((4, 16, 16), torch.int64)
    assert (data.mean, data.std) == ((0.4, 0.4), (0.15, 0.2))
    assert data.num_images == {"train": 12, "val": 12, "test": 12}
    source = data.datasets["val"].source
    index = int(batch["index"][1])
    raw = source[index]
    expected = (raw["image"] - 0.4) / torch.tensor([0.15, 0.2])[:, None, None]
    torch.testing.assert_close(batch["image"][1], expected)
    assert torch.equal(batch["mask"][1], raw["mask"])
    assert torch.equal(data.datasets["val"][1]["image"], batch["image"][1])


def test_mean_and_std_are_measured_on_training_images_where_they_are_not_given():
    data = fields(mean=None, std=None, limit=None, limit_test=None)
    data.setup()
    source, indices = data.datasets["train"].source, data.datasets["train"].indices
    images = torch.stack([source[int(index)]["image"] for index in indices[:64]]).double()
    torch.testing.assert_close(
        torch.tensor(data.mean).double(), images.mean(dim=(0, 2, 3)), atol=0.02, rtol=0
    )
    torch.testing.assert_close(torch.tensor(data.std).double(), images.std(dim=(0, 2, 3)), atol=0.02, rtol=0)
    assert data.spec.mean == data.mean == data.datasets["test"].preprocessing.mean
    half = fields(std=None)
    half.setup()
    assert half.mean == (0.4, 0.4)
    assert half.std != (1.0, 1.0)


def test_published_preprocessing_is_blue_first_and_scaled_twice():
    imagenet = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    data = fields(in_chans=3, preprocessing="u_kan", **imagenet)
    batch = next(iter(data.val_dataloader()))
    raw = data.datasets["val"].source[int(batch["index"][0])]["image"].mul(255).round().div(255)
    mean, std = (torch.tensor(imagenet[key])[:, None, None] for key in ("mean", "std"))
    torch.testing.assert_close(batch["image"][0], (raw[[2, 1, 0]] - mean) / std / 255)
    shown = batch["image"][0] * torch.tensor(data.std)[:, None, None] + torch.tensor(data.mean)[:, None, None]
    torch.testing.assert_close(shown[[2, 1, 0]], raw, atol=1e-5, rtol=0)
    extremes = Preprocessing(**imagenet, name="u_kan")(torch.tensor([0.0, 1.0]).expand(3, 1, 2))
    assert extremes.min() == pytest.approx(-0.00831, abs=1e-5)
    assert extremes.max() == pytest.approx(0.01035, abs=1e-5)
    with pytest.raises(ValueError, match=r"data\.in_chans=2; legal: 3"):
        fields(preprocessing="u_kan")
    with pytest.raises(ValueError, match="legal: default, u_kan"):
        Preprocessing([0.5], [0.5], "ukan")


def test_published_preprocessing_is_that_of_the_published_code_bit_for_bit(tmp_path: Path):
    """Its dataset: cv2.imread, Resize and Normalize of albumentations, and / 255 of image and mask."""
    library, mask = _import_albumentations(), np.zeros((37, 51), np.uint8)
    mask[5:20, 3:31], mask[30:, ::3] = 255, 255
    for number in range(6):
        save(tmp_path / "images" / f"{number}.png", scan(number, (51, 37)))
        save(tmp_path / "masks" / f"{number}.png", mask)
    options = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "in_chans": 3, "img_size": 24}
    options |= {"root": str(tmp_path), "mode": "binary", "batch_size": 2}
    ours, plain = (
        SegmentationDataModule("segmentation_folder", preprocessing=preset, **options)
        for preset in ("u_kan", "default")
    )
    batch, other = next(iter(ours.test_dataloader())), next(iter(plain.test_dataloader()))
    published = library.Compose([library.Resize(24, 24), library.Normalize()])
    for row, index in enumerate(batch["index"].tolist()):
        path = ours.datasets["test"].source.entries[index].image
        stored = cv2.imread(str(tmp_path / "masks" / path.name), cv2.IMREAD_GRAYSCALE)
        moved = published(image=cv2.imread(str(path)), mask=stored)
        image = moved["image"].astype("float32") / 255
        np.testing.assert_array_equal(batch["image"][row].permute(1, 2, 0).numpy(), image)
        np.testing.assert_array_equal(batch["mask"][row].numpy(), moved["mask"].astype("float32") / 255)
    assert not torch.equal(other["mask"], batch["mask"])  # at the centers of pixels


def test_splits_do_not_overlap():
    data = fields(limit=None, limit_test=None)
    data.setup()
    train, val = (set(data.datasets[name].indices.tolist()) for name in ("train", "val"))
    assert not train & val
    assert len(train) + len(val) == 640
    masks = [data.datasets[name].source[0]["mask"] for name in ("train", "test")]
    assert not torch.equal(*masks)


def test_training_batches_depend_on_seed_and_epoch_alone():
    first = batches(fields(augment=FLIPS, seed=1))
    assert same(first, batches(fields(augment=FLIPS, seed=1)))
    assert same(first, batches(fields(augment=FLIPS, seed=1, num_workers=1)))
    assert not same(first, batches(fields(augment=FLIPS, seed=2)))
    assert not same(first, batches(fields(augment=FLIPS, seed=1), epoch=1))


def test_loading_leaves_the_global_generators_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    batches(fields(augment=FLIPS))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "digits"}, "data.name=digits is not a data set with masks; legal: busi, "),
        ({"crop_pct": 0.9}, "data.crop_pct=0.9"),
        ({"mean": [0.5]}, "data.mean has 1 values, data.in_chans is 2"),
        ({"augment": {"re_prob": 0.5}}, "augment.re_prob=0.5"),
        ({"num_classes": None}, "data.num_classes=null"),
        ({"num_classes": 1}, "num_classes=1"),
    ],
)
def test_a_wrong_argument_is_named(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        SegmentationDataModule(**{"name": "synthetic_fields", **SMALL, **changes}).setup()


def test_a_root_has_no_effect_and_says_so():
    with pytest.warns(UserWarning, match="data.root=somewhere has no effect"):
        fields(root="somewhere").setup()


def test_channels_to_show_are_told():
    options = {"in_chans": 3, "img_size": 16, "num_classes": 2, "augment": {}}
    assert SegmentationDataModule("busi", root=".", mode="binary", **options).rgb == ()
    blue_first = SegmentationDataModule("busi", root=".", mode="binary", preprocessing="u_kan", **options)
    assert blue_first.rgb == (2, 1, 0)
    sentinel = SegmentationDataModule("sentinel_crops", root=".", mode="binary", **options | {"in_chans": 12})
    assert [sentinel.reader.bands[band] for band in sentinel.rgb] == ["B04", "B03", "B02"]
