"""Color masks from end to end: a table names the colors, and predicted masks have them."""

from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from tests.data.fake_masks import save, scan

COLORS = np.array([(0, 0, 0), (255, 0, 0), (0, 200, 40)], np.uint8)


def test_colors_go_from_masks_through_training_to_predicted_masks(program, tmp_path: Path):
    for i in range(8):
        labels = np.zeros((32, 32), np.uint8)
        labels[4:12, 4 + i : 14 + i], labels[20:30, 6:20] = 1, 2
        save(tmp_path / "data" / "images" / f"{i}.png", scan(i, (32, 32)))
        save(tmp_path / "data" / "masks" / f"{i}.png", COLORS[labels])
    table = tmp_path / "classes.csv"
    table.write_text("name,r,g,b\nbackground,0,0,0\nroad,255,0,0\nfield,0,200,40\n")
    own = ("data=segmentation_folder", "data.root=data", "data.mode=multiclass", "data.palette=classes.csv")
    checked = program("eval.py", "mode=check_data", *own, "check.num_workers=1")
    assert "masks: #000000 background (78.5%), #00c828 field (13.7%), #ff0000 road (7.8%)" in checked.stdout
    small = ("model=unet", "model.size=tiny", "data.img_size=32", "data.batch_size=4", "data.num_workers=0")
    quick = ("trainer=cpu", "trainer.max_epochs=1", "scheduler.warmup_epochs=0", "logger=none", "run.dir=run")
    trained = program("train.py", *own, *small, *quick)
    assert "#00c828 field (13.7%)" in " ".join(trained.stdout.split())
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["data"]["palette"] == {"#000000": "background", "#ff0000": "road", "#00c828": "field"}
    table.unlink()  # a checkpoint knows the palette
    program(
        "eval.py", "ckpt=run", "mode=predict", "input=data/images", "output=out", "trainer.accelerator=cpu"
    )
    picture = Image.open(tmp_path / "out" / "masks" / "0.png")
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), COLORS[np.asarray(picture)])
