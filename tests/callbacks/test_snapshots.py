"""The weights after every epoch are there, whole, and no more than the weights."""

from pathlib import Path

import pytest
import torch

from kanvision.callbacks import WeightSnapshots
from kanvision.checkpoints import load_checkpoint
from tests.tasks.tiny_problem import TinyData, tiny_task, tiny_trainer


@pytest.mark.parametrize(("every", "names"), [(1, [0, 1, 2, 3]), (2, [0, 2, 3])])
def test_weights_before_the_first_step_and_after_the_epochs(
    tmp_path: Path, every: int, names: list[int]
) -> None:
    task = tiny_task(mixup={})
    start = {name: value.clone() for name, value in task.model.state_dict().items()}
    trainer = tiny_trainer(tmp_path, callbacks=[WeightSnapshots(tmp_path / "kept", every)], max_epochs=3)
    trainer.fit(task, datamodule=TinyData())

    files = sorted((tmp_path / "kept").iterdir())
    assert [path.name for path in files] == [f"epoch_{n:03d}.ckpt" for n in names]
    first, last = load_checkpoint(files[0]), load_checkpoint(files[-1])
    for name, value in task.model.state_dict().items():
        torch.testing.assert_close(first["state_dict"][f"model.{name}"], start[name], rtol=0, atol=0)
        torch.testing.assert_close(last["state_dict"][f"model.{name}"], value, rtol=0, atol=0)
    assert "optimizer_states" not in last


def test_a_distance_of_no_epochs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="every_n_epochs=0 must be at least 1"):
        WeightSnapshots(tmp_path, 0)
