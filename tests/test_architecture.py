"""The house rules: which room may import which, and who may meet the outside world.

Each rule is a function from source text to a list of complaints: it is shown a fault, then the whole tree.
"""

import ast
import graphlib
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src"
PACKAGE = "kanvision"

MODEL_ROOMS = {"expansion", "ops", "bases", "layers", "models"}
# room -> rooms it may import besides itself; the front door of the package ("") hands out what rooms offer
ROOMS: dict[str, set[str]] = {
    "plugins": set(),
    "expansion": set(),
    "ops": {"expansion"},
    "bases": {"expansion", "ops", "plugins"},
    "layers": {"expansion", "ops", "bases", "visualization"},  # the last one for `plot` alone
    "models": {"expansion", "ops", "bases", "layers", "plugins"},
    "losses": {"plugins"},
    "metrics": {"plugins"},
    "optim": set(),
    "data": {"plugins"},
    "config": {"plugins"},
    "console": set(),
    "visualization": set(),
    "signals": set(),
    "statistics": set(),
    "prediction": {"data", "visualization"},  # knows a network only as a function
    "sweep": {"config", "console", "statistics"},  # reads what runs have written; knows no run
    "tasks": {"models", "layers", "losses", "metrics", "optim"},
    "callbacks": {"tasks", "layers", "optim", "visualization", "checkpoints", "signals"},
    "analysis": MODEL_ROOMS | {"visualization"},
    "checkpoints": MODEL_ROOMS,
    "export": MODEL_ROOMS | {"data", "metrics", "prediction"},  # needs no trainer and no configuration
    "": MODEL_ROOMS | {"analysis", "app", "checkpoints", "config", "data", "export", "plugins"},
}
EVERYWHERE = {"lazy", "pretrained", "spec"}  # imports on demand, weights in the package, legal values
ROOMS = {room: known | EVERYWHERE for room, known in ROOMS.items()} | {room: set() for room in EVERYWHERE}
ROOMS["app"] = set(ROOMS)  # builds everything
ROOMS["testing"] = set(ROOMS)  # tests everything that plugins add
# these rooms see their neighbor from the street: the package, never a module inside it
PUBLIC_FACE_ONLY = {("tasks", "models"), ("tasks", "layers"), ("callbacks", "tasks"), ("callbacks", "layers")}

# room -> the only packages it may import besides the standard library
OUTSIDE_WORLD: dict[str, set[str]] = {
    "expansion": {"torch", "triton"},
    "ops": {"torch", "triton"},
    "bases": {"torch"},
    "layers": {"torch", "timm", "typing_extensions"},  # the last one for Unpack, in annotations only
    "models": {"torch", "timm", "segmentation_models_pytorch", "numpy"},
    "spec": set(),
    "statistics": {"numpy", "scipy"},
    "config": {"hydra", "omegaconf", "pydantic", "pydantic_core", "yaml"},
}
# package -> the modules (below kanvision) that may import it
RESIDENCE: dict[str, str] = {
    "lightning": r"(?!)",  # a second copy of the classes of pytorch_lightning
    "pytorch_lightning": r"(app|tasks|callbacks)(\..+)?|data\.datamodules?(\..+)?",
    "lightning_fabric": r"(app|callbacks)(\..+)?",  # comes with it
    "hydra": r"(app|config|sweep)(\..+)?",
    "omegaconf": r"(app|config|sweep)(\..+)?",
    "pydantic": r"(app|config)(\..+)?",
    "pydantic_core": r"config(\..+)?",
    "albumentations": r"data\.transforms\.segmentation",
    "triton": r"(expansion|ops)\..+",
    "matplotlib": r"(analysis|callbacks|visualization)(\..+)?",
    "torchmetrics": r"(app|metrics|tasks|callbacks|testing)(\..+)?",
}
# imported inside the function that needs them, so that a machine without them still imports the module
ON_DEMAND = {"triton", "segmentation_models_pytorch", "captum", "onnx", "rasterio", "torchgeo"}

INSTANTIATE = {
    "hydra.utils.instantiate",
    "hydra.utils.call",
    "hydra._internal.instantiate._instantiate2.instantiate",
}


class Import(NamedTuple):
    """One imported name: `from target import name` or, with an empty name, `import target`."""

    target: str
    name: str
    line: int
    on_demand: bool  # inside a function


def _absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    base = parts[: len(parts) - node.level + is_package]
    return ".".join([*base, *([node.module] if node.module else [])])


def imports_of(source: str, module: str, is_package: bool = False) -> list[Import]:
    """Every import of a module, those hidden in functions and in `import_module("...")` too."""

    def visit(node: ast.AST, inside: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, "", child.lineno, inside) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                target = _absolute(child, module, is_package)
                yield from (Import(target, alias.name, child.lineno, inside) for alias in child.names)
            elif (
                isinstance(child, ast.Call)
                and ast.unparse(child.func) in {"importlib.import_module", "import_module", "__import__"}
                and child.args
                and isinstance(child.args[0], ast.Constant)
            ):
                yield Import(str(child.args[0].value), "", child.lineno, inside)
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from visit(child, inside or is_function)

    return list(visit(ast.parse(source), inside=False))


def room_of(module: str) -> str:
    return f"{module}.".split(".")[1].replace("__main__", "app")  # `python -m kanvision` starts app


def destination(item: Import, modules: set[str]) -> str | None:
    """The module of our package that an import reaches; None for the outside world."""
    if item.target.split(".")[0] != PACKAGE:
        return None
    full = f"{item.target}.{item.name}"
    # `from kanvision import bases` enters the room, not the front door
    return full if full in modules or (item.target == PACKAGE and item.name in ROOMS) else item.target


def upward_imports(module: str, imports: list[Import], modules: set[str]) -> list[str]:
    room, found = room_of(module), []
    for item in imports:
        goal = destination(item, modules)
        if goal is None or room_of(goal) == room:
            continue
        if room_of(goal) not in ROOMS.get(room, set()):
            found.append(
                f"{module}:{item.line} imports {goal}; {room or 'the package'} may know {ROOMS.get(room)}"
            )
        elif (room, room_of(goal)) in PUBLIC_FACE_ONLY and goal.count(".") > 1:
            found.append(
                f"{module}:{item.line} imports {goal}; {room} may know only the package of that room"
            )
    return found


def foreign_imports(module: str, imports: list[Import]) -> list[str]:
    room, inner, found = room_of(module), module.partition(".")[2], []
    for item in imports:
        package = item.target.split(".")[0]
        if package in sys.stdlib_module_names or package == PACKAGE:
            continue
        where = f"{module}:{item.line} imports {package}"
        if room in OUTSIDE_WORLD and package not in OUTSIDE_WORLD[room]:
            found.append(f"{where}; {room} may import {sorted(OUTSIDE_WORLD[room])}")
        elif package in RESIDENCE and not re.fullmatch(RESIDENCE[package], inner):
            found.append(f"{where}; it belongs to {RESIDENCE[package]}")
        elif package in ON_DEMAND and not item.on_demand:
            found.append(f"{where} at the top; only the function that needs it may")
    return found


def star_imports(module: str, imports: list[Import]) -> list[str]:
    return [f"{module}:{item.line} imports * from {item.target}" for item in imports if item.name == "*"]


def trainer_imports(name: str, source: str) -> list[str]:
    """Imports that would keep a benchmark from running on a machine with torch and timm alone."""
    trainer = {"lightning", "pytorch_lightning", "hydra", "omegaconf", f"{PACKAGE}.app", f"{PACKAGE}.tasks"}
    return [
        f"{name}:{item.line} imports {item.target}"
        for item in imports_of(source, name)
        if item.target.split(".")[0] in trainer or ".".join(item.target.split(".")[:2]) in trainer
    ]


def import_cycle(graph: dict[str, set[str]]) -> list[str]:
    """One cycle as a list of modules, empty if there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def instantiate_calls(module: str, source: str) -> list[str]:
    """References to Hydra's factory, under whatever name it was imported, outside app."""
    tree, names = ast.parse(source), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            head, _, rest = ast.unparse(node).partition(".")
            if ".".join(filter(None, [names.get(head, head), rest])) in INSTANTIATE:
                found.append(f"{module}:{node.lineno} builds from a config; only app does")
    return [] if room_of(module) == "app" else found


def _modules() -> dict[str, tuple[Path, bool]]:
    """Dotted name -> (file, is it a package) for everything below src/kanvision."""
    found = {}
    for path in sorted((SRC / PACKAGE).rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        found[".".join(parts[:-1] if is_package else parts)] = (path, is_package)
    return found


MODULES = _modules()
IMPORTS = {
    name: imports_of(path.read_text("utf-8"), name, package) for name, (path, package) in MODULES.items()
}

KNOWN = {
    "kanvision",
    "kanvision.bases",
    "kanvision.layers.conv",
    "kanvision.models",
    "kanvision.models.kat",
    "kanvision.tasks",
}


def check_upward(module: str, source: str) -> list[str]:
    return upward_imports(module, imports_of(textwrap.dedent(source), module), KNOWN)


def test_imports_are_found_wherever_they_hide() -> None:
    source = """
    import a.b as c
    from ..bases import base
    from . import conv
    def late():
        from d import e, f
        import importlib; importlib.import_module("g.h")
    class K:
        import i
    """
    found = imports_of(textwrap.dedent(source), "kanvision.layers.linear")
    assert [(item.target, item.name, item.on_demand) for item in found] == [
        ("a.b", "", False),
        ("kanvision.bases", "base", False),
        ("kanvision.layers", "conv", False),
        ("d", "e", True),
        ("d", "f", True),
        ("importlib", "", True),
        ("g.h", "", True),
        ("i", "", False),
    ]
    assert (
        imports_of("from .conv import K", "kanvision.layers", is_package=True)[0].target
        == "kanvision.layers.conv"
    )


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("kanvision.bases.spline", "from kanvision.layers.conv import KANConv2d"),
        ("kanvision.bases.spline", "from ..layers import conv"),
        ("kanvision.bases.spline", "def f():\n    import kanvision.models"),
        ("kanvision.bases.spline", "from kanvision import models"),
        ("kanvision.layers.conv", "import kanvision as kv"),
        ("kanvision.data.digits", "from kanvision.tasks import ClassificationTask"),
        ("kanvision.tasks.base", "from kanvision.models.kat import Kat"),
        ("kanvision.tasks.base", "from kanvision.data import digits"),
        ("kanvision.elsewhere.thing", "from kanvision.bases import Basis"),
    ],
)
def test_an_upward_import_is_refused(module: str, source: str) -> None:
    assert len(check_upward(module, source)) == 1


def test_a_benchmark_with_a_trainer_is_refused() -> None:
    for fault in (
        "import hydra",
        "from pytorch_lightning import Trainer",
        "from kanvision.tasks import base",
    ):
        assert len(trainer_imports("benchmarks/x.py", fault)) == 1
    assert trainer_imports("benchmarks/x.py", "import torch\nfrom kanvision.layers import KANConv2d") == []


def test_a_downward_import_is_allowed() -> None:
    assert (
        check_upward("kanvision.models.kat", "from kanvision.layers.conv import KANConv2d\nimport torch")
        == []
    )
    assert check_upward("kanvision.tasks.base", "from kanvision.models import create_model") == []
    assert (
        check_upward("kanvision.app", "from kanvision.models.kat import Kat\nfrom kanvision import tasks")
        == []
    )


@pytest.mark.parametrize(
    ("module", "source", "legal"),
    [
        ("kanvision.layers.conv", "import hydra", False),
        ("kanvision.bases.spline", "import numpy as np", False),
        ("kanvision.bases.spline", "import math\nimport torch.nn.functional as F", True),
        ("kanvision.models.kat", "from pytorch_lightning import LightningModule", False),
        ("kanvision.models.unet", "import segmentation_models_pytorch as smp", False),
        ("kanvision.models.unet", "def f():\n    import segmentation_models_pytorch as smp", True),
        ("kanvision.tasks.base", "import lightning.pytorch", False),
        ("kanvision.tasks.base", "import pytorch_lightning", True),
        ("kanvision.data.digits", "import pytorch_lightning", False),
        ("kanvision.data.datamodules", "import pytorch_lightning", True),
        ("kanvision.data.datamodules", "from omegaconf import DictConfig", False),
        ("kanvision.data.readers", "import albumentations", False),
        ("kanvision.data.transforms.segmentation", "def f():\n    import albumentations", True),
        ("kanvision.config.schema.root", "import torch", False),
        ("kanvision.config.schema.root", "import pydantic", True),
        ("kanvision.ops.rational", "import triton", False),
        ("kanvision.ops.rational", "def f():\n    import triton.language as tl", True),
    ],
)
def test_foreign_packages_stay_where_they_live(module: str, source: str, legal: bool) -> None:
    assert (foreign_imports(module, imports_of(source, module)) == []) is legal


def test_stars_and_cycles_are_seen() -> None:
    assert star_imports("kanvision.x", imports_of("from math import *", "kanvision.x"))
    assert not star_imports("kanvision.x", imports_of("from math import pi", "kanvision.x"))
    assert set(import_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}
    assert import_cycle({"a": {"b", "c"}, "b": {"c"}}) == []


@pytest.mark.parametrize(
    "source",
    [
        "import hydra\nhydra.utils.instantiate(cfg)",
        "from hydra.utils import instantiate as build\nbuild(cfg)",
        "import hydra.utils as hu\nmake = hu.instantiate",
        "from hydra import utils\nutils.call(cfg)",
    ],
)
def test_only_app_builds_from_a_config(source: str) -> None:
    assert len(instantiate_calls("kanvision.tasks.base", source)) == 1
    assert instantiate_calls("kanvision.app", source) == []
    assert instantiate_calls("kanvision.tasks.base", "class A:\n    instantiate = 1\nA.instantiate") == []


def assert_no(found: list[str]) -> None:
    assert not found, "\n".join(["", *found])


def test_every_room_is_on_the_plan() -> None:
    assert {room_of(name) for name in MODULES} <= set(ROOMS)


def test_no_module_imports_upward() -> None:
    assert_no([line for name in MODULES for line in upward_imports(name, IMPORTS[name], set(MODULES))])


def test_foreign_packages_are_imported_only_where_they_live() -> None:
    assert_no([line for name in MODULES for line in foreign_imports(name, IMPORTS[name])])


def test_no_star_import() -> None:
    assert_no([line for name in MODULES for line in star_imports(name, IMPORTS[name])])


def test_no_import_cycle() -> None:
    modules = set(MODULES)
    graph = {name: {destination(item, modules) for item in items} - {None} for name, items in IMPORTS.items()}
    assert_no(import_cycle(graph))


def test_hydra_instantiates_only_in_app() -> None:
    scripts = {f"{PACKAGE}.entry.{path.stem}": path for path in ROOT.glob("*.py")}
    files = {name: path for name, (path, _) in MODULES.items()} | scripts
    assert_no(
        [line for name, path in files.items() for line in instantiate_calls(name, path.read_text("utf-8"))]
    )


def test_benchmarks_run_without_the_trainer() -> None:
    files = sorted((ROOT / "benchmarks").rglob("*.py"))
    assert_no([line for path in files for line in trainer_imports(path.name, path.read_text("utf-8"))])
