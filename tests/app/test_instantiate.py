"""Objects that a configuration names: what is filled in late, and what is not built at all."""

from pathlib import Path

import pytest
from pytorch_lightning.callbacks import Callback, GradientAccumulationScheduler
from pytorch_lightning.loggers import CSVLogger, Logger

from kanvision.app.instantiate import instantiate_target


def test_a_variable_of_the_environment_reaches_the_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KANVISION_TEST_SECRET", "hunter2")
    entry = {
        "_target_": "pytorch_lightning.loggers.CSVLogger",
        "save_dir": str(tmp_path),
        "name": "${oc.env:KANVISION_TEST_SECRET}",
    }
    logger = instantiate_target(entry, Logger)
    assert isinstance(logger, CSVLogger)
    assert logger.name == "hunter2"
    assert entry["name"] == "${oc.env:KANVISION_TEST_SECRET}"


def test_a_target_that_is_looked_up_late_is_still_judged(tmp_path: Path) -> None:
    """A text that becomes a section when it is filled in, at once and after a second round."""
    touched = tmp_path / "touched"
    call = f"{{_target_: os.system, command: 'touch {touched}'}}"
    for text in ('${oc.decode:"' + call + '"}', '\\${oc.decode:"' + call + '"}'):
        with pytest.raises(ValueError, match="legal"):
            instantiate_target({"_target_": "kanvision.callbacks.LastCheckpoint", "dirpath": text}, Callback)
    assert not touched.exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.distributed.elastic.multiprocessing.subprocess_handler.SubprocessHandler",
        "torch.package.PackageImporter",
        "pytorch_lightning.Trainer",
    ],
)
def test_an_argument_that_starts_something_is_refused(target: str, tmp_path: Path) -> None:
    inner = {"_target_": target, "entrypoint": "touch", "args": [str(tmp_path / "touched")], "env": {}}
    with pytest.raises(ValueError, match="is no Callback or Logger or Module"):
        instantiate_target({"_target_": "kanvision.callbacks.LastCheckpoint", "dirpath": inner}, Callback)
    assert not list(tmp_path.iterdir())


def test_arguments_that_are_plain_data_or_modules_are_built() -> None:
    theme = "pytorch_lightning.callbacks.progress.rich_progress.RichProgressBarTheme"
    bar = instantiate_target(
        {"_target_": "pytorch_lightning.callbacks.RichProgressBar", "theme": {"_target_": theme}}, Callback
    )
    assert type(bar).__name__ == "RichProgressBar"


def test_whole_numbers_as_keys_reach_the_class() -> None:
    """A configuration has texts as keys, also after it went through a checkpoint."""
    entry = {"_target_": "pytorch_lightning.callbacks.GradientAccumulationScheduler"}
    callback = instantiate_target({**entry, "scheduling": {"0": 1, "2": 4}}, Callback)
    assert isinstance(callback, GradientAccumulationScheduler)
    assert callback.scheduling == {0: 1, 2: 4}
    assert type(callback.scheduling) is dict
