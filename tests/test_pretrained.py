"""Weights in the package: whole, small, described, and loaded by every way that is promised."""

import json
from pathlib import Path

import pytest
import timm
import torch

import kanvision as kv
from kanvision.app.evaluate import evaluate
from kanvision.config import EvalConfig
from kanvision.pretrained import FOLDER, find_pretrained

NAMES = kv.list_pretrained()
MOST_BYTES = 8_000_000


def test_weights_ship_and_are_small() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES
    assert {path.name for path in files} == {"README.md", "config.json", "model.safetensors"}
    assert "convkan_4.digits" in NAMES
    with pytest.raises(ValueError, match=r"convkan_4\.digit: no weights .*legal: convkan_4\.digits"):
        find_pretrained("convkan_4.digit")


@pytest.mark.parametrize("name", NAMES)
def test_every_way_loads_the_same_weights(name: str) -> None:
    """Other weights than those that were scored, a missing card, or a folder of a machine are found."""
    weights = find_pretrained(name)
    weights.check()
    predictor = kv.load_run(name)
    spec = predictor.record.input
    images = torch.randn(2, spec.in_chans, spec.img_size, spec.img_size)
    expected = predictor.logits(images)
    for network in (
        kv.create_model(name, pretrained=True),
        timm.create_model(name, pretrained=True),
        kv.from_pretrained(f"local-dir:{weights.folder}").network,
    ):
        torch.testing.assert_close(network.eval()(images), expected)
    assert name in timm.list_pretrained()
    card = (weights.folder / "README.md").read_text("utf-8")
    facts = predictor.record.facts
    for words in (facts["commit"], f"`{facts['command']}`", "license of the images", "Scores of this file"):
        assert words in card
    assert predictor.record.config["seed"] == 0
    assert "/tmp" not in card + json.dumps(weights.config)


def test_the_plain_name_has_no_weights_and_its_own_size() -> None:
    """A tag that becomes the default of its model would change every network of that name."""
    with pytest.raises(RuntimeError, match="No pretrained weights exist"):
        kv.create_model("convkan_4", pretrained=True)
    assert timm.models.get_pretrained_cfg("convkan_4").num_classes == 1000
    tagged, plain = (
        kv.create_model("convkan_4.digits"),
        kv.create_model("convkan_4", num_classes=10, in_chans=1),
    )
    assert sum(p.numel() for p in tagged.parameters()) < sum(p.numel() for p in plain.parameters()) / 4
    assert kv.create_model("convkan_4.digits", pretrained=True, num_classes=3).num_classes == 3


def test_the_score_of_the_card_is_that_of_the_file(tmp_path: Path) -> None:
    options = {"trainer": {"accelerator": "cpu", "enable_progress_bar": False}, "data": {"num_workers": 0}}
    scores = evaluate(EvalConfig(ckpt="convkan_4.digits", output=str(tmp_path), images=False, **options))
    card = kv.load_run("convkan_4.digits").record.facts["file_scores"]
    assert scores == pytest.approx(card, abs=1e-4)
