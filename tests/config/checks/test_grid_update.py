"""The commands of docs/grid.md compose, and the callback that they name is built from what they say."""

import re
import shlex
from pathlib import Path

import pytest
from hydra.utils import instantiate

from kanvision.callbacks import GridUpdate
from kanvision.config import ConfigGroups, compose, parse_train

ROOT = Path(__file__).resolve().parents[3]
CONF = ROOT / "conf"
COMMANDS = re.findall(
    r"^`python train\.py ([^`]*)`$", (ROOT / "docs" / "grid.md").read_text("utf-8"), re.MULTILINE
)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_document(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "latest").mkdir(parents=True)
    config = parse_train(compose("train", shlex.split(command), CONF), ConfigGroups([CONF]))
    care = instantiate(config.callbacks["grid"])
    assert isinstance(care, GridUpdate)
    assert care.at_start is ("at_start=false" not in command)
    assert care.refine_at == ({10: 10, 20: 20} if "refine_at" in command else {})
    assert care.max_change == (0.02 if "max_change" in command else 0.008)


def test_there_are_commands() -> None:
    assert len(COMMANDS) == 4
