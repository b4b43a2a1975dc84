"""Hydra composes rows of tables on the command line, in files, and in the processes of launchers.

A configuration is composed once in a process, until a file changes.
"""

import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.singleton import Singleton
from hydra.errors import HydraException
from omegaconf import OmegaConf

from kanvision.config import compose
from kanvision.config.cli.compose import composer
from kanvision.config.conf_source import register_conf
from kanvision.config.yaml_files import YamlLoader

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
    register_conf([conf])
    loader = ConfigLoaderImpl(create_config_search_path(f"file://{conf}"))
    # resolvers are functions, for which launchers have a pickle of their own
    sent = {**Singleton.get_state(), "omegaconf_resolvers": {}}
    state = tmp_path / "state"
    state.write_bytes(pickle.dumps((sent, loader)))
    script = f"""
import io
import os
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


def test_files_are_read_as_omegaconf_reads_them(conf: Path) -> None:
    """Catches a loader that reads a value as another type."""
    paths = [*conf.rglob("*.yaml")]
    assert len(paths) > 200
    for path in paths:
        with path.open(encoding="utf-8") as file:
            assert (yaml.load(file, YamlLoader) or {}) == OmegaConf.to_container(OmegaConf.load(path)), path


@pytest.mark.parametrize(
    "text",
    ["1e-6", "1E5", "-1.5e3", "1_0.5", ".5", "2026-01-02", "1:30", "on", ".inf", "1.e2", ".5e3"],
)
def test_a_plain_word_has_the_type_of_omegaconf(text: str) -> None:
    assert repr(yaml.load(f"a: {text}", YamlLoader)) == repr(
        OmegaConf.to_container(OmegaConf.load(io.StringIO(f"a: {text}")))
    )


def test_a_changed_file_is_composed_again(conf: Path, tmp_path: Path) -> None:
    """Catches a process that keeps a configuration after its files have changed."""
    (tmp_path / "recipe").mkdir()
    path = tmp_path / "recipe" / "mine.yaml"
    sizes = []
    for size in (7, 8):
        path.write_text(f"# @package _global_\ndata: {{batch_size: {size}}}\n", "utf-8")
        os.utime(path, ns=(size, size))
        with composer("train", conf, [tmp_path]) as composing:
            cfg = composing.compose(["recipe=mine"], [])
        cfg.seed = 99  # the copy of this caller
        with composer("train", conf, [tmp_path]) as composing:
            again = composing.compose(["recipe=mine"], [])
        sizes.append((cfg.data.batch_size, again.seed == 99, again.hydra.runtime.cwd == os.getcwd()))
    assert sizes == [(7, False, True), (8, False, True)]
