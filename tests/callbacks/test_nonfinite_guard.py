"""No step is made on a loss or a gradient that is not finite: on one process and on two."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor

from kanvision.callbacks import NonFiniteGuard
from kanvision.callbacks.nonfinite_guard import MAX_OVERFLOWS
from kanvision.tasks import NonFiniteError
from tests.programs import run_program
from tests.tasks.tiny_problem import TinyNet

from .stepwise import environment, train

SCRIPT = Path(__file__).with_name("guard_run.py")


class Spoil(Callback):
    """Puts a number that is none into the images of a step, or makes the gradient one."""

    def __init__(self, *steps: int, what: str = "image", value: float = math.nan) -> None:
        self.steps, self.what, self.value = steps, what, value
        self.seen: list[int] = []
        self.weights: dict[int, list[Tensor]] = {}
        self.handle: Any = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        self.weights[step] = [tensor.clone() for tensor in pl_module.model.state_dict().values()]
        if step not in self.steps:
            return
        if self.what == "image":
            batch["image"][0, 0, 0, 0] = self.value
            self.seen += batch["index"].tolist()
        else:
            parameter = pl_module.model.head.weight
            self.handle = parameter.register_hook(lambda gradient: gradient * self.value)

    def on_train_batch_end(self, *_: Any) -> None:
        if self.handle is not None:
            self.handle.remove()
            self.handle = None


@pytest.mark.parametrize(
    ("what", "value", "says"),
    [
        ("image", math.nan, "the loss"),
        ("image", math.inf, "the loss"),
        ("gradient", math.nan, "the gradient"),
        ("gradient", math.inf, "the gradient"),
    ],
)
def test_raises_before_the_step(tmp_path: Path, what: str, value: float, says: str) -> None:
    spoil = Spoil(5, what=what, value=value)
    network = TinyNet()
    with pytest.raises(NonFiniteError, match=f"{says} is not finite at step 4, epoch 0"):
        train(tmp_path, NonFiniteGuard(tmp_path / "found"), spoil, model=lambda: network)
    (path,) = (tmp_path / "found").iterdir()
    found = json.loads(path.read_text())
    assert (path.name, found["not_finite"]) == ("epoch0_step4_rank0.json", says)
    assert found["config"] == {"model": {"name": "tiny", "size": 8}, "seed": 0}
    assert "model.head.weight" in found["parameters"]
    assert len(found["images"][0]) == 5
    if what == "image":
        assert found["images"] == [spoil.seen]
    weights = dict(network.named_parameters())
    names = list(network.state_dict())
    for name, before in zip(names, spoil.weights[5], strict=True):
        if name in weights:
            assert torch.equal(weights[name], before), name


@pytest.mark.parametrize("accumulate", [1, 2])
def test_skips_the_step_and_leaves_no_trace(tmp_path: Path, accumulate: int) -> None:
    """Neither in weights nor in running statistics, which the forward pass has spoiled already."""
    spoil = Spoil(5)
    guard = NonFiniteGuard(tmp_path / "found", "skip")
    with pytest.warns(UserWarning, match="is skipped, the loss is not finite"):
        trace = train(tmp_path, guard, spoil, accumulate_grad_batches=accumulate)
    first, after = (5, 6) if accumulate == 1 else (5, 7)
    changed = [
        name
        for name, left, right in zip(
            TinyNet().state_dict(), spoil.weights[first], spoil.weights[after], strict=True
        )
        if not torch.equal(left, right)
    ]
    assert changed == []
    assert any(not torch.equal(a, b) for a, b in zip(spoil.weights[1], spoil.weights[5], strict=True))
    assert all(bool(tensor.isfinite().all()) for tensor in spoil.weights[max(spoil.weights)])
    assert trace.epochs[0]["train/skipped_steps"] == 1
    assert trace.epochs[1]["train/skipped_steps"] == 0
    assert math.isnan(trace.epochs[0]["train/loss"])
    assert math.isfinite(trace.epochs[1]["train/loss"])


@pytest.mark.filterwarnings("ignore:Step . is skipped")
def test_skips_so_many_and_no_more(tmp_path: Path) -> None:
    guard = NonFiniteGuard(tmp_path / "found", "skip", max_skipped=2)
    with pytest.raises(NonFiniteError, match="max_skipped=2 steps were skipped already"):
        train(tmp_path, guard, Spoil(2, 3, 6))
    assert len(list((tmp_path / "found").iterdir())) == 3


class Scaled(MixedPrecision):
    """A gradient scaler on the CPU, without lower precision, so that overflow is what the test makes it."""

    def __init__(self) -> None:
        super().__init__("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**16))

    def autocast_context_manager(self) -> Any:
        return torch.autocast("cpu", enabled=False)


def test_overflow_is_the_scalers_business(tmp_path: Path) -> None:
    spoil = Spoil(3, 4, what="gradient", value=math.inf)
    guard, plugin = NonFiniteGuard(tmp_path / "found"), Scaled()
    train(tmp_path, guard, spoil, plugins=[plugin], ema=False)
    assert not (tmp_path / "found").exists()
    assert plugin.scaler.get_scale() == 2.0**14
    assert torch.equal(spoil.weights[3][0], spoil.weights[5][0])
    assert not torch.equal(spoil.weights[5][0], spoil.weights[6][0])


def test_a_scaler_that_finds_no_scale_is_an_error(tmp_path: Path) -> None:
    spoil = Spoil(*range(1, 100), what="gradient", value=math.nan)
    with pytest.raises(NonFiniteError, match=f"skipped {MAX_OVERFLOWS + 1} steps in a row"):
        train(tmp_path, NonFiniteGuard(tmp_path / "found"), spoil, plugins=[Scaled()], max_epochs=8)


def test_a_loss_that_is_not_finite_is_an_error_under_a_scaler_too(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match="the loss is not finite at step 2"):
        train(tmp_path, NonFiniteGuard(tmp_path / "found"), Spoil(3), plugins=[Scaled()])


@pytest.mark.long
@pytest.mark.parametrize("mode", ["raise", "skip"])
def test_two_processes_decide_alike(tmp_path: Path, mode: str) -> None:
    """Only the second one gets a bad image."""
    done = run_program([str(SCRIPT), str(tmp_path), mode], tmp_path, environment())
    assert (done.returncode == 0) == (mode == "skip"), done.stderr
    found = {path.name: json.loads(path.read_text()) for path in (tmp_path / "found").iterdir()}
    assert sorted(found) == [f"epoch0_step2_rank{rank}.json" for rank in (0, 1)]
    finite = [math.isfinite(found[name]["losses"][0]) for name in sorted(found)]
    assert finite == [True, False]
    ends = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert ends[0] == ends[1]
    assert ends[0]["steps"] == (2 if mode == "raise" else 4)
    assert ends[0]["finite"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [({"mode": "stop"}, "mode=stop is unknown; legal: raise, skip"), ({"max_skipped": -1}, "max_skipped=-1")],
)
def test_arguments_are_checked(tmp_path: Path, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        NonFiniteGuard(tmp_path, **arguments)
