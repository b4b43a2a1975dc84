"""Every file of conf/ composes and is legal, and yaml files and schema speak of the same keys."""

import itertools
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf
from pydantic_core import PydanticUndefined

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
from kanvision.config.experiments import GROUP
from kanvision.config.keys import all_keys, family_name, section_types, tag_values

CONF = Path(__file__).resolve().parents[2] / "conf"
CHOICES = ConfigGroups([CONF])
# experiments are rows of tables: test_experiments.py
FILES = [(group, name) for group in CHOICES.groups if group != GROUP for name in CHOICES.of(group)]
PAIRS = list(itertools.product(CHOICES.of("model"), CHOICES.of("data")))
KIND_OF_TASK = {"classification": "classifier", "segmentation": "segmenter"}
TASKS = {data: CHOICES.content("data", data)["task"] for data in CHOICES.of("data")}
KINDS = {model: CHOICES.content("model", model)["kind"] for model in CHOICES.of("model")}
LEGAL_PAIRS = [(model, data) for model, data in PAIRS if KINDS[model] == KIND_OF_TASK[TASKS[data]]]
WRONG_PAIRS = sorted(set(PAIRS) - set(LEGAL_PAIRS))
# all of them take minutes; these have every model and every data set
SOME_WRONG_PAIRS = sorted({pair[group]: pair for group in (0, 1) for pair in WRONG_PAIRS}.values())
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


@pytest.mark.parametrize(("group", "name"), FILES)
def test_every_file_composes_and_is_legal(group: str, name: str) -> None:
    train(f"{group}='{name}'", *mates(group, name))


@pytest.mark.parametrize(("model", "data"), LEGAL_PAIRS)
def test_every_legal_pair_is_legal(model: str, data: str) -> None:
    config = train(f"model={model}", f"data={data}")
    assert (config.model.family, config.model.in_chans) == (model, config.data.in_chans)


@pytest.mark.parametrize("debug", CHOICES.of("debug"))
@pytest.mark.parametrize("model", CHOICES.of("model"))
def test_every_model_is_legal_in_all_debug_modes(model: str, debug: str) -> None:
    train(f"model={model}", *mates("model", model), f"debug='{debug}'")


@pytest.mark.parametrize(("model", "data"), sorted(set(SOME_WRONG_PAIRS)))
def test_other_pairs_are_refused_with_the_reason(model: str, data: str) -> None:
    task = TASKS[data]
    with pytest.raises(ConfigError, match=f"the data are for {task}, but model={model} is a ") as caught:
        train(f"model={model}", f"data={data}")
    fix = next(problem.fix for problem in caught.value.problems if "the data are for" in problem.why)
    fitting = [other for other, its_data in LEGAL_PAIRS if its_data == data]
    assert f"models for {task}: {', '.join(fitting)}" in fix


@pytest.mark.parametrize("model", CHOICES.of("model"))
def test_a_model_file_has_the_keys_of_its_family(model: str) -> None:
    values = compose("train", [f"model={model}", "~recipe"], CONF).model
    schemas = {
        family_name(schema): schema for schema in section_types(TrainConfig.model_fields["model"].annotation)
    }
    assert values.family == model
    assert set(values) == set(schemas[model].model_fields)


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group, name in FILES if group in ("data", "trainer")]
)
def test_files_of_data_and_trainer_have_the_keys_of_the_schema(group: str, name: str) -> None:
    values = compose("train", [f"{group}={name}", "~recipe"], CONF)[group]
    schemas = section_types(TrainConfig.model_fields[group].annotation)
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


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group, name in FILES if group in ("model", "data", "trainer")]
)
def test_every_key_of_the_schema_can_be_set_on_the_command_line(group: str, name: str) -> None:
    values = compose("train", [f"{group}={name}", "~recipe"], CONF)
    chosen = {"model": values.model.family, "data": values.data.name}
    missing = [
        key.name
        for key in all_keys(TrainConfig)
        if key.name.startswith(f"{group}.")
        and key.family in (None, chosen.get(group))
        and _parent(values, key.name) is not None
        and key.name.rpartition(".")[2] not in _parent(values, key.name)
    ]
    assert missing == []


def _parent(values: DictConfig, key: str) -> DictConfig | None:
    return OmegaConf.select(values, key.rpartition(".")[0])


def test_defaults_of_the_schema_are_those_of_the_files() -> None:
    values = compose("train", ["~recipe", "trainer=auto", "model=convkan"], CONF)
    base = OmegaConf.load(CONF / "trainer" / "_base.yaml")
    data = OmegaConf.load(CONF / "data" / "_base.yaml")
    differ = []
    for key in all_keys(TrainConfig):
        default = key.field.get_default(call_default_factory=True)
        section, _, rest = key.name.partition(".")
        tree = {"trainer": base, "data": data}.get(section)
        value = (
            OmegaConf.select(tree, rest) if tree is not None and rest else OmegaConf.select(values, key.name)
        )
        is_section = OmegaConf.is_dict(value) and section_types(key.field.annotation)
        other_model = section == "model" and key.family not in (None, "convkan")
        of_one_data_set = section == "data" and key.family is not None
        inside_null = section in ("ema",) or key.name.startswith("augment.random_affine.")
        if default is PydanticUndefined or is_section or other_model or of_one_data_set or inside_null:
            continue
        plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        if isinstance(default, tuple):
            default, plain = pytest.approx(default), tuple(plain)
        if plain != default:
            differ.append((key.name, plain, default))
    assert differ == []


def test_every_key_says_what_it_means() -> None:
    silent = [key.name for root in (TrainConfig, EvalConfig) for key in all_keys(root) if not key.meaning]
    assert silent == []


@pytest.mark.parametrize("basis", CHOICES.of("basis"))
def test_a_basis_file_names_itself_and_arguments_of_its_class(basis: str) -> None:
    from kanvision.bases import create_basis

    config = train(f"basis={basis}").basis
    assert config.name == basis
    assert create_basis(config.name, **config.arguments()).name == basis


def test_what_the_checks_know_of_models_losses_and_metrics_is_true() -> None:
    from kanvision.config.checks.losses_and_metrics import LOSSES, MODES, SMOOTHED, SUFFIX, logged
    from kanvision.config.checks.training import WIDTHS
    from kanvision.config.runtime import resolvers
    from kanvision.losses import CLASSIFICATION_LOSSES, SEGMENTATION_LOSSES, segmentation_loss
    from kanvision.metrics import SUFFIX as LOGGED_SUFFIX
    from kanvision.metrics import classification_metrics, segmentation_metrics
    from kanvision.models.kat import SIZES
    from kanvision.models.vit import MICRO

    sizes = {"micro": MICRO, **SIZES}
    assert {name: (size["embed_dim"], size["num_heads"]) for name, size in sizes.items()} == WIDTHS
    assert {name for name, uses in LOSSES.items() if "classification" in uses} == set(CLASSIFICATION_LOSSES)
    of_masks = {name: tuple(use for use in uses if use in MODES) for name, uses in LOSSES.items()}
    assert of_masks == SEGMENTATION_LOSSES
    for name, (mode, *_) in SEGMENTATION_LOSSES.items():
        if name in SMOOTHED:
            segmentation_loss(name, mode=mode, label_smoothing=0.1)
        else:
            with pytest.raises(ValueError, match="does not smooth"):
                segmentation_loss(name, mode=mode, label_smoothing=0.1)
    assert SUFFIX == LOGGED_SUFFIX == resolvers.PROTOCOL_SUFFIX
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
            assert set(logged(fields)) == {"loss", "objective", *expected}
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
