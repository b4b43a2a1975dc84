"""Legal values stand once, in kanvision.spec, and each of them is implemented."""

import ast
import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import pytest
import timm
import torch
from torch import Tensor

from kanvision.callbacks import EMAWeights
from kanvision.config import TrainConfig
from kanvision.config.schema import data as schema_data
from kanvision.config.schema import models as schema_models
from kanvision.config.schema import training as schema_training
from kanvision.config.schema import transformers
from kanvision.config.schema.base import Section
from kanvision.config.schema.keys import family_name, section_types, tag_values
from kanvision.data import SEGMENTATION_READERS, ImageDataModule, SegmentationDataModule
from kanvision.data.transforms.classification import ImageSpec, build_training_transform
from kanvision.data.transforms.normalize import Preprocessing
from kanvision.data.transforms.segmentation import build_segmentation_augment
from kanvision.layers import KArAtOperator
from kanvision.losses import classification_loss, segmentation_loss
from kanvision.metrics import OverlapScore
from kanvision.models import kanify, list_models
from kanvision.models.conv_factory import ConvFactory
from kanvision.models.kan_unet import KANUNet
from kanvision.models.karat import KArAtViT
from kanvision.models.kat import KAT
from kanvision.models.rd_kan import RDKAN
from kanvision.models.res_kan import ResKAN
from kanvision.models.u2_kan import U2KAN
from kanvision.models.ukan import UKAN
from kanvision.models.vgg_kan import VGGKAN
from kanvision.optim import build_optimizer, build_scheduler, parameter_groups, scaled_lr
from kanvision.spec import data, models, tasks, training

SRC = Path(__file__).resolve().parents[1] / "src" / "kanvision"
SPEC = SRC / "spec"
NEAR = 0.75
"""Share of common values from which two lists of four values and more count as one list that has drifted."""


class Values(NamedTuple):
    """A list of values in a source file."""

    where: str
    """File and line."""
    kind: str
    """Literal, table (a dict), or collection."""
    names: frozenset[str]
    is_constant: bool
    """Whether it is a constant of a module or class, and no argument or part of an expression."""
    key_type: str = ""
    """Declared type of the keys of a table."""


def lists_of_values(source: str, name: str) -> Iterator[Values]:
    """Yield every Literal, tuple, list, set and dict display of at least two texts, `__all__` left out."""
    tree = ast.parse(source)
    constants: dict[ast.AST, str] = {}
    for scope in [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]:
        for node in scope.body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if ast.unparse(target) == "__all__":
                    constants |= dict.fromkeys(ast.walk(node.value), "__all__")
                    continue
                hint = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""
                constants[node.value] = hint
    for node in ast.walk(tree):
        if constants.get(node) == "__all__":
            continue
        kind, parts = "collection", []
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal":
            kind, parts = "Literal", getattr(node.slice, "elts", [])
        elif isinstance(node, ast.Tuple | ast.List | ast.Set):
            parts = node.elts
        elif isinstance(node, ast.Dict):
            kind, parts = "table", node.keys
        values = [part.value for part in parts if isinstance(part, ast.Constant)]
        if len(values) < 2 or len(values) < len(parts) or not any(isinstance(v, str) for v in values):
            continue
        hint = constants.get(node, "").removeprefix("Final[")
        key_type = hint.partition("dict[")[2].partition(",")[0] if kind == "table" else ""
        where = f"{name}:{node.lineno}"
        yield Values(where, kind, frozenset(map(str, values)), node in constants, key_type)


def is_same_list(a: frozenset[str], b: frozenset[str]) -> bool:
    """Return True if two lists have the same values, or nearly so."""
    return a == b or (min(len(a), len(b)) >= 4 and len(a & b) / len(a | b) >= NEAR)


FOUND = [
    values
    for path in sorted(SRC.rglob("*.py"))
    for values in lists_of_values(path.read_text("utf-8"), path.relative_to(SRC).as_posix())
]
MODULES = [import_module(f"kanvision.spec.{path.stem}") for path in SPEC.glob("[!_]*.py")]
LEGAL: dict[str, tuple[Any, ...]] = {
    name: get_args(value)
    for module in MODULES
    for name, value in vars(module).items()
    if get_origin(value) is Literal
}
"""Legal values of each Literal of kanvision.spec."""
TWICE = {
    "config/renames.py": "old names of values, some of which are legal elsewhere",
    "checkpoints/published/torch_conv_kan/head.py": "layout of the published heads, which lack one of ours",
    "layers/presets.py": "what the fully connected form of each layer of the same file changes",
    "checkpoints/published/torch_conv_kan/conv.py": "names of the published code, which has more layers",
    "checkpoints/published/torch_conv_kan/linear.py": "names of the published code, which has more layers",
    "expansion/c.py": "code of each place of inputs in a language",
    "expansion/triton_source.py": "code of each place of inputs in a language",
}
"""Files whose tables repeat the keys of another one, and why."""
EXTERNAL = {"Accelerator", "Precision", "Strategy"}
"""Names of Lightning, which implements their values."""


def is_table_of_spec(values: Values) -> bool:
    """Return True for a table that is declared to have an entry for each value of a Literal."""
    return values.key_type in LEGAL


def doubled_lists(found: Iterable[Values]) -> list[str]:
    """Return the pairs of lists that name the same legal values."""
    home = [values for values in found if values.where.startswith("spec/") and values.kind == "Literal"]
    others = [
        values
        for values in found
        if not values.where.startswith("spec/")
        and not is_table_of_spec(values)
        # a table inside a function maps names to what was computed for them
        and (values.is_constant or values.kind != "table")
        and values.where.partition(":")[0] not in TWICE
    ]
    named = [values for values in others if values.is_constant or values.kind == "Literal"]
    pairs = [(a, b) for a in others for b in home if is_same_list(a.names, b.names)]
    pairs += [
        (a, b)
        for a, b in combinations(named, 2)
        if is_same_list(a.names, b.names) and (len(a.names) > 2 or "Literal" in (a.kind, b.kind))
    ]
    return [f"{a.where} and {b.where}: {', '.join(sorted(a.names))}" for a, b in pairs if a.where != b.where]


def lacking_entries(found: Iterable[Values]) -> list[str]:
    """Return the tables whose keys are not the values of the Literal that they are declared with."""
    return [
        f"{values.where}: {', '.join(sorted(values.names))}; {values.key_type}: {', '.join(sorted(legal))}"
        for values in found
        if is_table_of_spec(values) and values.names != (legal := {str(v) for v in LEGAL[values.key_type]})
    ]


@pytest.mark.parametrize(
    "source",
    [
        'Size = Literal["small", "base"]',
        'def f(size: Literal["base", "small"]): ...',
        'SIZES = ("small", "base")',
        'SIZES = {"small": 1, "base": 2}',
        'SIZES: Final[dict[str, int]] = {"small": 1, "base": 2}',
        'class A:\n    sizes = ["small", "base"]',
        'def f(size):\n    assert size in ("small", "base")',
    ],
)
def test_a_second_list_is_seen(source: str) -> None:
    home = list(lists_of_values('Size = Literal["small", "base"]', "spec/models.py"))
    assert doubled_lists([*home, *lists_of_values(source, "models/unet.py")])


def test_a_list_that_has_drifted_is_seen() -> None:
    one = list(lists_of_values('ONE = ("a", "b", "c", "d")', "x.py"))
    assert doubled_lists([*one, *lists_of_values('TWO = {"a": 1, "b": 2, "c": 3, "e": 4, "d": 5}', "y.py")])
    assert not doubled_lists([*one, *lists_of_values('TWO = ("a", "b", "e", "f")', "y.py")])
    assert not doubled_lists([*one, *lists_of_values('__all__ = ["a", "b", "c", "d"]', "y.py")])


def test_a_table_that_lacks_an_entry_is_seen() -> None:
    table = list(lists_of_values('SIZES: dict[UNeXtSize, int] = {"tiny": 1, "base": 2}', "x.py"))
    assert lacking_entries(table)
    assert not lacking_entries(lists_of_values('S: dict[UNeXtSize, int] = {"small": 1, "base": 2}', "x.py"))


def test_legal_values_stand_once() -> None:
    faults = doubled_lists(FOUND)
    assert not faults, "\n".join(faults)
    assert all(any(values.where.startswith(f"{file}:") for values in FOUND) for file in TWICE)


def test_tables_have_an_entry_for_each_value() -> None:
    faults = lacking_entries(FOUND)
    assert not faults, "\n".join(faults)
    assert sum(map(is_table_of_spec, FOUND)) >= 25


def test_spec_imports_nothing_but_typing() -> None:
    sources = [path.read_text("utf-8") for path in SPEC.glob("*.py")]
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    imported = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert imported <= {"__future__", "typing"}
    assert not any(isinstance(node, ast.Import) for node in nodes)


def _texts_of_code() -> set[str]:
    """Return every text constant of the code besides the configuration."""
    rooms = [path for path in SRC.rglob("*.py") if path.relative_to(SRC).parts[0] not in ("spec", "config")]
    nodes = (node for path in rooms for node in ast.walk(ast.parse(path.read_text("utf-8"))))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_the_code_knows_each_value() -> None:
    """A value that no code compares with, looks up or builds would silently act as another one."""
    texts = _texts_of_code()
    unknown = [
        f"{name}: {value}"
        for name, values in LEGAL.items()
        for value in values
        if name not in EXTERNAL and isinstance(value, str) and value not in texts
    ]
    assert not unknown


def test_each_size_of_each_family_is_registered() -> None:
    names = list_models()
    checked = 0
    for family in section_types(TrainConfig.model_fields["model"].annotation):
        if "size" not in family.model_fields:
            continue
        prefixes = family.registered_prefixes or tag_values(family)
        for size in get_args(family.model_fields["size"].annotation):
            # timm has the larger plain transformers itself
            if any(f"{tag}_{size}" in name for tag in (*prefixes, *tag_values(family)) for name in names):
                checked += 1
            else:
                assert timm.is_model(f"{family_name(family)}_{size}_patch16_224"), (family, size)
    assert checked >= 60


def _run_loss(name: tasks.Loss, mode: tasks.MaskMode) -> Tensor:
    channels = {"binary": 1, "multiclass": 3, "multilabel": 3}[mode]
    target = torch.zeros((1, 3, 4, 4) if mode == "multilabel" else (1, 4, 4), dtype=torch.int64)
    return segmentation_loss(name, mode=mode)(torch.zeros(1, channels, 4, 4), target)


@pytest.mark.parametrize("name", LEGAL["Loss"])
def test_each_loss_has_a_value(name: tasks.Loss) -> None:
    modes = tasks.SEGMENTATION_LOSSES[name]
    assert modes
    for mode in modes:
        assert _run_loss(name, mode).isfinite()
    for mode in set(tasks.MASK_MODES) - set(modes):
        with pytest.raises(ValueError, match="is not defined for"):
            _run_loss(name, mode)
    smoothed = partial(segmentation_loss, name, mode=modes[0], label_smoothing=0.1)
    if name in tasks.SMOOTHED_LOSSES:
        smoothed()
    else:
        with pytest.raises(ValueError, match="does not smooth"):
            smoothed()


@pytest.mark.parametrize("name", tasks.CLASSIFICATION_LOSSES)
def test_each_loss_of_classes_has_a_value(name: tasks.Loss) -> None:
    assert classification_loss(name)(torch.zeros(2, 3), torch.tensor([0, 2])).isfinite()


@pytest.mark.parametrize("score", LEGAL["Score"])
def test_each_score_has_a_value(score: tasks.Score) -> None:
    # one hit, two false alarms and four misses give every score another value
    counts = torch.tensor([1, 2, 4]).reshape(3, 1, 1)
    values = set()
    for protocol in tasks.PROTOCOLS:
        metric = OverlapScore(1, score, protocol)
        metric.update(counts)
        values.add(round(metric.compute().item(), 3))
    assert values == {{"iou": 0.143, "f1": 0.25, "precision": 0.333, "recall": 0.2}[score]}


@pytest.mark.parametrize("schedule", LEGAL["Schedule"])
@pytest.mark.parametrize("interval", LEGAL["Interval"])
def test_each_schedule_is_built(schedule: training.Schedule, interval: training.Interval) -> None:
    optimizer = torch.optim.SGD(torch.nn.Linear(2, 2).parameters(), lr=0.1)
    assert build_scheduler(optimizer, max_epochs=2, steps_per_epoch=3, name=schedule, interval=interval)


@pytest.mark.parametrize("rule", LEGAL["LRScaling"])
def test_each_scaling_of_the_rate_differs(rule: training.LRScaling) -> None:
    assert scaled_lr(1.0, rule, 16, 4) == {"none": 1.0, "linear": 4.0, "sqrt": 2.0}[rule]


@pytest.mark.parametrize("key", models.KARAT_OPTIONS)
def test_each_option_of_karat_is_built(key: str) -> None:
    with torch.device("meta"):
        for value in models.KARAT_OPTIONS[key]:
            KArAtOperator(1, 4, 2, **{key: value})


@pytest.mark.parametrize("form", LEGAL["Form"])
@pytest.mark.parametrize("norm", LEGAL["Norm"])
def test_each_form_and_norm_of_convolutions_is_built(form: str, norm: str) -> None:
    with torch.device("meta"):
        ConvFactory(form=form, norm=norm).conv(32, 32)


@pytest.mark.parametrize("crop", LEGAL["Crop"])
def test_each_crop_is_built(crop: data.Crop) -> None:
    build_training_transform(ImageSpec(8, 1, (0.5,), (0.5,)), crop=crop)


@pytest.mark.parametrize("name", LEGAL["PreprocessingName"])
def test_each_preprocessing_is_built(name: data.PreprocessingName) -> None:
    for interpolation in LEGAL["Interpolation"]:
        resized = Preprocessing([0.5] * 3, [0.5] * 3, name).resize_image(
            torch.zeros(3, 4, 4), (2, 2), interpolation
        )
        assert resized.shape == (3, 2, 2)


BUILDERS: list[tuple[Callable[..., Any], type[Section]]] = [
    (build_scheduler, schema_training.SchedulerConfig),
    (build_optimizer, schema_training.OptimizerConfig),
    (parameter_groups, schema_training.OptimizerConfig),
    (classification_loss, schema_training.LossConfig),
    (segmentation_loss, schema_training.LossConfig),
    (EMAWeights, schema_training.EMAConfig),
    (ImageDataModule, schema_data.DataConfig),
    (SegmentationDataModule, schema_data.MaskDataConfig),
    (build_training_transform, schema_data.AugmentConfig),
    (build_segmentation_augment, schema_data.AugmentConfig),
    (SEGMENTATION_READERS["busi"], schema_data.BUSIConfig),
    (SEGMENTATION_READERS["glas"], schema_data.GlaSConfig),
    (SEGMENTATION_READERS["cvc"], schema_data.CVCConfig),
    (SEGMENTATION_READERS["segmentation_folder"], schema_data.SegmentationFolderConfig),
    (SEGMENTATION_READERS["sentinel_crops"], schema_data.SentinelCropsConfig),
    (ConvFactory, schema_models.KANConvConfig),
    (kanify, schema_models.KanifyConfig),
    (VGGKAN, schema_models.VGGKANConfig),
    (ResKAN, schema_models.ResKANConfig),
    (RDKAN, schema_models.RDKANConfig),
    (KANUNet, schema_models.KANUNetConfig),
    (U2KAN, schema_models.U2KANConfig),
    (UKAN, schema_models.UKANConfig),
    (KAT, transformers.KATConfig),
    (KArAtViT, transformers.KArAtConfig),
    (KArAtOperator, transformers.KArAtConfig),
]
"""Functions and classes that have defaults of their own for use without a configuration."""
DIFFERENT = {
    ("classification_loss", "kwargs"): "None is an empty mapping",
    ("segmentation_loss", "kwargs"): "None is an empty mapping",
    ("U2KAN", "size"): "full is the published network; the configuration begins with the small one",
}


def test_defaults_of_builders_are_those_of_the_schema() -> None:
    """A default that is changed in one of the two only would depend on how a function is called."""
    differ, compared = set(), 0
    for builder, section in BUILDERS:
        for name, parameter in inspect.signature(builder).parameters.items():
            field = section.model_fields.get(name)
            if parameter.default is inspect.Parameter.empty or field is None or field.is_required():
                continue
            default = field.get_default(call_default_factory=True)
            if default is None:  # leaves the choice to the builder
                continue
            compared += 1
            is_range = isinstance(default, tuple) and isinstance(default[0], float)
            if parameter.default != (pytest.approx(default) if is_range else default):
                differ.add((builder.__name__, name))
    assert differ == set(DIFFERENT)
    assert compared >= 100
