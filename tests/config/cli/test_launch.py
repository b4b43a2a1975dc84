"""A single run is composed once, and the composition that was checked is the one that runs."""

import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, OmegaConf

from kanvision.config import check_command_line, launch


@pytest.mark.parametrize(
    "argv",
    [
        ["seed=2", "model=kat", "ema.decay=0.9", "hydra.verbose=false", "+model.kwargs.a=1", "seed=3"],
        ["experiment=kat/imagenet_tiny", "~recipe", "data.root=a=b"],
        [],
    ],
)
def test_the_checked_composition_is_the_one_of_hydra(argv: list[str], conf: Path) -> None:
    """Catches a run whose configuration or Hydra section differs from what Hydra composes by itself."""
    line = check_command_line("train", argv, conf)
    with initialize_config_dir(str(conf), job_name="train", version_base="1.3"):
        expected = hydra_compose("train", line.argv, return_hydra_config=True)
    assert line.config is not None
    found, wanted = (OmegaConf.to_container(cfg, resolve=False) for cfg in (line.config, expected))
    assert found == wanted


def test_one_run_is_composed_once(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a second composition between the command line and the training."""
    compositions, runs = [], []
    load = ConfigLoaderImpl.load_configuration

    def counted(self: ConfigLoaderImpl, *args: Any, **kwargs: Any) -> DictConfig:
        compositions.append(args)
        return load(self, *args, **kwargs)

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", counted)
    monkeypatch.setattr(sys, "argv", ["kanvision"])
    launch(runs.append, "train", ["debug=fdr", "seed=7"], conf, words=["train"])
    assert len(compositions) == 1
    assert sys.argv[:2] == ["kanvision", "train"]  # with which Lightning starts other ranks
    assert (runs[0].seed, runs[0].trainer.fast_dev_run) == (7, True)
