"""Explanations of checkpoints of every family, from the configuration to the files."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kanvision.analysis.explain.explainer import SCORES
from kanvision.app.build import build_task
from kanvision.app.explain.run import explain
from kanvision.app.model import build_model
from kanvision.config import ConfigError, EvalConfig, compose, parse_train

CONF = Path(__file__).resolve().parents[3] / "conf"
SMALL = {
    "ukan": ("model.size=tiny",),
    "unet": ("model.size=tiny",),
    "kan_unet": ("model.width_scale=0.25",),
    "res_kan_unet": ("model.width_scale=0.25",),
    "u2_kan": ("model.width_scale=0.25",),
    "smp": ("model.encoder_weights=null",),
}
FIELDS = ("data=synthetic_fields", "data.img_size=32", "data.limit=6", "data.limit_test=6")
BINARY = ("data.mode=binary", "data.num_classes=2")
LAYERS = {"res_kan_unet": ["decoder_last", "bottleneck", "encoder_last"]}


@pytest.fixture
def checkpoint(tmp_path):
    """The checkpoint of a run that did not train: checkpoint("ukan", "data=...") -> its folder."""

    def make(model: str, *overrides: str) -> Path:
        words = [f"model={model}", *SMALL.get(model, ()), *overrides, "trainer.accelerator=cpu"]
        run = parse_train(compose("train", words, CONF))
        torch.manual_seed(0)
        task = build_task(run, build_model(run), {})
        kept: dict = {"state_dict": task.state_dict()}
        task.on_save_checkpoint(kept)
        folder = tmp_path / model / "checkpoints"
        folder.mkdir(parents=True)
        torch.save(kept, folder / "best.ckpt")
        return folder / "best.ckpt"

    return make


def config(ckpt: Path, **options) -> EvalConfig:
    trainer = {"accelerator": "cpu", "enable_progress_bar": False}
    explain = {"num_images": 1, "num_steps": 2, **options}
    return EvalConfig.model_validate(
        {"ckpt": str(ckpt), "mode": "explain", "trainer": trainer, "explain": explain}
    )


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("model", SMALL)
def test_every_family_of_segmenters(model, checkpoint):
    path = checkpoint(model, *FIELDS, *BINARY)
    means = explain(config(path))
    folder = path.parent.parent / "explain"
    layers = LAYERS.get(model, ["decoder_last", "bottleneck"])
    methods = [*(f"grad_cam@{layer}" for layer in layers), "integrated_gradients", "chance"]
    assert list(dict.fromkeys(name.partition("/")[0] for name in means)) == methods
    rows = read(folder / "scores.csv")
    assert len(rows) % len(methods) == 0
    (image,) = {row["image"] for row in rows}
    assert set(rows[0]) == {"image", "class", "method", "layer", *SCORES}
    for method in methods:
        values = [row["iou"] for row in rows if f"{row['method']}@{row['layer']}".strip("@") == method]
        assert means[f"{method}/iou"] == pytest.approx(np.mean([float(v) for v in values]), abs=1e-6)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["scores"]["chance"]["iou"] == means["chance/iou"]
    assert summary["answers"] == len(rows) // len(methods)
    channels = read(folder / "channels.csv")
    assert [row["channel"] for row in channels] == [f"channel {i}" for i in range(1, 5)]
    assert sum(float(row["gradients"]) for row in channels) == pytest.approx(1, abs=1e-4)
    assert (folder / "channels.svg").read_text().startswith("<?xml")
    for name in ("overview.png", "channels.png", f"images/{image}.png"):
        assert np.asarray(Image.open(folder / name)).std() > 10


@pytest.mark.parametrize(
    ("model", "overrides"),
    [
        ("convkan", ("model.width_scale=0.125",)),
        ("kat", ("model.size=micro",)),
    ],
)
def test_classifiers_are_explained_without_masks(model, overrides, checkpoint):
    path = checkpoint(model, *overrides, "data=digits", "data.limit=20", "data.limit_test=20")
    means = explain(config(path))
    rows = read(path.parent.parent / "explain" / "scores.csv")
    assert [row["method"] for row in rows[:3]] == ["grad_cam", "integrated_gradients", "chance"]
    assert rows[0]["layer"] == "encoder_last"
    assert not {"iou", "border_iou", "prediction_iou"} & set(rows[0])
    assert {"chance/sufficiency", "chance/comprehensiveness", "integrated_gradients/incomplete"} <= set(means)
    both = explain(config(path, classes=[1, 7], methods=["grad_cam"]))
    assert "integrated_gradients/selected" not in both
    rows = read(path.parent.parent / "explain" / "scores.csv")
    assert [row["class"] for row in rows if row["method"] == "grad_cam"] == ["1", "7"]


def test_binary_masks_and_options(checkpoint):
    path = checkpoint("ukan", *FIELDS, *BINARY)
    means = explain(
        config(path, num_images=2, threshold=0.25, baseline="black", channels=False, num_pictures=1)
    )
    folder = path.parent.parent / "explain"
    assert means["grad_cam@decoder_last/selected"] == 0.25
    assert not (folder / "channels.csv").exists()
    assert len(list((folder / "images").iterdir())) == 1
    rows = read(folder / "scores.csv")
    assert len({row["class"] for row in rows}) == 1
    first, second = dict.fromkeys(row["image"] for row in rows)
    assert [row["image"] for row in rows] == 4 * [first] + 4 * [second]


def test_where_maps_are_taken_is_a_choice_that_is_checked(checkpoint):
    path = checkpoint("unet", *FIELDS)
    means = explain(config(path, layers=["network.encoder.1"], methods=["grad_cam"], num_images=1))
    assert "grad_cam@network.encoder.1/iou" in means
    with pytest.raises(ConfigError, match=r"explain\.layers=\[middle\]\n.*its locations: encoder_last"):
        explain(config(path, layers=["middle"]))
    with pytest.raises(ConfigError, match=r"explain\.classes=\[1, 9\]\n.*no class 9\n.*legal: 0 \("):
        explain(config(path, classes=[1, 9]))
