"""Lines in a log file, a bar at a terminal."""

from pathlib import Path

import pytest
import rich
from rich.console import Console

from kanvision.callbacks import ProgressBar
from tests.tasks.tiny_problem import TinyData, tiny_task, tiny_trainer


def test_a_log_file_gets_one_line_per_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = tiny_trainer(tmp_path, callbacks=[ProgressBar()], enable_progress_bar=True, max_epochs=2)
    trainer.fit(tiny_task(), datamodule=TinyData())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    score = float(trainer.callback_metrics["val/acc1"])
    assert f"val/acc1 {score:.4g}" in lines[-1]
    assert "v_num" not in lines[-1]


def test_a_terminal_gets_a_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rich, "_console", Console(force_terminal=True, width=140, record=True))
    bar = ProgressBar()
    trainer = tiny_trainer(tmp_path, callbacks=[bar], enable_progress_bar=True, max_epochs=1)
    trainer.fit(tiny_task(), datamodule=TinyData())
    assert bar.is_enabled
    assert bar.progress.tasks[0].total == 6
    assert bar.progress.tasks[0].finished
