"""A run that stops early, and is resumed before or after its decision."""

from pathlib import Path

import pytest

from kanvision.callbacks import EarlyStopping

from .stepwise import At, CrashError, crash, train
from .test_steps import same_end


def stopper(patience: int = 2) -> EarlyStopping:
    """Early stopping on a metric that never improves by as much as it should."""
    return EarlyStopping("val/acc1", patience=patience, min_delta=9.0)


def test_a_run_that_has_stopped_trains_no_more(tmp_path: Path) -> None:
    """An epoch that a run trains beyond its decision, because it was killed before its test."""
    whole = train(tmp_path, stopper(), max_epochs=9)
    assert max(whole.steps) == 23  # the first validation improves, two do not
    assert train(tmp_path, stopper(), resume=tmp_path / "last.ckpt", max_epochs=9).steps == {}
    more = train(tmp_path, stopper(patience=3), resume=tmp_path / "last.ckpt", max_epochs=9)
    assert sorted(more.steps) == [*range(24, 32)]


def test_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    train(tmp_path / "whole", stopper(), max_epochs=9)
    parts = tmp_path / "parts"
    with pytest.raises(CrashError):
        train(parts, stopper(), At(14, crash), max_epochs=9, every_n_steps=1)
    train(parts, stopper(), resume=parts / "step.ckpt", max_epochs=9, seed=99)
    same_end(tmp_path / "whole", parts)
