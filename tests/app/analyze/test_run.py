"""Analyses of checkpoints of several families, from the configuration to the files."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kanvision.app.analyze.inputs import sample_positions
from kanvision.app.analyze.run import analyze
from kanvision.app.build import build_task
from kanvision.app.model import build_model
from kanvision.app.restore import RestoredRun, restore
from kanvision.config import ConfigError, EvalConfig, compose, parse_train

CONF = Path(__file__).resolve().parents[3] / "conf"
SMALL = {
    "vit": ("model.size=micro", "model.depth=2", "model.patch_size=2"),
    "karat": ("model.size=micro", "model.depth=2", "model.patch_size=2", "model.rank=3"),
    "kat": ("model.size=micro", "model.depth=2", "model.patch_size=2"),
    "convkan": ("model.width_scale=0.125",),
}
BLOCK = "blocks.1.attn"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that did not train: run("vit") -> its folder, with weights after 0, 1 and 3 epochs."""
    made: dict[str, Path] = {}

    def make(model: str, *overrides: str) -> Path:
        key = " ".join((model, *overrides))
        if key in made:
            return made[key]
        words = [
            f"model={model}",
            *SMALL[model],
            "data=digits",
            "data.limit=20",
            "data.limit_test=20",
            "data.batch_size=2",
        ]
        configuration = parse_train(compose("train", [*words, *overrides, "trainer.accelerator=cpu"], CONF))
        torch.manual_seed(0)
        task = build_task(configuration, build_model(configuration), {})
        folder = tmp_path_factory.mktemp(model) / "checkpoints"
        folder.mkdir()
        for epoch, name in ((0, "epoch_000"), (0, "epoch_001"), (2, "best")):
            kept: dict = {"state_dict": task.state_dict(), "epoch": epoch}
            task.on_save_checkpoint(kept)
            torch.save(kept, folder / f"{name}.ckpt")
            with torch.no_grad():
                for parameter in task.parameters():
                    parameter.add_(0.01 * torch.randn_like(parameter))
        made[key] = folder.parent
        return made[key]

    return make


def config(folder: Path, analysis: str, **options) -> EvalConfig:
    trainer = {"accelerator": "cpu", "enable_progress_bar": False}
    return EvalConfig.model_validate(
        {
            "ckpt": str(folder),
            "mode": "analyze",
            "analysis": analysis,
            "trainer": trainer,
            "analyze": {analysis: options},
        }
    )


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def restore_frozen(cfg: EvalConfig) -> RestoredRun:
    run = restore(cfg)
    run.freeze()
    return run


def check_files(folder: Path, *pictures: str) -> dict:
    """Pictures, page, summary and index are there; returns the summary."""
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["pictures"] == list(pictures)
    for name in pictures:
        assert np.asarray(Image.open(folder / f"{name}.png")).std() > 10
        assert (folder / f"{name}.svg").read_text().startswith("<?xml")
    page = (folder / "index.html").read_text()
    assert page.count("data:image/png;base64,") == len(pictures)
    assert f"{folder.name}/index.html" in (folder.parent / "index.html").read_text()
    return summary


@pytest.mark.parametrize("model", ["vit", "karat", "kat"])
def test_maps_of_attention_are_those_of_the_network(model, run):
    folder = run(model)
    numbers = analyze(config(folder, "attention", num_images=3))
    out = folder / "analyses" / "attention"
    check_files(out, f"maps_{BLOCK}")
    rows, data = read(out / "maps.csv"), np.load(out / "data.npz")
    assert len(rows) == 3 * 3  # images x heads
    after = data[f"{BLOCK}/after"]
    assert after.shape == (3, 3, 4, 4)
    restored = restore_frozen(config(folder, "attention"))
    image = restored.datamodule.datasets["test"].__getitems__(data["positions"].tolist())["image"]
    caught = {}
    block = restored.task.model.blocks[1]
    block.attn.register_forward_hook(lambda m, args, out: caught.update(x=args[0]))
    with torch.no_grad():
        restored.task(image)
        q, k, _ = block.attn.qkv(caught["x"]).reshape(3, 17, 3, 3, -1).permute(2, 0, 3, 1, 4)
    logits = (q @ k.mT * block.attn.scale)[:, :, 0, 1:].reshape(3, 3, 4, 4)
    np.testing.assert_allclose(data[f"{BLOCK}/before"], logits.numpy(), atol=1e-5)
    assert [float(row["max"]) for row in rows] == pytest.approx(after.max((2, 3)).ravel(), rel=1e-5)
    negative = numbers[f"{BLOCK}/negative_share"]
    assert negative == 0 if model != "karat" else negative > 0.1


def test_images_blocks_and_heads_are_choices_that_are_checked(run):
    folder = run("vit")
    analyze(config(folder, "attention", images=[5, 2], blocks=[0, -1, 1], heads=[2]))
    out = folder / "analyses" / "attention"
    check_files(out, "maps_blocks.0.attn", "maps_blocks.1.attn")
    rows = read(out / "maps.csv")
    assert [(row["position"], row["head"]) for row in rows] == [("5", "2"), ("2", "2")] * 2
    for options, words in (
        ({"images": [20]}, r"analyze\.attention\.images=\[20\].*split=test\n.*no image 20\n.*from 0 to 19"),
        ({"blocks": [2]}, r"analyze\.attention\.blocks=\[2\]\n.*number 2\n.*1 \(blocks\.1\.attn\)"),
        ({"heads": [0, 3]}, r"analyze\.attention\.heads=\[0, 3\]\n.*no head 3\n.*0 to 2"),
    ):
        with pytest.raises(ConfigError, match=words):
            analyze(config(folder, "attention", **options))


@pytest.mark.parametrize("analysis", ["attention", "spectra"])
def test_a_network_without_attention_is_told_which_have_it(analysis, run):
    options = {"matrices": "attention"} if analysis == "spectra" else {}
    with pytest.raises(ConfigError, match=r"convkan_4 has no attention.*\n.*model=vit, kat, karat"):
        analyze(config(run("convkan"), analysis, **options))


@pytest.mark.parametrize("overrides", [(), ("model.num_softmax_heads=1",)])
def test_spectra_of_learned_attention_end_at_its_rank(overrides, run):
    folder = run("karat", *overrides)
    numbers = analyze(config(folder, "spectra", num_images=3))
    out = folder / "analyses" / "spectra"
    check_files(out, "spectra")
    assert numbers[f"{BLOCK}/after_most_rank"] == 3
    assert numbers[f"{BLOCK}/after_drop_at_r"] > 1e3
    rows = read(out / "singular_values.csv")
    kinds = {row["kind"] for row in rows}
    assert kinds == ({"learned", "softmax"} if overrides else {"learned"})
    if overrides:
        assert numbers[f"{BLOCK}/softmax/after_most_rank"] > 3
        return
    # the table again, by numpy from the maps of all queries
    from kanvision.analysis.attention.capture import attentions

    restored = restore_frozen(config(folder, "spectra"))
    images = restored.datamodule.datasets["test"].__getitems__(sample_positions(restored, 3))["image"]
    (each,) = attentions(restored.task.model, images, [BLOCK])
    for side in ("before", "after"):
        values = np.linalg.svd(getattr(each, side).numpy().reshape(9, 17, 17), compute_uv=False)
        mine = [row for row in rows if row["side"] == side]
        assert [int(row["index"]) for row in mine] == list(range(1, 18))
        for key, expected in (("min", values.min(0)), ("mean", values.mean(0)), ("max", values.max(0))):
            np.testing.assert_allclose([float(row[key]) for row in mine], expected, atol=1e-5 * values.max())


def test_softmax_keeps_more_directions_than_the_rank_of_a_head(run):
    numbers = analyze(config(run("vit"), "spectra", num_images=2, blocks=[0]))
    assert {name.rpartition("/")[0] for name in numbers} == {"blocks.0.attn/softmax"}
    assert "blocks.0.attn/softmax/after_drop_at_r" not in numbers


def test_spectra_of_weights_where_nothing_attends(run):
    folder = run("convkan")
    numbers = analyze(config(folder, "spectra"))
    out = folder / "analyses" / "spectra"
    check_files(out, "weights")
    weight = restore_frozen(config(folder, "spectra")).task.model.state_dict()["head.fc.weight"].double()
    rows = [row for row in read(out / "singular_values.csv") if row["weight"] == "head.fc.weight"]
    values = torch.linalg.svdvals(weight)
    assert [float(row["value"]) for row in rows] == pytest.approx(values.tolist(), rel=1e-5)
    stable = float((values**2).sum() / values[0] ** 2)
    assert numbers["head.fc.weight/stable_rank"] == pytest.approx(stable)
    with pytest.raises(ConfigError, match=r"analyze\.spectra\.max_size=1\n"):
        analyze(config(folder, "spectra", max_size=1))


def test_histograms_count_all_weights_of_every_epoch_that_was_kept(run):
    folder = run("karat")
    numbers = analyze(config(folder, "histograms", num_bins=10))
    out = folder / "analyses" / "histograms"
    summary = check_files(out, "histograms", "over_training", "operators")
    assert summary["sentences"][0] == "The run has saved the weights after epochs 0, 1, 3."
    restored = restore_frozen(config(folder, "histograms"))
    total = sum(p.numel() for p in restored.task.model.parameters())
    assert numbers["all weights/number"] == total
    rows = [row for row in read(out / "histograms.csv") if row["kind"] == "all weights"]
    for epoch in ("0", "1", "3"):
        mine = [row for row in rows if row["epoch"] == epoch]
        assert len(mine) == 12  # ten bins and what is outside
        assert sum(int(row["count"]) for row in mine) == total
    start = torch.load(folder / "checkpoints" / "epoch_000.ckpt", weights_only=True)["state_dict"]
    names = [f"model.{name}" for name, _ in restored.task.model.named_parameters()]
    values = torch.cat([start[name].flatten() for name in names]).double().numpy()
    counts = [int(row["count"]) for row in rows if row["epoch"] == "0"][1:-1]
    assert counts == np.histogram(values, 10, (-0.1, 0.1))[0].tolist()
    facts = read(out / "weights.csv")
    assert float(facts[0]["std"]) == pytest.approx(values.std(), rel=1e-5)
    with pytest.raises(
        ConfigError, match=r"epochs=\[2\]\n.*after epoch 2\n.*legal: 0, 1, 3; .*callbacks=snapshots"
    ):
        analyze(config(folder, "histograms", epochs=[2]))


def test_of_one_file_there_is_one_epoch_and_it_is_said_how_to_get_more(run, tmp_path):
    file = tmp_path / "mine.ckpt"
    file.write_bytes((run("convkan") / "checkpoints" / "best.ckpt").read_bytes())
    analyze(config(file, "histograms"))
    summary = check_files(tmp_path / "analyses" / "histograms", "histograms")
    assert "callbacks=snapshots" in summary["sentences"][0]


def test_several_analyses_lie_side_by_side_where_the_user_wants(run, tmp_path):
    for name in ("spectra", "histograms"):
        cfg = config(run("vit"), name).model_copy(update={"output": str(tmp_path)})
        analyze(cfg)
    index = (tmp_path / "index.html").read_text()
    assert index.index("histograms/index.html") < index.index("spectra/index.html")
