"""analysis=landscape, hessian and transfer of a small run, through eval.py's own functions."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kanvision.app import load_evaluation
from kanvision.app.restore import restore
from kanvision.app.train import train
from kanvision.config import ConfigError, compose, parse_eval, parse_train

CONF = Path(__file__).resolve().parents[3] / "conf"
QUICK = (
    *(
        "trainer.accelerator=cpu",
        "data.limit=60",
        "data.limit_test=60",
        "data.batch_size=20",
        "trainer.max_epochs=3",
        "seed=1",
    ),
    *("scheduler.warmup_epochs=0", "trainer.enable_progress_bar=false", "logger=none", "test=false"),
    *("model=karat", "model.size=micro", "model.embed_dim=12", "model.depth=1", "model.num_heads=2"),
    *("model.patch_size=4", "optimizer.lr=0.01"),
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with snapshots and one without."""
    folder = tmp_path_factory.mktemp("runs")
    for name, more in (
        ("kept", ["callbacks=snapshots"]),
        ("bare", ["callbacks=none", "trainer.max_epochs=1"]),
    ):
        words = [*QUICK, *more, f"run.dir={folder / name}", f"run.root={folder}"]
        train(parse_train(compose("train", words, CONF)))
    torch.save({}, folder / "nothing.ckpt")
    return folder


def analyze(run: Path, analysis: str, *words: str) -> tuple[dict[str, float], Path]:
    given = ["mode=analyze", f"analysis={analysis}", f"ckpt={run}", "trainer.accelerator=cpu", *words]
    config = parse_eval(compose("eval", [*given, "trainer.enable_progress_bar=false"], CONF))
    parent = "last" if any("last.ckpt" in word for word in words) else ""
    return load_evaluation("analyze")(config), run / "analyses" / parent / analysis


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


SMALL = ("analyze.landscape.num_points=3", "analyze.landscape.num_images=30")


def test_the_landscape_has_the_path_of_the_snapshots_in_it(runs: Path) -> None:
    last = f"ckpt={runs / 'kept' / 'checkpoints' / 'last.ckpt'}"
    numbers, folder = analyze(
        runs / "kept", "landscape", last, *SMALL, "analyze.landscape.include_vectors=true"
    )
    rows = table(folder / "path.csv")
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2, 3]
    end = {key: float(value) for key, value in rows[-1].items()}
    assert [end[key] for key in ("x", "y", "distance", "distance_from_plane")] == [0, 0, 0, 0]
    assert end["loss"] == pytest.approx(numbers["loss"], rel=1e-5)
    assert float(rows[0]["x"]) < 0
    assert float(rows[0]["loss"]) != pytest.approx(float(rows[0]["loss_in_plane"]), rel=1e-6)
    assert 0.8 < numbers["path_share"] <= 1
    for row in rows:
        length, rest = float(row["distance"]), float(row["distance_from_plane"])
        assert 0 <= rest <= length
    assert len(table(folder / "surface.csv")) == 9
    data = np.load(folder / "data.npz")
    assert data["loss"].shape == (3, 3)
    xs = [float(row["x"]) for row in rows]
    assert data["x"][0] < min(xs)
    assert data["x"][-1] > max(xs)
    assert (folder / "landscape.png").stat().st_size > 1000
    assert "</svg>" in (folder / "landscape.svg").read_text()
    bent, _ = analyze(
        runs / "kept",
        "landscape",
        last,
        *SMALL,
        "analyze.landscape.include_vectors=true",
        "analyze.landscape.scaling=filter",
    )
    assert bent["path_share"] < numbers["path_share"]


def test_the_loss_in_the_middle_is_that_of_the_checkpoint(runs: Path) -> None:
    words = (
        "analyze.landscape.directions=random",
        "analyze.landscape.num_points=3",
        "analyze.landscape.range=0.5",
    )
    numbers, folder = analyze(runs / "kept", "landscape", *words, "analyze.landscape.num_images=1000")
    config = parse_eval(compose("eval", [f"ckpt={runs / 'kept'}", "trainer.accelerator=cpu"], CONF))
    measured = load_evaluation("test")(config)
    assert numbers["loss"] == pytest.approx(measured["test/loss"], rel=1e-5)
    (middle,) = [row for row in table(folder / "surface.csv") if float(row["x"]) == float(row["y"]) == 0]
    assert float(middle["loss"]) == pytest.approx(numbers["loss"], rel=1e-5)
    assert {float(row["x"]) for row in table(folder / "surface.csv")} == {-0.5, 0, 0.5}


def test_a_run_without_snapshots_gets_random_directions_or_the_reason(runs: Path) -> None:
    ckpt = next((runs / "bare").rglob("*.ckpt"), None)
    if ckpt is None:  # callbacks=none keeps no checkpoint: one is enough, that of a snapshot by itself
        ckpt = runs / "bare" / "alone.ckpt"
        ckpt.parent.mkdir(exist_ok=True)
        ckpt.write_bytes((runs / "kept" / "checkpoints" / "epoch_003.ckpt").read_bytes())
    numbers, _ = analyze(runs / "bare", "landscape", f"ckpt={ckpt}", *SMALL)
    assert "path_share" not in numbers
    with pytest.raises(ConfigError, match=r"(?s)directions=path.*fewer than three.*callbacks=snapshots"):
        analyze(runs / "bare", "landscape", f"ckpt={ckpt}", *SMALL, "analyze.landscape.directions=path")


def test_the_hessian_is_that_of_the_training_images(runs: Path) -> None:
    few = ("analyze.hessian.num_images=30", "analyze.hessian.num_runs=2", "analyze.hessian.num_steps=12")
    numbers, folder = analyze(runs / "kept", "hessian", *few, "analyze.hessian.num_trace_vectors=3")
    rows = table(folder / "eigenvalues.csv")
    assert len(rows) == 10
    assert float(rows[0]["eigenvalue"]) == pytest.approx(numbers["largest"], rel=1e-3)
    assert len(table(folder / "ritz.csv")) == 24
    assert (folder / "hessian.png").stat().st_size > 1000

    # the largest eigenvalue by power iteration on differences of gradients, over the same 30 images
    config = parse_eval(compose("eval", [f"ckpt={runs / 'kept'}", "trainer.accelerator=cpu"], CONF))
    task = restore(config).task
    task.double().eval()
    study = _images(runs)
    parameters = [p for p in task.model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in parameters) == numbers["parameters"]
    flat = torch.nn.utils.parameters_to_vector(parameters).detach()

    def gradient(shift: torch.Tensor) -> torch.Tensor:
        torch.nn.utils.vector_to_parameters(flat + shift, parameters)
        loss = F.cross_entropy(task(study["image"].double()), study["target"])
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])

    generator = torch.Generator().manual_seed(0)
    v, value = torch.randn(flat.shape, generator=generator, dtype=torch.float64), 0.0
    for _ in range(60):
        v = v / v.norm()
        product = (gradient(1e-5 * v) - gradient(-1e-5 * v)) / 2e-5
        value, v = float(v @ product), product
    assert numbers["largest"] == pytest.approx(value, rel=0.02)


def _images(runs: Path) -> dict[str, torch.Tensor]:
    """The 30 training images of the test above, from the run's own data."""
    from kanvision.app.build import setup_datamodule
    from kanvision.checkpoints import find_checkpoint, load_checkpoint
    from kanvision.config import train_config

    run = train_config(load_checkpoint(find_checkpoint(runs / "kept"))["kanvision"]["config"])
    datamodule = setup_datamodule(run)
    known = datamodule.datasets["train"]
    order = np.random.default_rng(0).permutation(len(known))[:30]
    return datamodule.build_dataset(known.source, known.indices, training=False).__getitems__(
        sorted(order.tolist())
    )


def test_features_are_tried_on_other_data(runs: Path, tmp_path: Path) -> None:
    from tests.data import fake

    fake.mnist(tmp_path, num=(60, 30))
    words = (
        "analyze.transfer.data=mnist",
        f"analyze.transfer.root={tmp_path}",
        "analyze.transfer.num_train=40",
    )
    numbers, folder = analyze(runs / "kept", "transfer", *words)
    rows = table(folder / "scores.csv")
    assert [(row["features"], row["probe"]) for row in rows] == [
        (features, probe)
        for features in ("trained", "untrained", "pixels")
        for probe in ("nearest neighbors", "linear")
    ]
    assert float(rows[1]["accuracy"]) == pytest.approx(numbers["trained/linear"])
    own, folder = analyze(runs / "kept", "transfer")
    assert own["trained/linear"] > own["chance"]
    assert "no transfer" in (folder / "index.html").read_text()
    assert json.loads((folder / "summary.json").read_text())["numbers"] == own
    with pytest.raises(ConfigError, match=r"(?s)analyze\.transfer\.data=minst.*legal: .*mnist"):
        analyze(runs / "kept", "transfer", "analyze.transfer.data=minst")
