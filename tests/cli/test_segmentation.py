"""Runs on images with masks, from files on disk to scores, as a user starts them."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.data import fake_masks

QUICK = (
    "model=unet",
    "model.size=tiny",
    "model.width_scale=0.5",
    "data.img_size=32",
    "data.num_workers=0",
    "data.batch_size=2",
    "scheduler.warmup_epochs=0",
    "optimizer.lr=0.01",
    "logger=none",
)


def scores(path: Path) -> dict[str, float]:
    return {name: value for name, value in json.loads(path.read_text()).items() if name.startswith("test/")}


@pytest.mark.long
def test_two_processes_measure_as_one(program, tmp_path):
    """Scores of images, pixels, borders and objects, at sizes that differ and at a found threshold."""
    fake_masks.glas(tmp_path / "glas", (9, 4, 3))
    measured = ("metrics.objects=true", "metrics.threshold=search", "metrics.protocol=[image,dataset]")
    words = ("data=glas", "data.root=glas", "data.eval_size=original", "data.num_classes=1", *measured)
    run = tmp_path / "run"
    words = (*words, "loss.name=bce_dice", "trainer=ddp_sim", "trainer.max_epochs=3", "run.dir=run")
    program("train.py", *QUICK, *words)
    both = scores(run / "metrics.json")
    program("eval.py", "ckpt=run", "trainer.accelerator=cpu")
    alone = scores(run / "eval" / "test.json")
    assert both == pytest.approx(alone, abs=1e-5)
    wanted = {
        "iou",
        "iou_dataset",
        "f1",
        "loss",
        "training_loss",
        "hd95",
        "object_f1",
        "object_dice",
        "object_hausdorff",
    }
    assert {f"test/{name}" for name in wanted} <= both.keys()
    assert 0 < both["test/iou"] < 1
    program("eval.py", "ckpt=run", "split=val", "trainer.accelerator=cpu")
    assert json.loads((run / "eval" / "val.json").read_text())["images"] == 2


def test_files_that_cannot_be_used_are_told_before_a_run_starts(program, tmp_path):
    root = fake_masks.own_pairs(tmp_path / "own")
    (root / "masks" / "field_1.png").unlink()
    fake_masks.save(root / "masks" / "field_2.png", fake_masks.disc((9, 8)))
    (root / "images" / "field_3.png").unlink()
    fake_masks.geotiff(root / "images" / "field_3.tif", np.ones((3, 16, 20), np.uint8)).write_bytes(b"II*")
    process = program("train.py", *QUICK, "data=segmentation_folder", "data.root=own", check=False)
    assert process.returncode == 1
    assert "Traceback" not in process.stderr
    assert process.stderr.strip().startswith("data set segmentation_folder: 3 problems")
    for words in ("field_1.png: has no mask", "field_2.png: 9 x 8 pixels", "field_3.tif: cannot be read"):
        assert words in process.stderr
    # What hydra notes down before our code runs is all that there is.
    written = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert {path.parent.name for path in written} <= {".hydra"}
