"""Losses of segmentation against formulas written out in numpy, for each kind of masks."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kanvision.losses import SEGMENTATION_LOSSES, segmentation_loss

CLASSES = 4
IGNORED = 255
CASES = [(name, mode) for name, modes in SEGMENTATION_LOSSES.items() for mode in modes]
WITH_OPTIONS = [
    *((name, mode, {}) for name, mode in CASES),
    *(("cross_entropy", mode, {"label_smoothing": 0.2}) for mode in ("binary", "multiclass")),
    ("ce_dice", "multiclass", {"label_smoothing": 0.1}),
    *(("tversky", mode, {"alpha": 0.3, "beta": 0.7}) for mode in ("binary", "multiclass", "multilabel")),
    *(("focal", mode, {"gamma": 1.5}) for mode in ("binary", "multiclass", "multilabel")),
]


def problem(mode: str, num_logits: int | None = None, dtype: torch.dtype = torch.float64) -> Any:
    """Logits and masks of three images; a class, and in the first image all of them, are missing."""
    generator = torch.Generator().manual_seed(0)
    channels = num_logits or {"binary": 1, "multiclass": CLASSES, "multilabel": 3}[mode]
    logits = torch.randn(3, channels, 5, 6, dtype=dtype, generator=generator)
    if mode == "multilabel":
        target = (torch.rand(3, channels, 5, 6, generator=generator) < 0.4).long()
        target[:, 2] = 0
    else:
        top = 2 if mode == "binary" else CLASSES - 1  # the last class does not occur
        target = torch.randint(top, (3, 5, 6), generator=generator)
    target[0] = 0
    return logits, target


def as_planes(mode: str, logits: NDArray, target: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Logits z, probabilities p and targets t of each channel, (B, C, H, W)."""
    if mode == "binary":
        z = logits[:, 1:] - logits[:, :1] if logits.shape[1] == 2 else logits
        return z, 1 / (1 + np.exp(-z)), target[:, None]
    if mode == "multilabel":
        return logits, 1 / (1 + np.exp(-logits)), target
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return logits, p, np.moveaxis(np.eye(logits.shape[1])[target], -1, 1)


def lovasz(errors: NDArray, t: NDArray) -> float:
    """Sum over sorted errors of error times what its pixel adds to the Jaccard loss of the wrong set."""
    order = np.argsort(-errors, kind="stable")
    total, before = 0.0, 0.0
    wrong = np.zeros(len(t), bool)
    for pixel in order:
        wrong[pixel] = True
        found, missed, false = (t[~wrong] == 1).sum(), (t[wrong] == 1).sum(), (t[wrong] == 0).sum()
        after = 1 - found / (found + missed + false)
        total += max(errors[pixel], 0) * (after - before)
        before = after
    return total


def written_out(name: str, mode: str, logits: NDArray, target: NDArray, **options: float) -> float:
    z, p, t = as_planes(mode, logits, target)
    pooled = (0, 2, 3)
    both, only_p, only_t = (p * t).sum(pooled), (p * (1 - t)).sum(pooled), ((1 - p) * t).sum(pooled)
    present = t.sum(pooled) > 0
    bce = -(t * np.log(p) + (1 - t) * np.log(1 - p))
    if name in ("cross_entropy", "ce_dice"):
        s = options.get("label_smoothing", 0.0)
        all_p, all_t = (p, t) if mode == "multiclass" else (np.stack([1 - p, p]), np.stack([1 - t, t]))
        axis = 1 if mode == "multiclass" else 0
        q = (1 - s) * all_t + s / all_t.shape[axis]
        cross_entropy = -(q * np.log(all_p)).sum(axis=axis).mean()
        if name == "cross_entropy":
            return cross_entropy
        return cross_entropy + written_out("dice", mode, logits, target)
    if name == "bce":
        return bce.mean()
    if name == "focal":
        p_own = 1 / (1 + np.exp(-z))
        right = np.where(t == 1, p_own, 1 - p_own)
        return (-np.log(right) * (1 - right) ** options.get("gamma", 2.0)).mean()
    if name in ("dice", "jaccard", "tversky"):
        alpha, beta = options.get("alpha", 0.5), options.get("beta", 0.5)
        size = {
            "dice": both + (only_p + only_t) / 2,
            "jaccard": both + only_p + only_t,
            "tversky": both + alpha * only_p + beta * only_t,
        }[name]
        return np.where(present, 1 - both / size, 0).mean()
    if name == "lovasz" and mode == "multiclass":
        planes = [(p[:, c].ravel(), t[:, c].ravel()) for c in range(CLASSES) if present[c]]
        return float(np.mean([lovasz(np.abs(b - a), b) for a, b in planes]))
    if name == "lovasz":
        images = [(z[i].ravel(), t[i].ravel()) for i in range(len(z))]
        return float(np.mean([lovasz(1 - a * (2 * b - 1), b) for a, b in images]))
    if name == "generalized_dice":
        if mode == "binary":
            p, t = np.concatenate([1 - p, p], axis=1), np.concatenate([1 - t, t], axis=1)
        w = 1 / np.maximum(t.sum(pooled) ** 2, 1e-5)
        return 1 - 2 * (w * (p * t).sum(pooled)).sum() / max((w * (p + t).sum(pooled)).sum(), 1e-5)
    weight, smooth, axes = (0.5, 1e-5, (1, 2, 3)) if name == "bce_dice" else (0.1, 1.0, (2, 3))
    dice = (2 * (p * t).sum(axes) + smooth) / (p.sum(axes) + t.sum(axes) + smooth)
    return weight * bce.mean() + 1 - dice.mean()


@pytest.mark.parametrize(("name", "mode", "options"), WITH_OPTIONS, ids=str)
def test_losses_are_their_formulas(name: str, mode: str, options: dict[str, float]):
    logits, target = problem(mode)
    logits.requires_grad_()
    loss = segmentation_loss(name, mode=mode, **options)(logits, target)
    expected = written_out(name, mode, logits.detach().numpy(), target.numpy(), **options)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert logits.grad.isfinite().all()
    assert logits.grad.abs().sum() > 0


@pytest.mark.parametrize(("name", "mode"), [case for case in CASES if case[1] == "binary"])
def test_one_logit_and_the_difference_of_two_are_the_same(name: str, mode: str):
    logits, target = problem(mode, num_logits=2)
    loss = segmentation_loss(name, mode=mode)
    torch.testing.assert_close(loss(logits, target), loss(logits[:, 1:] - logits[:, :1], target))
    if name == "cross_entropy":
        expected = torch.nn.functional.cross_entropy(logits, target)
        torch.testing.assert_close(loss(logits, target), expected)


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_a_perfect_prediction_costs_nothing(name: str, mode: str):
    logits, target = problem(mode)
    target[0] = target[1]
    _, _, t = as_planes(mode, logits.numpy(), target.numpy())
    perfect = torch.as_tensor(60.0 * (2 * t - 1), dtype=torch.float64)
    loss = segmentation_loss(name, mode=mode)(perfect, target)
    assert float(loss) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("what", ["empty", "full"])
@pytest.mark.parametrize(("name", "mode"), CASES)
def test_empty_and_full_masks_at_any_precision(name: str, mode: str, what: str, dtype: torch.dtype):
    logits, target = problem(mode)
    target[:] = 0 if what == "empty" else 1
    extreme = (logits * 40).to(dtype).requires_grad_()
    loss = segmentation_loss(name, mode=mode)(extreme, target)
    assert loss.dtype == torch.float32
    loss.backward()
    assert loss.isfinite()
    assert extreme.grad.isfinite().all()


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_ignored_pixels_do_not_count(name: str, mode: str):
    """Neither their logits nor how many they are; two columns of each image are void."""
    logits, target = problem(mode)
    void = target.clone()
    void[..., 4:] = IGNORED
    loss = segmentation_loss(name, mode=mode, ignore_index=IGNORED)
    value = loss(logits, void)
    torch.testing.assert_close(value, segmentation_loss(name, mode=mode)(logits[..., :4], target[..., :4]))
    other = logits.clone()
    other[..., 4:] = 7.0
    torch.testing.assert_close(loss(other, void), value)
    logits.requires_grad_()
    nothing = loss(logits, torch.full_like(target, IGNORED))
    nothing.backward()
    assert float(nothing.detach()) == 0.0
    assert not logits.grad.any()


def test_the_published_dice_is_of_each_sample_and_not_of_the_batch():
    """Two images: one is right, and of 9 pixels another names 9, 3 of them rightly: .3333 against .3000."""
    target = torch.zeros(2, 1, 24, dtype=torch.long)
    target[0, 0, :11] = target[1, 0, :9] = 1
    logits = torch.full((2, 1, 1, 24), -30.0)
    logits[0, 0, 0, :11] = logits[1, 0, 0, 6:15] = 30.0
    published = segmentation_loss("bce_dice", mode="binary")
    dice = published(logits, target) - 0.5 * segmentation_loss("bce", mode="binary")(logits, target)
    pooled = segmentation_loss("dice", mode="binary")(logits, target)
    assert float(dice) == pytest.approx(1 / 3, abs=1e-4)
    assert float(pooled) == pytest.approx(0.3, abs=1e-4)


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match=r"loss\.name='mse' is no loss for segmentation; legal: cross_ent"):
        segmentation_loss("mse")
    with pytest.raises(ValueError, match=r"'bce_dice' is not defined for multiclass masks; legal: cross_ent"):
        segmentation_loss("bce_dice", mode="multiclass")
    with pytest.raises(ValueError, match=r"loss\.label_smoothing=0\.1: loss\.name=dice does not smooth"):
        segmentation_loss("dice", label_smoothing=0.1)
