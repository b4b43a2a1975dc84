"""A run that goes on within an epoch equals the uninterrupted one, bit for bit."""

from pathlib import Path
from typing import Any

import pytest

from kanvision.checkpoints import load_checkpoint

from .stepwise import At, CrashError, crash, train
from .test_resume import assert_same, best_score, without_paths


def same_end(left: Path, right: Path) -> None:
    whole, parts = (load_checkpoint(folder / "last.ckpt") for folder in (left, right))
    assert_same(without_paths(whole), without_paths(parts))
    assert best_score(whole) == best_score(parts)


@pytest.mark.parametrize(
    ("step", "options"),
    [
        (3, {}),
        (13, {"num_workers": 2}),
        (13, {"ema": False, "task": {"scheduler": {"name": "step", "decay_epochs": 1, "interval": "epoch"}}}),
        (14, {"accumulate_grad_batches": 2}),
        (13, {"max_steps": 20}),
        (13, {"check_val_every_n_epoch": 2, "limit_train_batches": 6}),
    ],
)
def test_resumed_equals_uninterrupted(tmp_path: Path, step: int, options: dict[str, Any]) -> None:
    whole = train(tmp_path / "whole", **dict(options))
    parts = tmp_path / "parts"
    with pytest.raises(CrashError):
        train(parts, At(step + 1, crash), every_n_steps=1, **dict(options))
    second = train(parts, resume=parts / "step.ckpt", seed=99, **dict(options))
    assert min(second.steps) == step
    assert second.steps == {i: seen for i, seen in whole.steps.items() if i >= step}
    assert second.epochs == {i: seen for i, seen in whole.epochs.items() if i in second.epochs}
    same_end(tmp_path / "whole", parts)
    assert not (parts / "step.ckpt").exists()
