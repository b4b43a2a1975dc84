import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from kanvision.data.seeding import random_state
from kanvision.data.transforms.batch_ops import Flip, PadCrop, RandomAffine
from kanvision.data.transforms.classification import (
    ImageSpec,
    build_evaluation_transform,
    build_training_transform,
)


def spec(in_chans: int = 3, img_size: int = 32) -> ImageSpec:
    return ImageSpec(
        img_size,
        in_chans,
        [0.4 + 0.01 * i for i in range(in_chans)],
        [0.2 + 0.01 * i for i in range(in_chans)],
    )


def pictures(num: int = 3, size: tuple[int, int] = (50, 40), mode: str = "RGB") -> list[Image.Image]:
    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, 256, (8, 9, 3), dtype=np.uint8) for _ in range(num)]
    return [Image.fromarray(c).resize(size, Image.Resampling.BILINEAR).convert(mode) for c in coarse]


@pytest.mark.parametrize(
    ("interpolation", "crop_pct"), [("bilinear", 1.0), ("bicubic", 0.875), ("nearest", 0.9)]
)
def test_evaluation_gives_the_numbers_of_timm(interpolation: str, crop_pct: float):
    s = spec()
    reference = create_transform(
        s.img_size, interpolation=interpolation, crop_pct=crop_pct, mean=s.mean, std=s.std
    )
    ours = build_evaluation_transform(s, interpolation=interpolation, crop_pct=crop_pct)
    images = pictures()
    assert torch.equal(ours(images), torch.stack([reference(image) for image in images]))


def test_random_resized_crop_and_policy_give_the_numbers_of_timm():
    s = spec()
    options = {
        "interpolation": "bicubic",
        "hflip": 0.0,
        "auto_augment": "rand-m9-mstd0.5",
        "re_prob": 1.0,
        "re_mode": "pixel",
    }
    reference = create_transform(s.img_size, is_training=True, mean=s.mean, std=s.std, **options)
    ours = build_training_transform(s, crop="random_resized", **options)
    for seed, image in enumerate(pictures(8)):
        with random_state(seed):
            expected = reference(image)
        with random_state(seed):
            assert torch.equal(ours([image])[0], expected)


@pytest.mark.parametrize("in_chans", [1, 2, 3, 12])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "1"])
def test_any_color_mode_to_any_number_of_channels(in_chans: int, mode: str):
    s = spec(in_chans)
    for transform in (
        build_evaluation_transform(s),
        build_training_transform(s, crop="random_resized", auto_augment="rand-m9-mstd0.5", hflip=0.5),
        build_training_transform(s, crop="pad", color_jitter=0.3, re_prob=0.5),
    ):
        batch = transform(pictures(mode=mode))
        assert batch.shape == (3, in_chans, 32, 32)
        assert batch.dtype == torch.float32
        assert batch.is_contiguous()
        assert batch.isfinite().all()


def test_channels_beyond_three_repeat_the_colors_under_their_own_statistics():
    s = spec(5)
    pixels = (
        build_evaluation_transform(s)(pictures()) * torch.tensor(s.std)[:, None, None]
        + torch.tensor(s.mean)[:, None, None]
    )
    assert torch.allclose(pixels[:, 3:], pixels[:, :2], atol=1e-6)
    assert not torch.allclose(pixels[:, 0], pixels[:, 1], atol=1e-2)


@pytest.mark.parametrize(("mode", "in_chans"), [("L", 1), ("L", 3), ("RGB", 3), ("RGB", 1)])
@pytest.mark.parametrize("size", [32, 20])
def test_arrays_and_pictures_give_the_same(mode: str, in_chans: int, size: int):
    images = pictures(size=(size, size), mode=mode)
    arrays = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    batch = arrays[:, None] if mode == "L" else arrays.permute(0, 3, 1, 2)
    s = spec(in_chans)
    options = {
        "crop": "pad",
        "hflip": 0.5,
        "random_affine": {"degrees": 10.0, "translate": 0.1, "scale": (0.9, 1.1)},
    }
    for transform in (build_evaluation_transform(s), build_training_transform(s, **options)):
        with random_state(1):
            expected = transform(images)
        with random_state(1):
            assert torch.equal(transform(batch), expected)


def test_statistics_of_the_wrong_length_are_refused():
    with pytest.raises(
        ValueError, match=r"data\.mean has 1 values and data\.std has 2 values, data\.in_chans is 3"
    ):
        ImageSpec(32, 3, [0.5], [0.5, 0.5])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"crop": "cut"}, "legal: random_resized, pad, none"),
        ({"auto_augment": "nonsense"}, "augment.auto_augment=nonsense"),
    ],
)
def test_unknown_augmentation_is_refused(options: dict[str, str], reason: str):
    with pytest.raises(ValueError, match=reason):
        build_training_transform(spec(), **options)


def ramp(num: int, size: int = 9) -> torch.Tensor:
    """Images whose pixels are all different, from 1 up."""
    return (
        torch.arange(1, num * 2 * size * size + 1)
        .remainder(251)
        .add(1)
        .view(num, 2, size, size)
        .to(torch.uint8)
    )


def test_pad_crop_is_a_shifted_window_of_the_padded_image():
    images = ramp(200)
    with random_state(0):
        out = PadCrop(2)(images)
    padded = torch.nn.functional.pad(images, [2] * 4)
    shifts = set()
    for image, wide in zip(out, padded, strict=True):
        found = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if torch.equal(image, wide[:, top : top + 9, left : left + 9])
        ]
        assert len(found) == 1
        shifts.add(found[0])
    assert len(shifts) == 25


@pytest.mark.parametrize("dim", [-1, -2])
def test_flip_mirrors_its_share_of_the_images(dim: int):
    images = ramp(400)
    with random_state(0):
        out = Flip(dim, 0.25)(images)
    flipped = (out == images.flip(dim)).flatten(1).all(1)
    kept = (out == images).flatten(1).all(1)
    assert (flipped ^ kept).all()
    assert 70 < flipped.sum() < 130  # binomial: 100 +- 8.7
    assert torch.equal(Flip(dim, 1.0)(images), images.flip(dim))


@pytest.mark.parametrize("in_chans", [1, 3, 12])
def test_a_random_resized_crop_is_not_skipped_for_arrays_of_the_right_size(in_chans: int):
    array = torch.from_numpy(np.asarray(pictures(1, size=(32, 32), mode="L")[0]).copy())[None, None]
    transform = build_training_transform(spec(in_chans), crop="random_resized", scale=(0.3, 0.5))
    with random_state(0):
        cropped = transform(array)
    assert cropped.shape == (1, in_chans, 32, 32)
    assert (cropped - build_evaluation_transform(spec(in_chans))(array)).abs().mean() > 0.1


@pytest.mark.parametrize(("key", "dim"), [("hflip", -1), ("vflip", -2)])
def test_flips_go_the_way_they_say(key: str, dim: int):
    plain, flipped = build_training_transform(spec()), build_training_transform(spec(), **{key: 1.0})
    assert torch.equal(flipped(pictures()), plain(pictures()).flip(dim))


def test_an_affine_map_of_nothing_changes_nothing():
    images = ramp(5)
    assert torch.equal(RandomAffine()(images), images)


def test_affine_shift_zoom_and_rotation_move_a_spot_as_they_should(monkeypatch: pytest.MonkeyPatch):
    image = torch.zeros(1, 1, 40, 60, dtype=torch.uint8)
    image[0, 0, 9:12, 39:42] = 200  # center of the spot: 10 right of the middle and 9.5 above it

    def spot(draws: list[float], **options) -> tuple[float, float]:
        monkeypatch.setattr(torch, "rand", lambda *size: torch.tensor(draws)[:, None])
        out = RandomAffine(**options)(image)[0, 0].double()
        rows, cols = torch.meshgrid(torch.arange(40.0), torch.arange(60.0), indexing="ij")
        return (cols * out).sum().item() / out.sum().item() - 29.5, (
            rows * out
        ).sum().item() / out.sum().item() - 19.5

    still = spot([0.5] * 4)
    assert still == pytest.approx((10.5, -9.5), abs=0.01)
    right = spot([0.5, 0.5, 1.0, 0.0], translate=0.1)
    assert right == pytest.approx((10.5 + 6, -9.5 - 4), abs=0.05)
    larger = spot([0.5, 1.0, 0.5, 0.5], scale=(1.0, 1.5))
    assert larger == pytest.approx((15.75, -14.25), abs=0.1)
    # A turn by 90 degrees keeps the distance to the middle, whatever the aspect of the image.
    turned = spot([1.0, 0.5, 0.5, 0.5], degrees=90.0)
    assert turned in (pytest.approx((9.5, 10.5), abs=0.1), pytest.approx((-9.5, -10.5), abs=0.1))


def test_random_numbers_come_from_the_batch_alone():
    images = pictures(4)
    transform = build_training_transform(
        spec(),
        crop="random_resized",
        interpolation="random",
        hflip=0.5,
        auto_augment="rand-m9-mstd0.5-inc1",
        re_prob=0.5,
    )
    torch.manual_seed(3)
    before = torch.get_rng_state()
    others = random.getstate(), np.random.get_state()[1].copy()
    with random_state(11):
        first = transform(images)
        random.random()
        np.random.rand()
    assert torch.equal(torch.get_rng_state(), before)
    assert random.getstate() == others[0]
    assert np.array_equal(np.random.get_state()[1], others[1])
    torch.manual_seed(4)
    np.random.seed(5)
    random.seed(6)
    with random_state(11):
        assert torch.equal(transform(images), first)
    with random_state(12):
        assert not torch.equal(transform(images), first)
