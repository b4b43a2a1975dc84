"""Hydra composes rows of tables on the command line, in files, and in the processes of launchers."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.singleton import Singleton
from hydra.errors import HydraException

from kanvision.config import compose
from kanvision.config.cli.compose import composer
from kanvision.config.defaults import register_defaults
from kanvision.config.table_source import register_experiments

ROW = "convkan/reg_slim_act_l1_1e-6"
TABLE = """\
title: t
experiments: mine/<row>
source: s
hardware: h
choose: {model: kat}
rows:
  one: {model.size: tiny}
"""


def test_a_row_composes_where_hydra_is_asked_for_it(conf: Path) -> None:
    cfg = compose("train", [f"experiment='{ROW}'"], conf)
    assert (cfg.penalty.activation_l1, cfg.model.family, cfg.recipe.name) == (
        1e-6,
        "convkan",
        "convkan_cifar100_regularization",
    )
    with pytest.raises(HydraException, match="convkan/nothing"):
        compose("train", ["experiment=convkan/nothing"], conf)


def test_a_file_of_the_user_builds_on_a_row(conf: Path, tmp_path: Path, judge) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ndefaults: [kat/imagenet_tiny, _self_]\nmodel: {size: base}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text, "utf-8")
    with composer("train", conf, [tmp_path]) as composing:
        cfg = composing.compose(["experiment=mine"], [])
    assert (cfg.model.family, cfg.model.size, cfg.recipe.name) == ("kat", "base", "kat_imagenet")
    assert judge("experiment=mine", folders=(tmp_path,)) == []


def test_tables_of_the_user_are_found(conf: Path, tmp_path: Path, judge) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "mine_table.yaml").write_text(TABLE, "utf-8")
    assert judge("experiment=mine/one", folders=(tmp_path,)) == []
    with composer("train", conf, [tmp_path]) as composing:
        assert composing.compose(["experiment=mine/one"], []).model.size == "tiny"
        assert composing.plugin_choices("experiment/mine") == ["one"]
    # without that folder there is no such row
    (problem,) = judge("experiment=mine/one")
    assert "no such choice of experiment" in problem.why


def test_a_wrong_value_in_a_row_names_the_table(tmp_path: Path, judge) -> None:
    (tmp_path / "tables").mkdir()
    text = TABLE.replace("model.size: tiny", "model.size: huge, model.sise: 1, optimizer.lr: -1")
    (tmp_path / "tables" / "mine_table.yaml").write_text(text, "utf-8")
    problems = judge("experiment=mine/one", folders=(tmp_path,))
    assert {problem.keys[0] for problem in problems} == {"model.size", "model.sise", "optimizer.lr"}
    assert all("tables/mine_table.yaml" in problem.given[0] for problem in problems)


def test_papers_and_rows_are_listed_for_completion(conf: Path) -> None:
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.object_type import ObjectType

    with composer("train", conf):
        options = GlobalHydra.instance().config_loader().get_group_options
        assert {"kat", "ukan"} <= set(options("experiment", ObjectType.GROUP))
        assert options("experiment", ObjectType.CONFIG) == []
        assert "imagenet_tiny" in options("experiment/kat", ObjectType.CONFIG)
        assert options("experiment/nothing") == []


def test_a_process_that_a_launcher_starts_composes_rows(conf: Path, tmp_path: Path) -> None:
    """Launchers such as submitit send Hydra's state and its loader to a process that registers nothing."""
    register_experiments([conf])
    register_defaults()
    loader = ConfigLoaderImpl(create_config_search_path(f"file://{conf}"))
    # resolvers are functions, for which launchers have a pickle of their own
    sent = {**Singleton.get_state(), "omegaconf_resolvers": {}}
    state = tmp_path / "state"
    state.write_bytes(pickle.dumps((sent, loader)))
    script = f"""
import pickle
from hydra.core.singleton import Singleton
from hydra.types import RunMode
state, loader = pickle.loads(open({str(state)!r}, "rb").read())
Singleton.set_state(state)
cfg = loader.load_configuration("train", ["experiment='{ROW}'"], RunMode.MULTIRUN)
print(cfg.penalty.activation_l1, cfg.model.family)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["1e-06", "convkan"], done.stderr
