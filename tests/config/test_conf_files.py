"""Every file of conf/ composes and is legal, and yaml files and schema speak of the same keys."""

import itertools
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from kanvision.config import (
    ConfigError,
    ConfigGroups,
    EvalConfig,
    TrainConfig,
    compose,
    parse_train,
    to_primitive,
    train_config,
)
from kanvision.config.defaults import default_nodes
from kanvision.config.experiments import GROUP
from kanvision.config.schema.keys import all_keys, family_name, section_types, tag_values
from kanvision.spec.extras import EXTRAS
from kanvision.spec.tasks import KIND_BY_TASK
from tests.covering import one_of_each

CONF = Path(__file__).resolve().parents[2] / "conf"
CHOICES = ConfigGroups([CONF])
# experiments are rows of tables: test_experiments.py; tests/cli/test_presets.py skips loggers by name
FILES = [
    (group, name)
    for group in CHOICES.groups
    if group != GROUP
    for name in CHOICES.of(group)
    if group != "logger" or name not in EXTRAS or find_spec(name)
]
PAIRS = list(itertools.product(CHOICES.of("model"), CHOICES.of("data")))
TASKS = {data: CHOICES.content("data", data)["task"] for data in CHOICES.of("data")}
KINDS = {model: CHOICES.content("model", model)["kind"] for model in CHOICES.of("model")}
LEGAL_PAIRS = [(model, data) for model, data in PAIRS if KINDS[model] == KIND_BY_TASK[TASKS[data]]]
WRONG_PAIRS = sorted(set(PAIRS) - set(LEGAL_PAIRS))
DEBUG_PAIRS = list(itertools.product(CHOICES.of("model"), CHOICES.of("debug")))
BASED_FILES = [
    path for group in ("model", "data", "trainer") for path in sorted((CONF / group).glob("*.yaml"))
]
CHOSEN_FILES = [(group, name) for group, name in FILES if group in ("model", "data", "trainer")]
OPEN_SECTIONS = ("basis", "callbacks", "logger")


@pytest.fixture(autouse=True)
def _started_by_torchrun_and_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """trainer=torchrun and trainer=slurm are for processes with these in their environment."""
    names = ("WORLD_SIZE", "GROUP_WORLD_SIZE", "SLURM_NTASKS", "SLURM_NNODES", "SLURM_PROCID", "SLURM_JOB_ID")
    for name in names:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "one")


def train(*overrides: str) -> TrainConfig:
    return parse_train(compose("train", overrides, CONF), CHOICES)


def test_there_is_something_to_test() -> None:
    assert {"model", "basis", "data", "trainer", "recipe", "debug"} <= {group for group, _ in FILES}
    assert len(PAIRS) >= 8


def each_member(pairs: list[tuple[str, str]]) -> list[Any]:
    """Return all pairs; those are slow that no first and no second member needs to occur once."""
    few = {(side, pair[side]): pair for side in (0, 1) for pair in reversed(pairs)}.values()
    return [pytest.param(*pair, marks=() if pair in few else pytest.mark.slow) for pair in pairs]


def kinds(pair: tuple[str, str]) -> tuple[str, str]:
    """Return the kind of a model and the task of data."""
    return KINDS[pair[0]], TASKS[pair[1]]


def mates(group: str, name: str) -> list[str]:
    """What a file is meant to go with: data for a model, a model for data, both for a recipe."""
    if group == "recipe":
        pairs = {f"{model}_{data}": [f"model={model}", f"data={data}"] for model, data in PAIRS}
        # Further recipes for a pair carry its name and one word more.
        return next(pairs[pair] for pair in pairs if name == pair or name.startswith(f"{pair}_"))
    if group not in ("model", "data"):
        return []
    model, data = next(pair for pair in LEGAL_PAIRS if pair[group == "data"] == name)
    return [f"data={data}"] if group == "model" else [f"model={model}"]


@pytest.mark.parametrize(
    ("group", "name"),
    one_of_each(
        ((group, name) for group, name in FILES if group not in ("model", "data")),
        lambda file: tuple(mates(*file)[:1]) if file[0] == "recipe" else file,
    ),
)
def test_every_file_composes_and_is_legal(group: str, name: str) -> None:
    train(f"{group}='{name}'", *mates(group, name))


@pytest.mark.parametrize(("model", "data"), each_member(LEGAL_PAIRS))
def test_every_legal_pair_is_legal(model: str, data: str) -> None:
    config = train(f"model={model}", f"data={data}")
    assert (config.model.family, config.model.in_chans) == (model, config.data.in_chans)


@pytest.mark.parametrize(("model", "debug"), one_of_each(DEBUG_PAIRS, lambda pair: (KINDS[pair[0]], pair[1])))
def test_every_model_is_legal_in_all_debug_modes(model: str, debug: str) -> None:
    train(f"model={model}", *mates("model", model), f"debug='{debug}'")


@pytest.mark.parametrize(("model", "data"), one_of_each(WRONG_PAIRS, kinds))
def test_other_pairs_are_refused_with_the_reason(model: str, data: str) -> None:
    task = TASKS[data]
    with pytest.raises(ConfigError, match=f"the data are for {task}, but model={model} is a ") as caught:
        train(f"model={model}", f"data={data}")
    fix = next(problem.fix for problem in caught.value.problems if "the data are for" in problem.why)
    fitting = [other for other, its_data in LEGAL_PAIRS if its_data == data]
    assert f"models for {task}: {', '.join(fitting)}" in fix


def stated(path: Path) -> tuple[DictConfig, DictConfig]:
    """Values that a file states, and those that the files and defaults below it give."""
    own = OmegaConf.load(path)
    assert isinstance(own, DictConfig)
    entries = [entry for entry in own.pop("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    group = "" if path.parent == CONF else f"{path.parent.name}/"
    nodes = default_nodes()
    below = [
        nodes[f"{group}{entry}"]
        if f"{group}{entry}" in nodes
        else OmegaConf.merge(*reversed(stated(path.with_name(f"{entry}.yaml"))))
        for entry in entries
    ]
    return own, OmegaConf.merge(*below)


def whole(group: str, name: str) -> DictConfig:
    """Values of a file with those below it, which are its section before a recipe changes it."""
    values = OmegaConf.merge(*reversed(stated(CONF / group / f"{name}.yaml")))
    assert isinstance(values, DictConfig)
    return values


@pytest.mark.parametrize(("group", "name"), CHOSEN_FILES)
def test_a_file_has_the_keys_of_its_class(group: str, name: str) -> None:
    values = whole(group, name)
    schemas = section_types(TrainConfig.model_fields[group].annotation)
    if group == "model":
        assert values.family == name
        schema = next(schema for schema in schemas if family_name(schema) == name)
    else:
        schema = next(schema for schema in schemas if len(schemas) == 1 or values.name in tag_values(schema))
    assert set(values) == set(schema.model_fields)


@pytest.mark.parametrize(("config_name", "root"), [("train", TrainConfig), ("eval", EvalConfig)])
def test_the_main_files_have_the_keys_of_the_schema(config_name: str, root: type) -> None:
    values = compose(config_name, ["~recipe"] if config_name == "train" else [], CONF)
    assert set(values) == set(root.model_fields)
    for name, field in root.model_fields.items():
        schemas = section_types(field.annotation)
        if len(schemas) == 1 and name not in OPEN_SECTIONS and not OmegaConf.is_missing(values, name):
            assert values[name] is None or set(values[name]) == set(schemas[0].model_fields), name


@pytest.mark.parametrize(("group", "name"), CHOSEN_FILES)
def test_every_key_of_the_schema_can_be_set_on_the_command_line(group: str, name: str) -> None:
    values = OmegaConf.create({group: whole(group, name)})
    chosen = values[group].get("family" if group == "model" else "name")
    of_classes = {"data.sampling"} if group == "data" and values.data.task != "classification" else set()
    missing = [
        key.name
        for key in all_keys(TrainConfig)
        if key.name.startswith(f"{group}.")
        and key.name not in of_classes
        and key.family in (None, chosen)
        and _parent(values, key.name) is not None
        and key.name.rpartition(".")[2] not in _parent(values, key.name)
    ]
    assert missing == []


def _parent(values: DictConfig, key: str) -> DictConfig | None:
    return OmegaConf.select(values, key.rpartition(".")[0])


def repeated(own: DictConfig, below: DictConfig, prefix: str = "") -> list[str]:
    found = []
    for key in own:
        if OmegaConf.is_missing(own, key) or key not in below:
            continue
        value, other = own._get_node(key), below._get_node(key)
        if isinstance(value, DictConfig) and isinstance(other, DictConfig) and value:
            found += repeated(value, other, f"{prefix}{key}.")
        elif type(value) is type(other) and value == other:
            found.append(f"{prefix}{key}")
    return found


@pytest.mark.parametrize(
    "path",
    [*sorted(CONF.glob("*.yaml")), *BASED_FILES],
    ids=lambda path: path.relative_to(CONF).as_posix(),
)
def test_a_file_repeats_no_default(path: Path) -> None:
    """A default stands in the schema alone: what a file repeats would stay when the default changes."""
    assert repeated(*stated(path)) == []


def test_a_repeated_default_is_seen() -> None:
    own = OmegaConf.create({"a": 1, "b": {"c": [1], "d": None}, "e": 2})
    below = OmegaConf.create({"a": 1, "b": {"c": [1], "d": 0}, "f": 2})
    assert repeated(own, below) == ["a", "b.c"]


def test_every_key_says_what_it_means() -> None:
    silent = [key.name for root in (TrainConfig, EvalConfig) for key in all_keys(root) if not key.meaning]
    assert silent == []


@pytest.mark.parametrize("basis", CHOICES.of("basis"))
def test_a_basis_file_names_itself_and_arguments_of_its_class(basis: str) -> None:
    from kanvision.bases import create_basis

    config = train(f"basis={basis}").basis
    assert config.name == basis
    assert create_basis(config.name, **config.arguments()).name == basis


def test_the_checks_know_what_validation_logs() -> None:
    from kanvision.config.checks.losses_and_metrics import logged
    from kanvision.metrics import classification_metrics, segmentation_metrics

    digits = train()
    assert set(logged(digits)) == {"loss", *classification_metrics(10)}
    few = digits.model_copy(update={"data": digits.data.model_copy(update={"num_classes": 5})})
    assert set(logged(few)) == {"loss", *classification_metrics(5)}
    for protocols in (["image"], ["dataset", "paper"]):
        for per_class in (False, True):
            fields = train(
                "data=synthetic_fields",
                "model=smp",
                f"metrics.protocol={protocols}",
                f"metrics.per_class={per_class}",
            )
            foreground = fields.data.num_classes - 1
            expected = segmentation_metrics(foreground, protocols=protocols, per_class=per_class)
            assert set(logged(fields)) == {"loss", "training_loss", *expected}
            assert fields.monitor.removeprefix("val/") in logged(fields)


@pytest.mark.parametrize("model", CHOICES.of("model"))
def test_a_configuration_survives_being_stored(model: str) -> None:
    config = train(
        f"model={model}", *mates("model", model), "optimizer.betas=[0.9,0.99]", "ema={decay: 0.99}"
    )
    stored = to_primitive(config)

    def primitive(node: object) -> bool:
        if isinstance(node, dict):
            return all(isinstance(key, str) and primitive(value) for key, value in node.items())
        if isinstance(node, list):
            return all(map(primitive, node))
        return node is None or isinstance(node, str | int | float | bool)

    assert primitive(stored)
    assert train_config(stored) == config


def test_a_stored_configuration_of_another_version_is_refused_with_the_keys() -> None:
    stored = to_primitive(train())
    stored["optimizer"]["lrate"] = stored["optimizer"].pop("lr")
    del stored["data"]["img_size"]
    with pytest.raises(ConfigError, match="stored configuration") as caught:
        train_config(stored)
    assert {problem.keys[0] for problem in caught.value.problems} == {"optimizer.lrate", "data.img_size"}
