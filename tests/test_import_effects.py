"""What importing kanvision does to the process: as little as possible.

Each check runs in a fresh interpreter, and is also shown a module that breaks its rule.
"""

import ast
import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from kanvision.app.model import build_model
from kanvision.config import compose, parse_train, to_primitive

SRC = Path(__file__).resolve().parents[1] / "src"
MODULES = sorted(
    ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")
    for path in (SRC / "kanvision").rglob("*.py")
)
# what a machine that only measures or serves a model need not have
ABSENT = [
    "lightning",
    "pytorch_lightning",
    "torchmetrics",
    "hydra",
    "omegaconf",
    "pydantic",
    "albumentations",
    "segmentation_models_pytorch",
    "sklearn",
    "matplotlib",
]

REPORT_SIDE_EFFECTS = """
    import importlib, os, random, sys
    import numpy, torch
    for name in sys.argv[1].split():
        importlib.import_module(name)

    def state():
        return {
            "torch's random state": torch.get_rng_state().numpy().tobytes(),
            "numpy's random state": repr(numpy.random.get_state()),
            "python's random state": random.getstate(),
            "the environment": dict(os.environ),
            "the default dtype": torch.get_default_dtype(),
            "the number of threads": torch.get_num_threads(),
            "gradients on or off": torch.is_grad_enabled(),
            "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
            "the working folder": os.getcwd(),
        }

    after = state()
    for name in sys.argv[2].split():
        before = after
        importlib.import_module(name)
        after = state()
        print(*(f"{name} changes {what}\\n" for what in after if after[what] != before[what]), sep="", end="")
"""


def python(code: str, *arguments: str, path: str | Path = SRC) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(path), "NO_ALBUMENTATIONS_UPDATE": "1"}
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    folder = SRC.parent
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=folder)


def outside_packages() -> list[str]:
    """Third-party modules that our modules import at their top: their own side effects are not ours."""
    found = set()
    for path in (SRC / "kanvision").rglob("*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module)
    return sorted(name for name in found if name.split(".")[0] not in {*sys.stdlib_module_names, "kanvision"})


# None in sys.modules makes every import of that name, and of anything below it, fail
IMPORT_WITHOUT = """
    import importlib, sys
    sys.modules.update(dict.fromkeys(sys.argv[1].split()))
    importlib.import_module(sys.argv[2])
"""


@pytest.mark.parametrize("statement", ["import hydra", "from pytorch_lightning.callbacks import Callback"])
def test_an_absent_package_is_missed(tmp_path: Path, statement: str) -> None:
    (tmp_path / "greedy.py").write_text(f"{statement}\n")
    result = python(IMPORT_WITHOUT, " ".join(ABSENT), "greedy", path=tmp_path)
    assert result.returncode != 0
    assert "ModuleNotFoundError" in result.stderr


def test_the_package_itself_is_lazy() -> None:
    code = (
        "import sys, {module}; print(*(set(sys.modules) & {{'torch', 'timm', 'hydra', 'pytorch_lightning'}}))"
    )
    assert python(code.format(module="kanvision")).stdout.split() == []
    assert python(code.format(module="hydra")).stdout.split() == ["hydra"]


def test_models_need_torch_and_timm_alone_and_runs_no_trainer(tmp_path: Path) -> None:
    """An import of the models, or of a run, that fails on a machine which only measures or serves."""
    words = ["model.width_scale=0.125", "data.num_classes=10"]
    config = parse_train(compose("train", words, SRC.parent / "conf"))
    checkpoint = {
        "state_dict": build_model(config).state_dict(),
        "kanvision": {"config": to_primitive(config), "class_names": list("abcdefghij")},
    }
    torch.save(checkpoint, tmp_path / "best.ckpt")
    load_run = """
    for name in set(sys.argv[1].split()) - set(sys.argv[4].split()):
        del sys.modules[name]
    import numpy, kanvision
    print(kanvision.load_run(sys.argv[3])(numpy.zeros((8, 8), numpy.uint8)).label)
    """
    absent = "hydra omegaconf pytorch_lightning lightning_fabric lightning albumentations sklearn captum"
    words = " ".join({*ABSENT, *absent.split()}), "kanvision.models", str(tmp_path), absent
    result = python(IMPORT_WITHOUT + load_run, *words)
    assert result.stdout.strip() in set("abcdefghij"), result.stderr


TRAINED = """
    import runpy, sys
    sys.argv = ["train.py", "debug=fdr", "trainer=cpu", "trainer.enable_progress_bar=false"]
    runpy.run_path("train.py", run_name="__main__")
    print(*sys.modules)
"""
# what a training of a classifier on pictures in memory has no use for
UNUSED = [
    *("sklearn", "albumentations", "segmentation_models_pytorch", "rasterio", "captum"),
    *("kanvision.app.analyze", "kanvision.app.explain", "kanvision.app.predict"),
    *("kanvision.app.check_data", "kanvision.app.evaluate", "kanvision.prediction"),
    *("kanvision.analysis.explain", "kanvision.analysis.attention", "kanvision.analysis.curvature"),
    *("kanvision.data.inspection", "kanvision.data.datamodules.segmentation"),
    *("kanvision.data.readers.segmentation_base", "kanvision.data.transforms.segmentation"),
    *("kanvision.checkpoints.published", "kanvision.checkpoints.vit_to_kat"),
    *("kanvision.tasks.segmentation", "kanvision.losses.segmentation", "kanvision.metrics.segmentation"),
]


def test_a_training_imports_what_it_needs() -> None:
    absent = [n for n in UNUSED if n not in MODULES and ("." in n or importlib.util.find_spec(n) is None)]
    assert absent == []
    result = python(TRAINED)
    assert result.returncode == 0, result.stderr
    loaded = result.stdout.splitlines()[-1].split()
    assert "kanvision.tasks.classification" in loaded
    assert [name for name in UNUSED if name in loaded] == []


def test_no_import_changes_the_process_and_a_change_is_noticed(tmp_path: Path) -> None:
    """A module of ours that changes the process; one that does so comes last, and is named."""
    (tmp_path / "rude.py").write_text(
        "import os, torch\n"
        "torch.manual_seed(1)\n"
        "os.environ['RUDE'] = '1'\n"
        "torch.set_default_dtype(torch.float64)\n"
    )
    path = f"{SRC}{os.pathsep}{tmp_path}"
    modules = " ".join([*MODULES, "rude"])
    result = python(REPORT_SIDE_EFFECTS, " ".join(outside_packages()), modules, path=path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "rude changes torch's random state",
        "rude changes the environment",
        "rude changes the default dtype",
    ]
