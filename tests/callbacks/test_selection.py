"""Basis selection in training: three phases, the function and the optimizer go on, checkpoints load."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from kanvision.bases import SelectableBasis
from kanvision.callbacks import BasisSelection, BestCheckpoint, EMAWeights, LastCheckpoint, RNGState
from kanvision.checkpoints import load_checkpoint, load_state_dict
from kanvision.layers import KANConv2d, KANLinear, structure_changes
from kanvision.optim import build_optimizer
from tests.programs import run_program
from tests.tasks.tiny_problem import NUM_CLASSES, TinyData, TinyNet, tiny_task, tiny_trainer

from .selection_distributed_run import main
from .stepwise import environment
from .test_resume import StopAfter, Trace, assert_same, without_paths

IMAGES = torch.randn(9, 3, 6, 6, generator=torch.Generator().manual_seed(5))


class TinyChoice(nn.Module):
    """Two layers that choose, the first of which leans towards a basis with parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        kwargs = {"pool": ["bspline", "rbf", "wavelet", "gram"]}
        self.conv = KANConv2d(
            3, 6, 3, padding=1, stride=2, basis="selectable", basis_kwargs=kwargs, norm="batch", drop_rate=0.1
        )
        self.head = KANLinear(6, NUM_CLASSES, "selectable", basis_kwargs=kwargs, edge_scale=True)
        with torch.no_grad():
            self.conv.basis.logits[2] = 0.3
            self.head.basis.logits[1] = 0.3

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))  # (B, num_classes)


def run(
    folder: Path,
    selection: BasisSelection,
    *extra: Callback,
    ema: bool = False,
    resume: Path | None = None,
    stop: int | None = None,
    seed: int = 0,
    **options: Any,
) -> tuple[Any, pl.Trainer]:
    pl.seed_everything(seed, workers=True, verbose=False)
    callbacks: list[Callback] = [RNGState(), *extra[:1], selection, *extra[1:], LastCheckpoint(folder)]
    if ema:
        callbacks.insert(0, EMAWeights(0.9))
    if stop is not None:
        callbacks.append(StopAfter(stop))
    task = tiny_task(options.pop("model", TinyChoice)(), **options.pop("task", {}))
    trainer = tiny_trainer(folder, callbacks=callbacks, **{"max_epochs": 4, **options})
    trainer.fit(task, datamodule=TinyData(), ckpt_path=resume)
    return task, trainer


class Probe(Callback):
    """What networks and optimizer are like at the start of each epoch."""

    def __init__(self) -> None:
        self.outputs: list[list[Tensor]] = []
        self.states: list[dict[str, Any]] = []
        self.gates: list[list[Tensor]] = []
        self.phases: list[str] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        networks = [pl_module.model]
        networks += [c.averaged.model for c in trainer.callbacks if isinstance(c, EMAWeights)]
        with torch.no_grad():
            self.outputs.append([copy.deepcopy(network).eval()(IMAGES) for network in networks])
        names = {p: name for name, p in pl_module.model.named_parameters()}
        (optimizer,) = trainer.optimizers
        state = {
            names[p]: copy.deepcopy(optimizer.state[p])
            for group in optimizer.param_groups
            for p in group["params"]
        }
        self.states.append(state)
        bases = [m for network in networks for m in network.modules() if isinstance(m, SelectableBasis)]
        self.phases.append(bases[0].phase if bases else "gone")
        self.gates.append([basis.gates().detach() for basis in bases])


def test_three_phases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    probe, before = Probe(), Probe()
    selection = BasisSelection(1, 3, start_temperature=4.0, end_temperature=0.25)
    task, trainer = run(tmp_path, selection, before, probe, ema=True, max_epochs=6)
    assert probe.phases == ["train", "select", "select", "select", "gone", "gone"]
    assert all(gates.tolist() == [0.25] * 4 for gates in probe.gates[0])
    # Logits have learned nothing in the first phase; the temperatures are 4, 1, 1/4.
    first = torch.softmax(torch.tensor([0.0, 0.0, 0.3, 0.0]) / 4, 0)
    torch.testing.assert_close(probe.gates[1][0], first)
    assert probe.gates[1][2].equal(probe.gates[1][0])  # those of the average
    assert probe.gates[3][0].max() > probe.gates[2][0].max() > probe.gates[1][0].max()
    assert [basis.name for basis in (task.model.conv.basis, task.model.head.basis)] == ["wavelet", "rbf"]
    assert structure_changes(task.model) == [
        {"kind": "select_basis", "layer": "conv", "arguments": {"member": "wavelet"}},
        {"kind": "select_basis", "layer": "head", "arguments": {"member": "rbf"}},
    ]
    assert "selected bases: 1 wavelet, 1 rbf (conv wavelet, head rbf)" in capsys.readouterr().out
    logged = {key: float(v) for key, v in trainer.callback_metrics.items() if key.startswith("selection/")}
    assert 0 < logged.pop("selection/entropy") < 1
    assert logged == {
        "selection/bspline": 0,
        "selection/rbf": 1,
        "selection/wavelet": 1,
        "selection/gram": 0,
        "selection/layers/conv": 2,
        "selection/layers/head": 1,
    }


@pytest.mark.parametrize("ema", [False, True])
def test_functions_go_on_as_they_were(tmp_path: Path, ema: bool) -> None:
    before, after = Probe(), Probe()
    run(tmp_path, BasisSelection(1, 1, end_temperature=1e-3), before, after, ema=ema)
    assert (before.phases, after.phases) == (
        ["train", "train", "select", "gone"],
        ["train", "select", "gone", "gone"],
    )
    assert len(before.outputs[2]) == 1 + ema
    for old, new in zip(before.outputs[2], after.outputs[2], strict=True):
        torch.testing.assert_close(new, old, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kan_lr", [None, 0.005])
def test_the_optimizer_is_that_of_the_pruned_network(tmp_path: Path, kan_lr: float | None) -> None:
    options = {"name": "adamw", "lr": 0.02, "weight_decay": 0.05, "kan_lr": kan_lr}
    before, after = Probe(), Probe()
    selection = BasisSelection(1, 1)
    task, trainer = run(tmp_path, selection, before, after, max_epochs=3, task={"optimizer": options})
    (optimizer,) = trainer.optimizers
    fresh = build_optimizer(task.model, **options)
    names = {id(p): name for name, p in task.model.named_parameters()}

    def groups(optimizer: Any) -> list[Any]:
        rates = ("lr", "betas")  # the schedule has changed the rate
        return [
            (
                [names[id(p)] for p in group["params"]],
                {key: value for key, value in group.items() if key not in ("params", *rates)},
            )
            for group in optimizer.param_groups
        ]

    assert groups(optimizer) == groups(fresh)
    assert {id(p) for p in optimizer.state} == set(names)
    old, new = before.states[2], after.states[2]
    assert torch.equal(new["conv.base_weight"]["exp_avg"], old["conv.base_weight"]["exp_avg"])
    assert torch.equal(new["conv.basis.shift"]["exp_avg"], old["conv.basis.members.wavelet.shift"]["exp_avg"])
    # Weights are multiplied by gate and scale f, so that gradients are divided by it, their squares twice.
    for name, index, kept_slice in (("conv", 2, slice(16, 17)), ("head", 1, slice(8, 16))):
        fresh_basis = getattr(TinyChoice(), name).basis
        factor = float((before.gates[2][name == "head"] * fresh_basis.scale)[index])
        for key, power in (("exp_avg", 1), ("exp_avg_sq", 2)):
            was = old[f"{name}.basis_weight"][key]
            kept = (
                was.unflatten(1, (-1, fresh_basis.num_basis))[:, :, kept_slice].flatten(1, 2) / factor**power
            )
            torch.testing.assert_close(new[f"{name}.basis_weight"][key], kept, rtol=1e-5, atol=0)
        assert new[f"{name}.basis_weight"]["step"] == old[f"{name}.basis_weight"]["step"]


@pytest.mark.parametrize("ema", [False, True])
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_resumed_equals_uninterrupted(tmp_path: Path, ema: bool, stop: int) -> None:
    traces = [Trace() for _ in range(3)]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(whole, BasisSelection(1, 1), traces[0], ema=ema)
    run(parts, BasisSelection(1, 1), traces[1], ema=ema, stop=stop)
    run(parts, BasisSelection(1, 1), traces[2], ema=ema, resume=parts / "last.ckpt", seed=9)
    assert traces[1].steps + traces[2].steps == traces[0].steps
    left, right = (load_checkpoint(folder / "last.ckpt") for folder in (whole, parts))
    assert_same(without_paths(left), without_paths(right))


def test_checkpoints_of_the_last_phase_hold_the_pruned_network(tmp_path: Path) -> None:
    best = BestCheckpoint(tmp_path, "val/acc1")
    task, trainer = run(tmp_path, BasisSelection(1, 1), Trace(), best, ema=True)
    fresh = TinyChoice()
    load_state_dict(fresh, load_checkpoint(tmp_path / "last.ckpt"))
    assert torch.equal(fresh.eval()(IMAGES), task.model.eval()(IMAGES))
    # The best score is one of the pruned network, even if an earlier one was higher.
    checkpoint = load_checkpoint(tmp_path / "best.ckpt")
    assert checkpoint["epoch"] >= 2
    assert len(checkpoint["kanvision"]["structure"]) == 2
    trainer.test(task, datamodule=TinyData(), ckpt_path=best.best_model_path, verbose=False)
    trainer.test(
        tiny_task(TinyChoice()), datamodule=TinyData(), ckpt_path=best.best_model_path, verbose=False
    )


class Loss(Callback):
    """Auxiliary loss, entropy, and hooks on the task, by epoch."""

    def __init__(self) -> None:
        self.values: list[tuple[float, float, int]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        auxiliary = float(trainer.callback_metrics.get("train/auxiliary", 0.0))
        entropies = [m.entropy().item() for m in pl_module.modules() if isinstance(m, SelectableBasis)]
        self.values.append(
            (auxiliary, sum(entropies) / max(1, len(entropies)), len(pl_module._forward_hooks))
        )


def test_the_entropy_penalty_makes_gates_decide(tmp_path: Path) -> None:
    loss, without = Loss(), Loss()
    run(tmp_path, BasisSelection(1, 2, 1.0, 1.0, entropy_weight=5.0), Trace(), loss)
    run(tmp_path / "without", BasisSelection(1, 2, 1.0, 1.0), Trace(), without)
    auxiliary, entropies, hooks = zip(*loss.values, strict=True)
    assert hooks == (0, 1, 1, 0)  # in the second phase only
    assert auxiliary[0] == 0
    assert 5 > auxiliary[1] > auxiliary[2] > 5 * entropies[2]
    _, others, hooks = zip(*without.values, strict=True)
    assert others[2] > entropies[2]
    assert not any(hooks)


@pytest.mark.parametrize(
    ("given", "epochs", "lengths"), [((5, 5), 5, (2, 2)), ((8, 2), 6, (4, 1)), ((None, None), 2, (0, 1))]
)
def test_phases_are_shortened_with_the_run(
    tmp_path: Path, given: tuple[int | None, int | None], epochs: int, lengths: tuple[int, int]
) -> None:
    selection = BasisSelection(*given)
    told = f"train_epochs={lengths[0]} and select_epochs={lengths[1]}, so that trainer.max_epochs={epochs}"
    with pytest.warns(UserWarning, match=told):
        task, _ = run(tmp_path, selection, max_epochs=epochs)
    assert structure_changes(task.model)


def test_what_it_says_when_it_does_not_fit(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"callbacks\.selection has nothing to do"):
        run(tmp_path, BasisSelection(1, 1), model=TinyNet, max_epochs=3)
    with pytest.raises(ValueError, match=r"trainer\.max_epochs=1: callbacks\.selection needs 2"):
        run(tmp_path, BasisSelection(2, 1), max_epochs=1)
    for options, message in (
        ({"train_epochs": -1}, "train_epochs=-1 must be at least 0"),
        ({"select_epochs": 0}, "select_epochs=0 must be at least 1"),
        ({"end_temperature": 0.0}, "end_temperature"),
        ({"entropy_weight": -0.1}, "entropy_weight"),
    ):
        with pytest.raises(ValueError, match=message):
            BasisSelection(**options)


@pytest.mark.long
def test_two_processes_do_as_one(tmp_path: Path) -> None:
    main(tmp_path / "one", 1)
    script = Path(__file__).with_name("selection_distributed_run.py")
    result = run_program([str(script), str(tmp_path / "two"), "2"], tmp_path, environment())
    assert result.returncode == 0, result.stderr
    one = json.loads((tmp_path / "one" / "rank0.json").read_text())
    two = [json.loads((tmp_path / "two" / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert two[0]["weights"] == two[1]["weights"]
    assert one["structure"] == two[0]["structure"] == two[1]["structure"]
    assert len(one["structure"]) == 2
    for name, values in one["weights"].items():
        torch.testing.assert_close(
            torch.tensor(two[0]["weights"][name]), torch.tensor(values), atol=1e-4, rtol=1e-3
        )
