"""Private names of libraries that the package uses: each is listed with its use, and exists.

A private name may change in any release. The table says what breaks without one. The scan finds names that
are used and not listed, or listed and not used.
"""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [*sorted((ROOT / "src").rglob("*.py")), ROOT / "train.py", ROOT / "eval.py"]
PRIVATE = re.compile(r"_[a-zA-Z]\w*")
# public in spite of the underscore: methods of named tuples, and the exit without cleanup
PUBLIC = {"_asdict", "_fields", "_make", "_replace", "_exit"}

_CHECKPOINT = "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"
_AVERAGE = "pytorch_lightning.callbacks.weight_averaging.WeightAveraging"
_STRATEGY = "pytorch_lightning.strategies.model_parallel.ModelParallelStrategy"
_TRAINER = "pytorch_lightning.trainer.trainer.Trainer"
_CONNECTOR = "pytorch_lightning.trainer.connectors.logger_connector.logger_connector._LoggerConnector"
_EPOCH_LOOP = "pytorch_lightning.loops.training_epoch_loop._TrainingEpochLoop"
_MODULE = "torch.nn.modules.module.Module"
_FILES = "hydra._internal.core_plugins.file_config_source.FileConfigSource"
_LOADER = "hydra._internal.config_loader_impl.ConfigLoaderImpl"
_NODE = "omegaconf.base.Node"
_DEVICE_STATS = "pytorch_lightning.callbacks.device_stats_monitor.DeviceStatsMonitor"

DOORS = {
    # --- Lightning
    f"{_DEVICE_STATS}._cpu_stats": "DeviceStatsMonitor without psutil fails in training, not before",
    f"{_CHECKPOINT}._last_checkpoint_saved": "a checkpoint folder of another run is not recognized",
    f"{_CHECKPOINT}._last_global_step_saved": "the step checkpoint is not removed at the end of its epoch",
    f"{_CHECKPOINT}._save_checkpoint": "best.ckpt does not point to the best checkpoint; no step checkpoints",
    f"{_CHECKPOINT}._should_skip_saving_checkpoint": "a run that writes nothing writes step checkpoints",
    f"{_AVERAGE}._average_model": "no moving average of the weights (ema)",
    f"{_AVERAGE}._copy_average_to_current": "validation does not use the averaged weights (ema)",
    f"{_AVERAGE}._device": "the averaged weights stay on another device than the network (ema)",
    f"{_AVERAGE}._latest_update_step": "accumulated batches update the average more than once (ema)",
    f"{_AVERAGE}._swap_models": "the average is rounded to the precision of the network (ema)",
    f"{_STRATEGY}._data_parallel_size": "fsdp over all processes has no device mesh",
    f"{_STRATEGY}._setup_distributed": "fsdp cannot connect processes before the network exists",
    f"{_TRAINER}._logger_connector": "a step logs slowly, and resume within an epoch loses logged values",
    f"{_TRAINER}._results": "a training step logs slowly: 0.5 ms for each metric",
    f"{_TRAINER}._signal_connector": "SIGTERM ends a run with status 0 and without a checkpoint",
    f"{_CONNECTOR}._callback_metrics": "resume within an epoch loses the metrics that callbacks read",
    f"{_CONNECTOR}._current_fx": "values are logged under the hook of another step",
    f"{_CONNECTOR}._first_loop_iter": "resume within an epoch resets the sums of its metrics",
    f"{_CONNECTOR}._progress_bar_metrics": "resume within an epoch loses the metrics of the progress bar",
    f"{_EPOCH_LOOP}._batches_that_stepped": "a resumed run leaves rows of lost steps in metrics.csv",
    f"{_EPOCH_LOOP}._results": "resume within an epoch loses the sums of its metrics",
    "pytorch_lightning.loops.loop._Loop._restarting": "a resume with trainer.max_steps ends an epoch twice",
    "lightning_fabric.loggers.csv_logs.CSVLogger._experiment": "a resumed run deletes metrics.csv",
    # --- Hydra and OmegaConf
    "hydra._internal.hydra.Hydra": "a command line is composed three times instead of once",
    "hydra._internal.utils._run_hydra": "no sweep, and no flag of Hydra such as --cfg",
    "hydra._internal.utils.get_args_parser": "flags and overrides cannot be checked before the run",
    "hydra._internal.utils.run_and_report": "an error in a run is printed with the frames of Hydra",
    _FILES: "files of conf/ are read by a slow loader",
    f"{_FILES}._get_header_dict": "`# @package _global_` in a file of conf/ has no effect",
    _LOADER: "a sweep composes anew for each value when it is checked",
    f"{_LOADER}._apply_overrides_to_config": "a sweep composes anew for each value when it is checked",
    f"{_NODE}._is_interpolation": "keys behind a reference are listed as unknown",
    f"{_NODE}._is_missing": "values that a file must still give cannot be told from unknown keys",
    f"{_NODE}._is_none": "sections that are null cannot be told from empty ones",
    f"{_NODE}._value": "references to the environment would be resolved, secrets with them",
    "omegaconf.basecontainer.BaseContainer._get_node": "references would be resolved when keys are listed",
    # --- timm
    "timm.models._features.feature_take_indices": "forward_intermediates of the classifiers",
    "timm.models.swin_transformer.WindowAttention._get_rel_pos_bias": "KArAt attention in Swin transformers",
    "timm.models.vision_transformer.VisionTransformer._pos_embed": "attention transfer from a teacher",
    "timm.scheduler.scheduler.Scheduler._get_lr": "the plateau schedule",
    # --- torch
    "torch._C": "the next three",
    "torch._C._functorch": "generated loops run under vmap and other transforms, which cannot see into them",
    "torch._C._is_tracing": "generated loops run under torch.jit.trace, which cannot see into them",
    "torch.autograd.forward_ad._current_level": "generated loops run under forward AD, without tangents",
    "torch.utils._python_dispatch._get_current_dispatch_mode": "fake tensors reach generated loops",
    "torch._dynamo.exc.TorchDynamoException": "trainer.compile=auto stops where compilation fails",
    "torch._inductor.exc.InductorError": "trainer.compile=auto stops where compilation fails",
    "torch._foreach_lerp_": "the moving average takes one kernel for each parameter (ema)",
    "torch.nn.modules.batchnorm._BatchNorm": "batch norms of any dimension are not recognized",
    "torch.nn.modules.batchnorm._NormBase": "weights of norms appear in histograms as those of layers",
    "torch.nn.modules.instancenorm._InstanceNorm": "instance norms refuse maps of one position",
    f"{_MODULE}._apply": "constants of a basis lose digits in half precision",
    f"{_MODULE}._buffers": "buffers are not exchanged in place",
    f"{_MODULE}._parameters": "synchronized batch norms have parameters of their own",
    f"{_MODULE}._modules": "modules that occur twice are replaced once",
    f"{_MODULE}._forward_hooks": "hooks on the experts of a mixture are not called",
    f"{_MODULE}._forward_pre_hooks": "hooks on the experts of a mixture are not called",
    f"{_MODULE}._compiled_call_impl": "input statistics of compiled networks stay empty; no compile=auto",
    f"{_MODULE}._load_from_state_dict": "a basis with a loaded grid keeps the old domain",
}
"""Private name of a library -> what breaks without it."""


def foreign_imports(tree: ast.Module) -> set[str]:
    """Return the imported names of other packages with a private part."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = {name: name.split(".") for name in names if not name.startswith("kanvision")}
    return {name for name in parts if any(PRIVATE.fullmatch(part) for part in parts[name])}


def receiver(node: ast.Attribute) -> str:
    """Return the name whose attribute is read: `a` of `a.b` and of `a().b`; empty for `a.b.c`."""
    value = node.value.func if isinstance(node.value, ast.Call) else node.value
    return value.id if isinstance(value, ast.Name) else ""


def members(tree: ast.Module) -> set[str]:
    """Return the attributes and methods that the classes of a module define."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for line in node.body:
                targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
                found |= {target.id for target in targets if isinstance(target, ast.Name)}
                found |= {line.name} if isinstance(line, ast.FunctionDef) else set()
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found |= {node.attr} if receiver(node) in ("self", "cls") else set()
    return found


def foreign_attributes(trees: list[ast.Module]) -> set[str]:
    """Return the private attributes that are read of objects, and that no class of ours defines."""
    own = PUBLIC.union(*map(members, trees))
    nodes = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return {node.attr for node in nodes if PRIVATE.fullmatch(node.attr) and node.attr not in own}


def is_defined(owner: Any, name: str) -> bool:
    """Return True if a module or class has a name, or sets it on its instances."""
    if hasattr(owner, name) or name in getattr(owner, "__annotations__", {}):
        return True
    return isinstance(owner, type) and name in own_attributes(owner)


@cache
def own_attributes(cls: type) -> set[str]:
    """Return the private attributes that the source of a class names."""
    return set(re.findall(r"self\.(_[a-zA-Z]\w*)", inspect.getsource(cls)))


def inherited_names(cls: type, node: ast.ClassDef) -> Iterator[str]:
    """Yield the private names of a class that come from a class of a library."""
    used = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
    for item in ast.walk(node):
        if isinstance(item, ast.Attribute) and receiver(item) in ("self", "cls", "super"):
            used.add(item.attr)
    used = {name for name in used if PRIVATE.fullmatch(name)}
    ours = ("kanvision", "builtins", "typing", "abc", "collections", "enum")
    for base in reversed(cls.__mro__):
        if base.__module__.split(".")[0] not in ours:
            yield from (name for name in used if is_defined(base, name))


def test_private_names_are_listed() -> None:
    """Catches a new use of a private name, and an entry whose use is gone."""
    trees = [ast.parse(path.read_text("utf-8")) for path in SOURCES]
    imports = set().union(*map(foreign_imports, trees))
    attributes = foreign_attributes(trees)
    for path, tree in zip(SOURCES, trees, strict=True):
        if path.is_relative_to(ROOT / "src"):
            module = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
            for node in (node for node in tree.body if isinstance(node, ast.ClassDef)):
                cls = getattr(importlib.import_module(module), node.name)
                attributes |= set(inherited_names(cls, node))
    listed = {door: door.rpartition(".")[2] for door in DOORS}
    assert imports - set(DOORS) == set(), "imported and not listed"
    assert attributes - set(listed.values()) - PUBLIC == set(), "read and not listed"
    gone = {door for door, name in listed.items() if door not in imports and name not in attributes}
    assert gone == set(), "listed and not used"


@pytest.mark.parametrize("door", DOORS)
def test_a_private_name_exists(door: str) -> None:
    """Catches a library whose release has renamed or removed the name."""
    path, _, name = door.rpartition(".")
    first, *rest = path.split(".")
    owner: Any = importlib.import_module(first)
    for part in rest:
        owner = getattr(owner, part, None) or importlib.import_module(f"{owner.__name__}.{part}")
    assert is_defined(owner, name), f"without it: {DOORS[door]}"


def test_each_kind_of_use_is_seen() -> None:
    tree = ast.parse(
        "import a._b\nfrom c import _d\nclass E:\n    _f = 1\n\nx._f, x._g, self.y._h, x._replace()"
    )
    assert foreign_imports(tree) == {"a._b", "c._d"}
    assert foreign_attributes([tree]) == {"_g", "_h"}
    overrides = ast.parse("class A(Module):\n    def _apply(self): return self._buffers, self._mine").body[0]
    module = importlib.import_module("torch.nn").Module
    cls = type("A", (module,), {"__module__": "kanvision.a"})
    assert isinstance(overrides, ast.ClassDef)
    assert set(inherited_names(cls, overrides)) == {"_apply", "_buffers"}
