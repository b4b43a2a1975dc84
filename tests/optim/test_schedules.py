"""Schedules follow their formulas."""

import math

import pytest
import torch
from torch import nn

from kanvision.optim import SCHEDULES, build_optimizer, build_scheduler, count_reductions

from .test_groups import KAN_LR, LAYER_DECAY, LR, Net

WARMUP, WARMUP_LR, MIN_LR, EPOCHS, STEPS = 2.0, 0.01, 0.001, 10, 4


def curve(name: str, t: float) -> float:
    """The formulas of the documentation."""
    if t < WARMUP:
        return WARMUP_LR + (LR - WARMUP_LR) * t / WARMUP
    return {
        "cosine": MIN_LR + (LR - MIN_LR) * (1 + math.cos(math.pi * t / EPOCHS)) / 2,
        "linear": MIN_LR + (LR - MIN_LR) * (1 - t / EPOCHS),
        "poly": MIN_LR + (LR - MIN_LR) * (1 - t / EPOCHS) ** 0.3,
        "step": LR * 0.3 ** (t // 3),
        "exponential": LR * 0.3 ** math.floor(t),
        "constant": LR,
        "plateau": LR * 0.3 ** ((t - 1) // 3),
    }[name]


@pytest.mark.parametrize(
    ("name", "interval"),
    # a plateau is seen after a validation
    [(name, interval) for name in SCHEDULES for interval in ("epoch", "step")[: 1 + (name != "plateau")]],
)
def test_schedules_follow_their_formulas_with_constant_ratios(name: str, interval: str) -> None:
    optimizer = build_optimizer(Net(), name="adamw", lr=LR, kan_lr=KAN_LR, layer_decay=LAYER_DECAY)
    scales = [group["lr_scale"] for group in optimizer.param_groups]
    assert len(set(scales)) > 3
    scheduler = build_scheduler(
        optimizer,
        max_epochs=EPOCHS,
        steps_per_epoch=STEPS,
        name=name,
        warmup_epochs=WARMUP,
        warmup_lr=WARMUP_LR,
        min_lr=MIN_LR,
        decay_rate=0.3,
        decay_epochs=3,
        interval=interval,
        patience=2,
    )
    for tick in range(EPOCHS * (STEPS if interval == "step" else 1)):
        if tick and name == "plateau":
            # the first value is the best one; then every third makes the rate come down
            scheduler.values.append(1.0 if tick == 1 else 2.0)
        if tick and interval == "epoch":
            scheduler.step(tick)
        elif tick:
            scheduler.step_update(tick)
        rate = curve(name, tick / STEPS if interval == "step" else tick)
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([rate * scale for scale in scales], rel=1e-9)


def test_published_schedule_of_kat() -> None:
    """Cosine over 300 epochs, with 5 of warm-up from 1e-5 inside them, to 0."""
    optimizer = build_optimizer(nn.Linear(2, 2), name="adamw", lr=1e-3)
    scheduler = build_scheduler(
        optimizer, max_epochs=300, steps_per_epoch=1251, warmup_epochs=5, warmup_lr=1e-5, interval="epoch"
    )
    rates = []
    for epoch in range(1, 301):
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step(epoch)
    assert rates[:6] == pytest.approx([1e-5 + 1.98e-4 * t for t in range(5)] + [0.99932e-3], rel=1e-4)
    assert rates[150] == pytest.approx(5e-4)
    assert rates[299] == pytest.approx(1e-3 * (1 + math.cos(math.pi * 299 / 300)) / 2)


@pytest.mark.parametrize(("key", "value"), [("name", "cosin"), ("interval", "batch")])
def test_unknown_schedule(key: str, value: str) -> None:
    optimizer = build_optimizer(nn.Linear(2, 2), name="adamw", lr=LR)
    with pytest.raises(ValueError, match=rf"scheduler\.{key}='{value}' is unknown; legal: "):
        build_scheduler(optimizer, max_epochs=3, steps_per_epoch=2, **{key: value})


@pytest.mark.parametrize("warmup", [0.0, 2.0])
def test_published_schedule_of_ukan_ends_at_the_same_rate_for_all(warmup: float) -> None:
    """Torch's cosine of two groups at 1e-4 and 1e-2, both down to 1e-5, over 400 epochs."""
    net = Net()
    optimizer = build_optimizer(net, name="adam", lr=1e-4, kan_lr=1e-2, decay_all=True)
    scheduler = build_scheduler(
        optimizer,
        max_epochs=400,
        steps_per_epoch=64,
        min_lr=1e-5,
        scale_min_lr=False,
        warmup_epochs=warmup,
        warmup_lr=1e-6,
        interval="epoch",
    )
    twin = torch.optim.Adam([{"params": g["params"], "lr": g["initial_lr"]} for g in optimizer.param_groups])
    assert [group["initial_lr"] for group in optimizer.param_groups] == pytest.approx([1e-4, 1e-2])
    published = torch.optim.lr_scheduler.CosineAnnealingLR(twin, T_max=400, eta_min=1e-5)
    twin.step()
    for epoch in range(401):
        rates = [group["lr"] for group in optimizer.param_groups]
        expected = [group["lr"] for group in twin.param_groups]
        if epoch < warmup:
            expected = [1e-6 + (lr - 1e-6) * epoch / warmup for lr in (1e-4, 1e-2)]
        if epoch < 400:  # timm ends at the minimum
            assert rates == pytest.approx(expected, rel=1e-6)
        scheduler.step(epoch + 1)
        published.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1e-5, 1e-5])
    # built anew, as after a restart, it is the same
    again = build_scheduler(
        optimizer,
        max_epochs=400,
        steps_per_epoch=64,
        min_lr=1e-5,
        scale_min_lr=False,
        warmup_epochs=warmup,
        interval="epoch",
    )
    again.step(200)
    expected = [1e-5 + (lr - 1e-5) / 2 for lr in (1e-4, 1e-2)]
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(expected)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("patience", [0, 1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_a_plateau_is_that_of_torch(mode: str, patience: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randint(-2, 3, (60,), generator=generator) * 1e-4
    values = [*(1 + steps.cumsum(0)).tolist(), math.nan, *(2 * torch.rand(20, generator=generator)).tolist()]
    model = nn.Linear(2, 2)
    optimizer = build_optimizer(model, name="adamw", lr=1.0)
    scheduler = build_scheduler(
        optimizer,
        max_epochs=100,
        steps_per_epoch=1,
        name="plateau",
        decay_rate=0.5,
        patience=patience,
        mode=mode,
        min_lr=1e-3,
    )
    twin = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=1.0)
    published = torch.optim.lr_scheduler.ReduceLROnPlateau(twin, mode, 0.5, patience, min_lr=1e-3)
    for epoch, value in enumerate(values, 1):
        scheduler.values.append(value)
        scheduler.step(epoch)
        published.step(value)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(twin.param_groups[0]["lr"])
    assert count_reductions(values, patience, mode) > 3
