"""Published experiments: every name is there and composes to a legal run; bad tables are refused."""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from kanvision.config import ConfigError, ConfigGroups, TrainConfig, compose, parse_train
from kanvision.config.checks.losses_and_metrics import logged
from kanvision.config.cli.compose import composer, without_hydra
from kanvision.config.experiments import Experiment, ExperimentTable, find_experiment, list_experiments
from kanvision.config.renames import VALUES, rename_settings
from kanvision.config.schema.keys import format_yaml
from kanvision.models import create_model
from tests.covering import one_of_each

CONF = Path(__file__).resolve().parents[2] / "conf"
CHOICES = ConfigGroups([CONF])
ROWS = CHOICES.experiments
# Each experiment as it composed as a file of its own: configuration, choices, values of a sweep.
BEFORE: dict[str, dict[str, Any]] = json.loads(
    gzip.decompress((Path(__file__).parent / "experiments_before.json.gz").read_bytes())
)
# Changed in conf/ on purpose since: names (see kanvision.config.renames), and values (start of the name of a
# row, key -> old, new).
RENAMED_CHOICES = {old: new["recipe"] for old, new in VALUES["recipe"].items()}
CHANGED_VALUES: dict[tuple[str, str], tuple[Any, Any]] = {
    # recipe.batch_size is the effective batch on any number of devices
    ("convkan/", "data.batch_size"): (64, None),
    ("kkan/", "data.batch_size"): (32, None),
    ("kan_unet/", "recipe.source"): (
        "Drokin 2024, arXiv 2407.01092; optimiser, schedule and epochs by kanvision",  # spelling: ok
        "Drokin 2024, arXiv 2407.01092; optimizer, schedule and epochs by kanvision",
    ),
    ("res_kan/tiny_imagenet_kaln_18", "trainer.max_epochs"): (250, 75),  # epochs of the published weights
}


def kind(row: Experiment) -> tuple[object, ...]:
    """Return the table of a row, the groups that it chooses and the keys that it sets."""
    return (row.table, *sorted(row.choose), *sorted(row.set), *sorted(row.sweep))


KINDS = {kind(row): name for name, row in sorted(ROWS.items(), key=lambda item: item[1].params is not None)}
EACH = one_of_each(
    sorted(KINDS.values(), key=lambda name: ROWS[name].params is None), lambda name: ROWS[name].table
)
"""A row of each kind; those after the first of each table are slow."""


def last_run(row: Experiment) -> TrainConfig:
    """Return the configuration of a row, of the last of its runs if it has several."""
    last = [f"{key}={format_yaml(values[-1])}" for key, values in row.sweep.items()]
    return parse_train(compose("train", [f"experiment='{row.name}'", *last], CONF), CHOICES)


def count_parameters(config: TrainConfig) -> int:
    arguments = config.model.arguments()
    if config.model.takes_basis:
        arguments |= {"basis": config.basis.name, "basis_kwargs": config.basis.arguments()}
    with torch.device("meta"):
        model = create_model(config.model.name, **arguments)
    return sum(parameter.numel() for parameter in model.parameters())


def check_run(row: Experiment) -> None:
    """Check that a row is a legal run, logs the published metrics and has the stated size."""
    config = last_run(row)
    assert {*row.published, *row.measured} <= set(logged(config))
    if isinstance(row.params, int):
        assert count_parameters(config) == row.params
    elif row.params:
        rounded = row.params.removesuffix(" M")
        assert f"{count_parameters(config) / 1e6:.{len(rounded.partition('.')[2])}f}" == rounded


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Return dotted keys and values of nested mappings."""
    if not isinstance(node, dict) or not node:
        yield prefix.rstrip("."), node
        return
    for key, value in node.items():
        yield from leaves(value, f"{prefix}{key}.")


def test_every_published_name_is_there() -> None:
    assert sorted(BEFORE.keys() - ROWS.keys()) == []
    added = [row for name, row in ROWS.items() if name not in BEFORE]
    assert [row.name for row in added if not row.source.startswith("kanvision")] == []
    assert len({row.table for row in ROWS.values()}) <= 55


def test_every_choice_of_a_row_exists() -> None:
    chosen = {(group, choice) for row in ROWS.values() for group, choice in row.choose.items()}
    assert len(chosen) > 50
    assert [pair for pair in sorted(chosen) if not CHOICES.has(*pair)] == []


def test_every_row_states_a_number_or_why_there_is_none() -> None:
    assert [name for name, row in ROWS.items() if not (row.published or row.measured or row.expected)] == []
    assert all(re.search(r"\d", str([row.published, row.measured, row.expected])) for row in ROWS.values())


@pytest.mark.parametrize("name", EACH)
def test_a_row_of_each_kind_is_a_legal_run(name: str) -> None:
    check_run(ROWS[name])


def test_enough_rows_state_their_parameters() -> None:
    fast = [str(case.values[0]) for case in EACH if not case.marks]
    assert sum(ROWS[name].params is not None for name in fast) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BEFORE))
def test_a_row_composes_to_what_its_file_did(name: str) -> None:
    with composer("train", CONF) as composing:
        cfg = composing.compose([f"experiment='{name}'"], [])
        task = without_hydra(cfg)
        assert HydraConfig.initialized()
        OmegaConf.resolve(task)
        choices = {k: v for k, v in dict(cfg.hydra.runtime.choices).items() if not k.startswith("hydra/")}
        sweep = OmegaConf.to_container(cfg.hydra.sweeper).get("params")  # type: ignore[union-attr]
    before, now = BEFORE[name], dict(leaves(OmegaConf.to_container(task)))
    expected = dict(leaves(rename_settings(before["config"])[0]))
    for (start, key), (old, new) in CHANGED_VALUES.items():
        if name.startswith(start) and expected[key] == old:
            expected[key] = new
    # keys that are new since have no value to compare with
    assert {key: now.get(key, "is gone") for key in expected} == expected
    chosen = {group: RENAMED_CHOICES.get(choice, choice) for group, choice in before["choices"].items()}
    assert {group: choices.get(group) for group in chosen} == chosen
    assert sweep == before["sweep"]
    check_run(ROWS[name])


# --- malformed tables ---------------------------------------------------------------------------------------

HEAD = "title: t\nexperiments: kat/mine_<row>\nsource: s\nhardware: h\nchoose: {model: kat}\n"
ROW = "rows:\n  tiny: {published: {acc1: 1.5}, model.size: tiny}\n"
# text of conf/tables/kat_mine.yaml -> what is said of it
MALFORMED = {
    "": ["tables/kat_mine.yaml", "valid dictionary"],
    "a: [1": ["tables/kat_mine.yaml", "cannot be read", "line 1"],
    "title: t\n" + HEAD + ROW: ["cannot be read", "title stands twice", "line 1"],
    HEAD + ROW + "  tiny: {}\n": ["cannot be read", "tiny stands twice"],
    HEAD: ["kat_mine.yaml: rows", "field required"],
    HEAD + "rows: {}\n": ["kat_mine.yaml: rows", "at least 1 item"],
    HEAD + "rows: [tiny]\n": ["kat_mine.yaml: rows", "valid dictionary"],
    HEAD + "rows: {tiny: }\n": ["kat_mine.yaml: rows.tiny", "valid dictionary"],
    HEAD + ROW + "hardwear: h\n": ["kat_mine.yaml: hardwear", "not permitted"],
    HEAD.replace("source: s\n", "") + ROW: ["kat_mine.yaml: source", "field required"],
    HEAD.replace("kat/mine_<row>", "kat/mine") + ROW: ["kat_mine.yaml: experiments", "<row>"],
    HEAD.replace("kat/mine", "vit/mine") + ROW: ["kat_mine.yaml: experiments", "files vit_<table>.yaml"],
    HEAD + "rows:\n  tiny: {publishd: {acc1: 1}}\n": ["rows.tiny.set", "publishd", "did you mean published?"],
    HEAD + "rows:\n  tiny: {modle.size: tiny}\n": ["rows.tiny.set", "modle.size is no field and no key"],
    HEAD + "rows:\n  tiny: {name: x}\n": ["rows.tiny.set", "name is no field"],
    HEAD + "rows:\n  tiny: {published: {acc1: high}}\n": ["rows.tiny.published.acc1", "expected a number"],
    HEAD + "rows:\n  tiny: {measured: 3}\n": ["rows.tiny.measured", "expected a number"],
    HEAD + "rows:\n  tiny: {remarks: x}\n": ["rows.tiny.remarks", "valid list"],
    HEAD + "rows:\n  tiny: {remarks: [min_mx]}\n": ["rows.tiny.remarks", "min_mx is no remark"],
    HEAD + "rows:\n  tiny: {sweep: {seed: 1}}\n": ["rows.tiny.sweep.seed", "valid list"],
    HEAD + "rows:\n  tiny: {model.kwargs: {}, model.kwargs.a: 1}\n": ["model.kwargs is set as a whole"],
    HEAD + "rows:\n  tiny: {sweep: {sed: [1]}}\n": ["rows.tiny.sweep", "sed is no field and no key"],
    HEAD + "set: {modle.size: 1}\n" + ROW: ["kat_mine.yaml: set", "modle.size", "did you mean"],
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("tables", "experiment", "model", "basis"):
        (tmp_path / name).mkdir()
    (tmp_path / "train.yaml").write_text("defaults: [{model: null}, {experiment: null}]\n", "utf-8")
    return tmp_path


def write(folder: Path, text: str, name: str = "kat_mine") -> None:
    (folder / "tables" / f"{name}.yaml").write_text(text, "utf-8")


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_table_is_refused_with_file_row_and_key(text: str, folder: Path) -> None:
    write(folder, text)
    for read in (lambda: list_experiments([folder]), lambda: find_experiment([folder], "kat/mine_tiny")):
        with pytest.raises(ConfigError) as caught:
            read()
        assert [part for part in MALFORMED[text] if part not in str(caught.value)] == []


def test_all_mistakes_of_all_tables_come_in_one_message(folder: Path) -> None:
    write(folder, HEAD + "rows:\n  a: {published: {acc1: x}, remarks: 3}\n  b: {foo: 1}\n  c: {}\n")
    write(folder, HEAD.replace("kat/mine", "vit/other").replace("hardware: h\n", "") + ROW, "vit_other")
    with pytest.raises(ConfigError) as caught:
        list_experiments([folder])
    assert [problem.keys[0] for problem in caught.value.problems] == [
        "rows.a.remarks",
        "rows.a.published.acc1",
        "rows.b.set",
        "hardware",
    ]


def test_a_row_of_two_tables_is_refused_and_so_is_a_file_of_the_same_name(folder: Path) -> None:
    write(folder, HEAD + ROW)
    assert list(list_experiments([folder])) == ["kat/mine_tiny"]
    (folder / "experiment" / "kat").mkdir()
    (folder / "experiment" / "kat" / "mine_tiny.yaml").write_text("seed: 1\n", "utf-8")
    with pytest.raises(ConfigError, match="a row of that name"):
        ConfigGroups([folder]).has("experiment", "kat/mine_tiny")
    write(folder, HEAD + ROW, "kat_again")
    with pytest.raises(ConfigError, match=r"kat_mine.yaml: kat/mine_tiny\n.*is a row of kat_again.yaml too"):
        find_experiment([folder], "kat/mine_tiny")


def test_only_the_tables_of_the_paper_are_read(folder: Path) -> None:
    write(folder, HEAD + ROW)
    write(folder, "broken: [", "vit_other")
    assert find_experiment([folder], "kat/mine_tiny") is not None
    assert find_experiment([folder], "kat/mine_small") is None
    assert find_experiment([folder], "kat") is None
    assert find_experiment([folder], "*/mine_tiny") is None
    with pytest.raises(ConfigError, match="vit_other"):
        list_experiments([folder])


def test_a_changed_table_is_read_again(folder: Path) -> None:
    write(folder, HEAD + ROW)
    assert "kat/mine_tiny" in list_experiments([folder])
    write(folder, HEAD + ROW.replace("tiny:", "small:", 1) + "\n")
    assert list(list_experiments([folder])) == ["kat/mine_small"]


def test_a_row_overrides_its_table_and_adds_remarks(folder: Path) -> None:
    head = (
        HEAD + "remarks: [the first one]\ncost: c\nset: {model.size: tiny, seed: 1}\nsweep: {seed: [1, 2]}\n"
    )
    b = "{basis: rbf, model.size: 1e-6, remarks: [the second one], cost: d, sweep: {run.name: [x]}}"
    write(folder, f"{head}rows:\n  a: {{}}\n  b: {b}\n")
    first, second = list_experiments([folder]).values()
    assert (first.cost, first.remarks, first.choose) == ("c", ["the first one"], {"model": "kat"})
    assert first.set == {"model.size": "tiny", "seed": 1}
    assert first.command == "python train.py experiment=kat/mine_a -m"
    assert (second.cost, second.remarks) == ("d", ["the first one", "the second one"])
    assert second.config() == {
        "defaults": [{"override /model": "kat"}, {"override /basis": "rbf"}],
        "model": {"size": 1e-6},
        "seed": 1,
        "hydra": {"sweeper": {"params": {"run.name": "x"}}},
    }


def test_the_documented_table_is_read_and_every_field_is_documented(tmp_path: Path) -> None:
    text = (CONF.parent / "docs" / "experiments.md").read_text("utf-8")
    block = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert block is not None
    (tmp_path / "tables").mkdir()
    write(tmp_path, block[1], "mine_cifar10")
    rows = list_experiments([tmp_path])
    assert list(rows) == [f"mine/cifar10_{row}" for row in ("relu", "gelu", "small", "sizes")]
    assert rows["mine/cifar10_sizes"].remarks == ["the learning rate is not tuned", "one seed each"]
    with composer("train", CONF, [tmp_path]) as composing:
        cfg = composing.compose(["experiment=mine/cifar10_gelu"], [])
    assert (cfg.model.kwargs.act_layer, cfg.trainer.max_epochs, cfg.data.name) == ("gelu", 100, "cifar10")
    fields = {*ExperimentTable.model_fields, *Experiment.model_fields} - {"name", "table"}
    assert [field for field in fields if not re.search(rf"^\|[^|]*`{field}`", text, re.MULTILINE)] == []
