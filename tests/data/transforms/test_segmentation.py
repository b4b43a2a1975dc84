"""Masks move with their images in both libraries, whatever the number of channels."""

import os

import pytest
import torch
from torch import Tensor

from kanvision.data.transforms.segmentation import BACKENDS, build_segmentation_augment
from tests.programs import run_program

AFFINE = {"degrees": 30.0, "translate": 0.2, "scale": (0.8, 1.25)}
both = pytest.mark.parametrize("backend", BACKENDS)


def pair(channels: int, size: tuple[int, int] = (24, 24), planes: int = 1) -> tuple[Tensor, Tensor]:
    """Random blocks; every channel shows the label, so that the image tells where its mask should be."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 4, (size[0] // 8, size[1] // 8), generator=generator)
    mask = blocks.repeat_interleave(8, 0).repeat_interleave(8, 1)
    image = torch.stack([mask + 10.0 * channel for channel in range(channels)])
    return image, torch.stack([mask + 100 * plane for plane in range(planes)])


def outcomes(transform, image: Tensor, labels: Tensor, num: int = 60) -> set[bytes]:
    seen = set()
    for seed in range(num):
        torch.manual_seed(seed)
        seen.add(transform(image, labels)[1].numpy().tobytes())
    return seen


@both
@pytest.mark.parametrize(("channels", "planes"), [(1, 1), (3, 1), (4, 2), (5, 3), (12, 7)])
def test_image_and_labels_stay_together(backend: str, channels: int, planes: int):
    transform = build_segmentation_augment(backend=backend, hflip=0.5, vflip=0.5, transpose=0.5, rot90=0.5)
    image, labels = pair(channels, planes=planes)
    for seed in range(20):
        torch.manual_seed(seed)
        moved, found = transform(image, labels)
        assert (moved.shape, moved.dtype) == (image.shape, torch.float32)
        assert (found.shape, found.dtype) == (labels.shape, torch.int64)
        assert type(moved) is type(found) is Tensor
        for channel in range(channels):
            assert torch.equal(moved[channel] - 10 * channel, found[0].float())
        for plane in range(planes):
            assert torch.equal(found[plane], found[0] + 100 * plane)


@both
def test_each_move_is_what_its_name_says(backend: str):
    image, labels = pair(2)
    flat, turned = labels.flip(-1), {labels.rot90(k, (-2, -1)).numpy().tobytes() for k in range(4)}

    def seen(**moves: float) -> set[bytes]:
        return outcomes(build_segmentation_augment(backend=backend, **moves), image, labels)

    same = labels.numpy().tobytes()
    assert seen(hflip=0.5) == {same, flat.numpy().tobytes()}
    assert seen(hflip=1.0) == {flat.numpy().tobytes()}
    assert seen(vflip=1.0) == {labels.flip(-2).numpy().tobytes()}
    assert seen(transpose=1.0) == {labels.mT.contiguous().numpy().tobytes()}
    assert seen(rot90=1.0) == turned
    assert len(seen(hflip=0.5, vflip=0.5, rot90=0.5)) == 8  # all symmetries of the square, as in U-KAN


@both
def test_a_quarter_turn_of_a_wide_image_is_a_tall_one(backend: str):
    image, labels = pair(3, size=(16, 40))
    transform = build_segmentation_augment(backend=backend, transpose=1.0)
    moved, found = transform(image, labels)
    assert (moved.shape, found.shape) == ((3, 40, 16), (1, 40, 16))


@both
@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
def test_an_affine_map_keeps_labels_whole_and_moves_the_image_alike(backend: str, size: tuple[int, int]):
    transform = build_segmentation_augment(backend=backend, random_affine=AFFINE)
    image, labels = pair(5, size, planes=2)
    moved_at_all = 0
    for seed in range(10):
        torch.manual_seed(seed)
        moved, found = transform(image, labels)
        assert moved.shape == image.shape
        assert set(found[0].unique().tolist()) <= set(labels[0].unique().tolist())
        assert torch.equal(found[1], found[0] + 100)
        # inside a block, away from interpolated edges, image and mask are equal; there is no black border
        agree = (moved[4] - 40 - found[0]).abs() < 0.5
        assert agree.float().mean() > 0.9
        moved_at_all += not torch.equal(found, labels)
    assert moved_at_all == 10


@both
def test_large_instance_numbers_survive(backend: str):
    image = torch.rand(1, 20, 20)
    labels = torch.arange(400).reshape(1, 20, 20) * 1000
    transform = build_segmentation_augment(backend=backend, random_affine={"degrees": 10.0})
    _, found = transform(image, labels)
    assert set(found.unique().tolist()) <= set(labels.unique().tolist())


def test_a_crop_is_a_window_of_image_and_labels():
    transform = build_segmentation_augment(crop="random_resized", scale=(0.2, 0.5), ratio=(0.5, 2.0))
    image, labels = pair(2, size=(40, 64))
    sizes = set()
    for seed in range(10):
        torch.manual_seed(seed)
        moved, found = transform(image, labels)
        assert torch.equal(moved[0], found[0].float())
        share = found[0].numel() / labels[0].numel()
        assert 0.15 < share < 0.55
        sizes.add(found.shape)
    assert len(sizes) > 3


def test_brightness_changes_the_image_alone_and_is_not_clipped():
    transform = build_segmentation_augment(brightness=0.3)
    image, labels = torch.full((4, 8, 8), 0.9), torch.ones(1, 8, 8, dtype=torch.int64)
    factors = []
    for seed in range(30):
        torch.manual_seed(seed)
        moved, found = transform(image, labels)
        assert torch.equal(found, labels)
        assert moved.unique().numel() == 1
        factors.append(float(moved[0, 0, 0]) / 0.9)
    assert 0.7 <= min(factors) < 0.85
    assert 1.15 < max(factors) <= 1.3
    assert torch.equal(image, torch.full((4, 8, 8), 0.9))


@both
def test_random_numbers_follow_torch(backend: str):
    image, labels = pair(3)
    results = []
    for _ in range(2):
        transform = build_segmentation_augment(
            backend=backend, hflip=0.5, vflip=0.5, random_affine=AFFINE, crop="random_resized", brightness=0.1
        )
        torch.manual_seed(7)
        results.append([transform(image, labels) for _ in range(5)])
    for first, second in zip(*results, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert len({image.shape for image, _ in results[0]}) > 1


def test_nothing_to_do_is_none():
    assert (
        build_segmentation_augment(crop="none", pad=4, scale=(0.08, 1.0), re_prob=0.0, re_mode="pixel")
        is None
    )


@pytest.mark.parametrize(
    ("key", "value"), [("auto_augment", "rand-m9"), ("crop", "pad"), ("color_jitter", 0.4), ("re_prob", 0.25)]
)
def test_what_has_no_form_for_masks_is_refused(key: str, value: object):
    with pytest.raises(ValueError, match=rf"augment\.{key}={value}: not available for segmentation"):
        build_segmentation_augment(hflip=0.5, **{key: value})


def test_an_unknown_library_is_refused():
    with pytest.raises(ValueError, match=r"augment\.backend=kornia; legal: albumentations, torchvision"):
        build_segmentation_augment(hflip=0.5, backend="kornia")


def test_the_library_is_imported_late_and_without_its_network_call(tmp_path):
    code = """
import os, sys
os.environ.pop("NO_ALBUMENTATIONS_UPDATE", None)
from kanvision.data.transforms import segmentation as augment
affine = {"degrees": 5.0}
assert augment.build_segmentation_augment(random_affine=affine, backend="torchvision") is not None
assert "albumentations" not in sys.modules
import urllib.request
def refuse(*args, **kwargs):
    raise SystemExit("network")
urllib.request.OpenerDirector.open = refuse
assert augment.build_segmentation_augment(hflip=0.5) is not None
assert "albumentations" in sys.modules
assert "NO_ALBUMENTATIONS_UPDATE" not in os.environ
"""
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    (tmp_path / "program.py").write_text(code, "utf-8")
    result = run_program(["program.py"], tmp_path, environment)
    assert result.returncode == 0, result.stderr
