"""Grid care in training: functions and optimizers go on, checkpoints load, two processes do as one."""

import copy
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from kanvision.callbacks import EMAWeights, GridUpdate, LastCheckpoint, RNGState
from kanvision.callbacks.grid import _map_state
from kanvision.checkpoints import CheckpointError, load_checkpoint, load_state_dict
from kanvision.layers import KANLinear, grid_sites, measure_inputs, measure_share_outside, refine_grid
from kanvision.optim import build_optimizer, replace_parameter
from tests.programs import run_program
from tests.tasks.tiny_problem import TinyData, TinyNet, tiny_task, tiny_trainer

from .grid_distributed_run import main
from .stepwise import environment
from .test_resume import StopAfter, Trace, assert_same, without_paths
from .tiny_kan import TinyKAN

IMAGES = torch.randn(20, 3, 6, 6, generator=torch.Generator().manual_seed(5))


def run(
    folder: Path,
    care: GridUpdate,
    *extra: Callback,
    model: Any = None,
    ema: bool = False,
    resume: Path | None = None,
    stop: int | None = None,
    seed: int = 0,
    **options: Any,
) -> tuple[Any, pl.Trainer]:
    pl.seed_everything(seed, workers=True, verbose=False)
    callbacks: list[Callback] = [RNGState(), care, *extra, LastCheckpoint(folder)]
    if ema:
        callbacks.insert(0, EMAWeights(0.9))
    if stop is not None:
        callbacks.append(StopAfter(stop))
    task = tiny_task((model or TinyKAN)(), **options.pop("task", {}))
    trainer = tiny_trainer(folder, callbacks=callbacks, **options)
    trainer.fit(task, datamodule=TinyData(), ckpt_path=resume)
    return task, trainer


class Probe(Callback):
    """What the network and its average say to the last images, as training runs them, at each epoch's end."""

    def __init__(self) -> None:
        self.outputs: list[list[torch.Tensor]] = []
        self.optimizer: list[Any] = []
        self.images: list[torch.Tensor] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.images = [*self.images, batch["image"]] if batch_idx else [batch["image"]]

    @staticmethod
    def undropped(network: Any) -> Any:
        copied = copy.deepcopy(network).train()
        copied.conv.drop_rate = 0.0
        return copied

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        networks = [pl_module.model]
        networks += [c.averaged.model for c in trainer.callbacks if isinstance(c, EMAWeights)]
        with torch.no_grad():
            self.outputs.append(
                [
                    torch.cat([self.undropped(network)(images) for images in self.images])
                    for network in networks
                ]
            )
        (optimizer,) = trainer.optimizers
        names = {id(parameter): name for name, parameter in pl_module.model.named_parameters()}
        self.optimizer.append(
            [
                (
                    sorted(names[id(p)] for p in group["params"]),
                    {key: value for key, value in group.items() if key != "params"},
                    {names[id(p)]: dict(optimizer.state[p]) for p in group["params"]},
                )
                for group in optimizer.param_groups
            ]
        )


def probed(folder: Path, care: GridUpdate, **options: Any) -> tuple[Probe, Probe]:
    before, after = Probe(), Probe()
    pl.seed_everything(0, workers=True, verbose=False)
    callbacks = [before, care, after]
    if options.pop("ema", False):
        callbacks.insert(0, EMAWeights(0.9))
    task = tiny_task(options.pop("model", TinyKAN)())
    tiny_trainer(folder, callbacks=callbacks, **options).fit(task, datamodule=TinyData())
    return before, after


@pytest.mark.parametrize(
    ("basis", "stop", "ema"),
    [("bspline", 1, True), ("bspline", 2, False), ("rbf", 1, False), ("rbf", 2, True)],
)
def test_resumed_equals_uninterrupted(tmp_path: Path, basis: str, stop: int, ema: bool) -> None:
    def care() -> GridUpdate:
        return GridUpdate(
            move_every_n_epochs=1,
            refine_at={1: 8, 2: 16} if basis == "bspline" else None,
            num_batches=2,
            max_change=0.2,
        )

    traces = [Trace() for _ in range(3)]
    run(tmp_path / "whole", care(), traces[0], model=partial(TinyKAN, basis=basis), ema=ema)
    parts = tmp_path / "parts"
    run(parts, care(), traces[1], model=partial(TinyKAN, basis=basis), ema=ema, stop=stop)
    run(
        parts,
        care(),
        traces[2],
        model=partial(TinyKAN, basis=basis),
        ema=ema,
        resume=parts / "last.ckpt",
        seed=9,
    )
    assert traces[1].steps + traces[2].steps == traces[0].steps
    whole, resumed = (load_checkpoint(folder / "last.ckpt") for folder in (tmp_path / "whole", parts))
    assert_same(without_paths(whole), without_paths(resumed))
    assert len(whole["kanvision"]["structure"]) == (4 if basis == "bspline" else 0)


@pytest.mark.parametrize("squash", [None, "clamp"])
def test_a_checkpoint_restores_all_of_a_changed_network(tmp_path: Path, squash: Any) -> None:
    care = GridUpdate(move_every_n_epochs=1, refine_at={2: 8})
    task, _ = run(tmp_path, care, model=partial(TinyKAN, squash=squash), ema=True)
    fresh = TinyKAN(squash=squash)
    checkpoint = load_checkpoint(tmp_path / "last.ckpt")
    with pytest.raises(RuntimeError, match="size mismatch"):
        fresh.load_state_dict({k.removeprefix("model."): v for k, v in checkpoint["state_dict"].items()})
    load_state_dict(fresh, checkpoint)
    assert torch.equal(fresh.eval()(4 * IMAGES), task.model.eval()(4 * IMAGES))
    for layer, trained in ((fresh.conv, task.model.conv), (fresh.head, task.model.head)):
        assert layer.basis.domain == trained.basis.domain != (-1.0, 1.0)
        assert layer.basis.num_basis == 11


def test_a_checkpoint_of_other_changes_is_refused(tmp_path: Path) -> None:
    run(tmp_path, GridUpdate(refine_at={1: 8}), max_epochs=1)
    checkpoint = load_checkpoint(tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match="layer='conv' names no module"):
        load_state_dict(TinyNet(), checkpoint)
    checkpoint["kanvision"]["structure"][0]["kind"] = "grow_wings"
    with pytest.raises(CheckpointError, match="grow_wings"):
        load_state_dict(TinyKAN(), checkpoint)


def test_the_test_of_an_earlier_structure_says_what_to_do(tmp_path: Path) -> None:
    task, trainer = run(tmp_path, GridUpdate(), max_epochs=1)
    earlier = tmp_path / "last.ckpt"
    task, trainer = run(tmp_path / "later", GridUpdate(refine_at={1: 8}), max_epochs=1)
    with pytest.raises(ValueError, match="new network"):
        trainer.test(task, datamodule=TinyData(), ckpt_path=earlier, verbose=False)
    trainer.test(tiny_task(TinyKAN()), datamodule=TinyData(), ckpt_path=earlier, verbose=False)


@pytest.mark.parametrize("ema", [False, True])
def test_functions_go_on_as_they_were(tmp_path: Path, ema: bool) -> None:
    care = GridUpdate(move_at=[1, 3], refine_at={2: 8}, num_batches=6)
    before, after = probed(tmp_path, care, ema=ema, max_epochs=4)
    assert len(before.outputs[0]) == 1 + ema
    for epoch, limit in enumerate([0.03, 0.03, 0.03, 0.0]):
        for old, new in zip(before.outputs[epoch], after.outputs[epoch], strict=True):
            assert float((new - old).norm() / old.norm()) <= limit
    assert any(not torch.equal(o[0], n[0]) for o, n in zip(before.outputs, after.outputs, strict=True))


def test_a_refinement_within_a_clamp_changes_nothing(tmp_path: Path) -> None:
    before, after = probed(
        tmp_path, GridUpdate(refine_at={1: 8, 2: 24}), model=partial(TinyKAN, squash="clamp"), ema=True
    )
    for old, new in zip(before.outputs, after.outputs, strict=True):
        torch.testing.assert_close(old, new, atol=2e-5, rtol=1e-4)


def test_the_optimizer_goes_on(tmp_path: Path) -> None:
    before, after = probed(tmp_path, GridUpdate(at_start=False, refine_at={2: 8}), max_epochs=3)
    changed = {"conv.basis_weight", "head.basis_weight"}
    for old, new in zip(before.optimizer[1], after.optimizer[1], strict=True):
        assert old[0] == new[0]
        assert old[1] == new[1]
        assert {"lr_scale", "initial_lr", "weight_decay"} <= new[1].keys()
        for name in old[0]:
            for key in ("exp_avg", "exp_avg_sq"):
                if name not in changed:
                    assert new[2][name][key] is old[2][name][key]
                else:
                    assert new[2][name][key].shape[1] == old[2][name][key].shape[1] // 7 * 11
            assert new[2][name]["step"] == old[2][name]["step"]
    names = [name for names, *_ in after.optimizer[1] for name in names]
    assert sorted(names) == sorted(dict(TinyKAN().named_parameters()))
    scales = {name: group[1]["lr_scale"] for group in after.optimizer[1] for name in group[0]}
    assert scales["conv.basis_weight"] == scales["head.basis_weight"] == 0.25 != scales["conv.base_weight"]
    steps = [
        state["conv.basis_weight"]["step"]
        for _, _, state in after.optimizer[2]
        if "conv.basis_weight" in state
    ]
    assert steps == [18]


def test_momenta_go_on_in_the_same_direction() -> None:
    """A step along the mapped momentum changes the function as one along the old momentum would have."""
    torch.manual_seed(0)
    layer = KANLinear(3, 2, base_act=None).double()
    x = torch.rand(50, 3, dtype=torch.float64) * 2 - 1
    direction, squares = torch.randn_like(layer.basis_weight), torch.rand_like(layer.basis_weight)
    with torch.no_grad():
        expected = torch.func.functional_call(layer, {"basis_weight": direction}, (x,))
        convert = _map_state(refine_grid(layer), 1)
        found = torch.func.functional_call(layer, {"basis_weight": convert(direction)}, (x,))
        fine = convert(squares)
    torch.testing.assert_close(found, expected)
    assert squares.min() <= fine.min() <= fine.max() <= squares.max()
    assert torch.equal(_map_state(torch.zeros(5, 8), 1)(torch.ones(2, 24)), torch.ones(2, 15))


@pytest.mark.parametrize("name", ["sgd", "adamw", "lion", "adafactor", "lamb", "nadamw", "rmsprop"])
def test_optimizers_take_a_refined_layer(name: str) -> None:
    torch.manual_seed(0)
    layer = KANLinear(20, 3, drop_rate=0.0)
    optimizer = build_optimizer(layer, name=name, lr=1e-3, kan_lr=1e-4)

    def step() -> float:
        optimizer.zero_grad()
        loss = (layer(torch.linspace(-1, 1, 20).expand(4, 20)) - 1).square().mean()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    first = step()
    old = layer.basis_weight
    matrix = refine_grid(layer)
    replace_parameter(optimizer, old, layer.basis_weight, _map_state(matrix, 1))
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in layer.parameters())
    weight = layer.basis_weight.detach().clone()
    assert [step() for _ in range(20)][-1] < first
    assert not torch.equal(layer.basis_weight, weight)


class FirstInputs(Callback):
    """How much of the first batch lies outside, when the network meets it."""

    def __init__(self) -> None:
        self.shares: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        found = measure_inputs(pl_module.model, [batch["image"]])
        self.shares.append(max(values.share_outside for values in found.values()))


@pytest.mark.parametrize("at_start", [True, False])
def test_grids_start_where_the_inputs_are(tmp_path: Path, at_start: bool) -> None:
    watch = FirstInputs()
    task, _ = run(tmp_path, GridUpdate(at_start=at_start), watch, ema=True, max_epochs=1)
    assert (watch.shares[0] < 0.05) is at_start
    assert (task.model.conv.basis.domain != (-1.0, 1.0)) is at_start
    # not again when training goes on
    resumed, _ = run(
        tmp_path, GridUpdate(at_start=True), ema=True, max_epochs=2, resume=tmp_path / "last.ckpt"
    )
    assert resumed.model.conv.basis.domain == task.model.conv.basis.domain


def test_the_share_outside_is_logged(tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []

    class Last(Callback):
        def on_train_batch_end(
            self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any
        ) -> None:
            seen.append(batch["image"])

    task, trainer = run(tmp_path, GridUpdate(at_start=False, num_batches=2), Last(), max_epochs=1)
    shares = {}
    for name, layer in (("conv", task.model.conv), ("head", task.model.head)):
        inputs: list[torch.Tensor] = []
        handle = layer.register_forward_pre_hook(lambda _, args, inputs=inputs: inputs.append(args[0]))
        task.model.train()
        task.model.conv.drop_rate = 0.0
        for images in seen[-2:]:
            task.model(images)
        handle.remove()
        shares[name] = measure_share_outside(layer, torch.cat(inputs).detach())
    assert float(trainer.callback_metrics["grid/outside"]) == pytest.approx(
        sum(shares.values()) / 2, abs=1e-3
    )
    assert float(trainer.callback_metrics["grid/outside_worst"]) == pytest.approx(
        max(shares.values()), abs=1e-3
    )
    assert shares["conv"] > 0.3
    assert "grid/change" not in trainer.callback_metrics


def test_moves_are_logged_and_kept_within_their_limit(tmp_path: Path) -> None:
    _, trainer = run(tmp_path, GridUpdate(move_at=[3], max_change=0.05))
    assert 0 < float(trainer.callback_metrics["grid/change"]) <= 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"move_every_n_epochs": 0}, None),
        ({"move_every_n_epochs": -1}, "move_every_n_epochs: -1"),
        ({"move_at": [0]}, "move_at: 0"),
        ({"refine_at": {0: 8}}, "refine_at: 0"),
        ({"num_batches": 0}, "num_batches: 0"),
        ({"quantile": 0.5}, "quantile=0.5"),
        ({"margin": -0.1}, "margin=-0.1"),
        ({"max_change": 0.0}, "max_change=0.0"),
    ],
)
def test_illegal_numbers(options: dict[str, Any], message: str | None) -> None:
    if message is None:
        GridUpdate(**options)
    else:
        with pytest.raises(ValueError, match=message):
            GridUpdate(**options)


@pytest.mark.parametrize(
    ("model", "refine_at", "message"),
    [
        (TinyKAN, {1: 8, 2: 12}, "12 cells are no multiple of the 8 that conv has"),
        (TinyKAN, {2: 2}, "2 cells are no multiple of the 4"),
        (partial(TinyKAN, basis="rbf"), {1: 8}, "no basis of this model can be refined"),
    ],
)
def test_refinements_that_will_not_work_are_refused_at_the_start(
    tmp_path: Path, model: Callable[[], Any], refine_at: dict[int, int], message: str
) -> None:
    trace = Trace()
    with pytest.raises(ValueError, match=message):
        run(tmp_path, GridUpdate(refine_at=refine_at), trace, model=model)
    assert trace.steps == []


def test_a_network_without_grids_is_said(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="nothing to do"):
        run(tmp_path, GridUpdate(), model=TinyNet, max_epochs=1)
    assert grid_sites(TinyNet()) == []


# --- two processes


@pytest.mark.long
def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    """Moved and refined alike, and the new parameters get the gradients of both processes."""
    main(tmp_path / "one", 1)
    script = Path(__file__).with_name("grid_distributed_run.py")
    result = run_program([str(script), str(tmp_path / "two"), "2"], tmp_path, environment())
    assert result.returncode == 0, result.stderr
    files = [tmp_path / "one" / "rank0.json", *sorted((tmp_path / "two").glob("rank*.json"))]
    alone, first, second = (json.loads(path.read_text()) for path in files)
    assert first == second
    for found, expected in zip(first["domains"], alone["domains"], strict=True):
        assert found == pytest.approx(expected, abs=1e-4)
    assert first["structure"] == alone["structure"]
    assert len(first["structure"]) == 4
    for name, values in alone["weights"].items():
        torch.testing.assert_close(
            torch.tensor(first["weights"][name]), torch.tensor(values), atol=2e-4, rtol=1e-3
        )
    assert first["outside"] == pytest.approx(alone["outside"])
