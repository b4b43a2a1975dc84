"""S-KAN in a run: all bases, gates that decide, the others cut out; then evaluated from the file alone."""

import json

import pytest
import torch


@pytest.mark.long
def test_a_run_that_chooses_its_bases(program, tmp_path):
    program(
        "train.py",
        "basis=selectable",
        "callbacks=selection",
        *(
            "callbacks.selection.train_epochs=1",
            "callbacks.selection.select_epochs=1",
            "trainer.max_epochs=3",
        ),
        *(
            "trainer.accelerator=cpu",
            "data.limit=48",
            "data.limit_test=48",
            "data.batch_size=16",
            "model.width_scale=0.0625",
        ),
        *("scheduler.warmup_epochs=0", "run.dir=run"),
        # a callback of Lightning with numbers as keys
        "+callbacks.together._target_=pytorch_lightning.callbacks.GradientAccumulationScheduler",
        "+callbacks.together.scheduling={0: 1, 2: 3}",
    )
    trained = json.loads((tmp_path / "run" / "metrics.json").read_text())
    chosen = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert chosen["global_step"] == 3 + 3 + 1
    assert not [name for name in chosen["state_dict"] if "gate" in name]  # cut out, with what they weighed
    program("eval.py", "ckpt=run", "trainer.accelerator=cpu")  # the best one, which may be of any phase
    best = json.loads((tmp_path / "run" / "eval" / "test.json").read_text())
    assert best["test/acc1"] == trained["test/acc1"]
    assert best["parameters"] == trained["parameters"]
    program("eval.py", "ckpt=run/checkpoints/last.ckpt", "trainer.accelerator=cpu", "output=last")
    last = json.loads((tmp_path / "last" / "test.json").read_text())
    weights = [name for name in chosen["state_dict"] if name.endswith(("basis_weight", "base_weight"))]
    assert (
        sum(chosen["state_dict"][name].numel() for name in weights) < last["parameters"] <= best["parameters"]
    )
