"""Plugins: the template, and what is imported because of whom."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from .programs import run_program

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("trainer=cpu", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "data.batch_size=8")
TEMPLATE = ("plugins=[my_package]", "model=mini_kan", "basis=hat", "data=stripes")
SPY = """
import os
from pathlib import Path

import kanvision as kv
from kanvision.analysis.results import AnalysisResult
from timm.models import register_model
from torch import nn

Path(os.environ["SPY"]).write_text("imported")

class Net(nn.Module):
    def __init__(self, num_classes, in_chans):
        super().__init__()
        self.num_classes = num_classes
        self.head = nn.Linear(64 * in_chans, num_classes)

    def forward(self, x):
        return self.head(x.flatten(1))

@register_model
def spy_net(pretrained=False, num_classes=10, in_chans=3, **kwargs):
    return Net(num_classes, in_chans)

def count(run, scale=1):
    number = scale * sum(p.numel() for p in run.task.model.parameters())
    return AnalysisResult(sentences=[f"{number} numbers"], limits=[], numbers={"count": number})

kv.register_analysis("count", count)
"""


@pytest.fixture
def home(tmp_path):
    """A folder with the template, and a plugin that leaves a file when it is imported."""
    shutil.copytree(
        ROOT / "examples" / "plugin", tmp_path / "home", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "home" / "spy.py").write_text(SPY)
    return tmp_path / "home"


def kanvision(home, *words, status=0, path=(), **more):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SPY": str(home / "spied"), **more}
    start = ["-m", "kanvision"]
    if path:
        start = [str(home / "start.py")]
        (home / "start.py").write_text(
            f"import runpy, sys\nsys.path[:0] = {[*map(str, path)]}\n"
            "runpy.run_module('kanvision', run_name='__main__', alter_sys=True)\n"
        )
    process = run_program([*start, *words], home, environment)
    output = process.stdout + process.stderr
    assert process.returncode == status, output
    return output


def test_the_template_trains_and_is_recorded(home):
    """A registered part that is not used, a rank without the plugin, a record without its name or version."""
    words = ("loss.name=poly", "+loss.kwargs.epsilon=0.5", "metrics.extra=[f1]", "monitor=val/f1")
    run = (
        "callbacks=[default,weight_norm]",
        "trainer.max_epochs=1",
        "trainer.limit_train_batches=2",
        "run.dir=run",
    )
    kanvision(home, "train", *TEMPLATE, *words, *run, *SMALL[1:], "trainer=ddp_sim")
    config = yaml.safe_load((home / "run" / "config.yaml").read_text())
    metrics = json.loads((home / "run" / "metrics.json").read_text())
    assert config["plugins"] == ["my_package"]
    assert config["recipe"]["name"] == "mini_kan_stripes"
    assert {"test/f1", "best_val/f1"} <= metrics.keys()
    assert metrics["versions"]["my_package"]
    assert "train/weight_norm" in (home / "run" / "csv" / "metrics.csv").read_text()
    kanvision(home, "eval", "ckpt=run", "plugins=my_package", "trainer.accelerator=cpu")
    refused = kanvision(home, "eval", "ckpt=run", status=1)
    assert "the plugin my_package is not loaded" in refused


def test_jobs_of_a_sweep_have_the_plugin(home):
    kanvision(
        home, "train", "-m", *TEMPLATE, *SMALL, "trainer.max_steps=1", "seed=1,2", "hydra.sweep.dir=sweep"
    )
    assert all((home / "sweep" / job / "metrics.json").exists() for job in "01")


def test_a_record_imports_nothing(home):
    """A plugin that is imported because a file, a run folder or a checkpoint names it."""
    spied = home / "spied"
    step = (*SMALL, "trainer.max_epochs=1", "trainer.limit_train_batches=1")
    kanvision(home, "train", "plugins=[spy]", "model=timm", "model.name=spy_net", "run.dir=run", *step)
    assert spied.exists()
    spied.unlink()
    (home / "own" / "experiment").mkdir(parents=True)
    (home / "own" / "experiment" / "spied.yaml").write_text("# @package _global_\nplugins: [spy]\n")
    for section in ('overrides: {task: ["plugins=[spy]"]}', 'sweeper: {params: {plugins: "[spy]"}}'):
        injected = f"# @package _global_\nhydra: {{{section}}}\n"
        (home / "own" / "experiment" / "injected.yaml").write_text(injected)
        words = ("train", "-m", "--config-dir=own", "experiment=injected", "seed=1,2")
        assert "a file does not" in kanvision(home, *words, status=2)
        assert not spied.exists()
    for words, status in (
        (["train", "--config-dir=own", "experiment=spied"], 2),
        (["train", "resume=run", "model=timm", "trainer.max_epochs=2", *SMALL], 1),
        (["eval", "ckpt=run/checkpoints/best.ckpt"], 1),
    ):
        refused = kanvision(home, *words, status=status)
        assert "the plugin spy is not loaded" in refused, words
        assert "plugins=[spy]" in refused
        assert not spied.exists(), words
    analysis = ("mode=analyze", "analysis=count", "+analyze.kwargs.scale=2", "trainer.accelerator=cpu")
    assert "1300 numbers" in kanvision(home, "eval", "ckpt=run", "plugins=[spy]", *analysis)
    assert spied.exists()


def test_an_installed_plugin_needs_no_words(home, tmp_path):
    """An entry point that is not heard, cannot be switched off, or stops all commands when it is broken."""
    site = tmp_path / "site"
    for name, module in (("my_package", "my_package"), ("broken", "broken.part")):
        (site / f"{name}-0.1.dist-info").mkdir(parents=True)
        (site / f"{name}-0.1.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 0.1\n")
        entry = f"[kanvision.plugins]\n{name} = {module}\n"
        (site / f"{name}-0.1.dist-info" / "entry_points.txt").write_text(entry)
    shutil.move(home / "my_package", site / "my_package")
    shown = kanvision(home, "info", "model=mini_kan", path=[site])
    assert "Widths of the two convolutions" in shown
    assert "Note: plugin broken.part of broken 0.1: there is no module broken" in shown
    refused = kanvision(home, "info", "model=mini_kan", path=[site], status=2, KANVISION_PLUGINS="none")
    assert "no such card" in refused


REFUSALS = {
    "+callbacks.a._target_=my_package.WeightNorm": "belongs to a known package",
    "plugins=[nowhere]": "there is no module nowhere",
    "plugins=[os]": "is no name of a package of yours",
    "plugins=[kanvision.models]": "is no name of a package of yours",
    "plugins=[taken]": "the name gram is taken",
    "plugins=[my_package] data=stripes data.noise=loud": "expected number",
    "plugins=[my_package] data=stripes data.nois=0.1": "closest: data.noise",
    "plugins=[my_package] model=mini_kan model.size=huge": "expected small or base",
    "plugins=[my_package] loss.name=poly +loss.kwargs.gamma=1": "this loss takes epsilon",
    "plugins=[my_package] metrics.extra=[f2]": "legal: f1",
    "plugins=[my_package] +callbacks.a._target_=my_packages.WeightNorm": "belongs to a known package",
    "plugins=[free] model=free_net model.width=wide": "expected whole number",
    "plugins=[free] model=free_net model.widht=9": "closest: model.width",
    "plugins=[shadow]": "rename the file",
}
"""Command lines in the order of one process, with a part of the message."""


READ = """
import json, sys
from kanvision.config import CONF, ConfigError
from kanvision.config.cli.command_line import read_command_line
found = {}
for line in json.loads(sys.argv[1]):
    try:
        read_command_line("train", line.split(), CONF)
    except ConfigError as error:
        found[line] = str(error)
print(json.dumps(found))
"""


def test_refusals(home):
    """A plugin that takes what exists, or a key or class that is wrong and is accepted."""
    (home / "taken.py").write_text(
        "import kanvision as kv\nfrom kanvision.bases import GramBasis\nkv.register_basis(GramBasis)\n"
    )
    (home / "shadow").mkdir()
    (home / "shadow" / "__init__.py").write_text("CONF = __file__.replace('__init__.py', 'conf')\n")
    (home / "shadow" / "conf" / "model").mkdir(parents=True)
    (home / "shadow" / "conf" / "model" / "kat.yaml").write_text("family: kat\n")
    (home / "free" / "conf" / "model").mkdir(parents=True)
    (home / "free" / "__init__.py").write_text("CONF = __file__.replace('__init__.py', 'conf')\n")
    (home / "free" / "conf" / "model" / "free_net.yaml").write_text(
        "defaults: [_base, _self_]\nfamily: free_net\nname: free_net\nkind: classifier\nwidth: 8\n"
    )
    (home / "read.py").write_text(READ)
    process = run_program(["read.py", json.dumps([*REFUSALS])], home, dict(os.environ))
    found = json.loads(process.stdout.splitlines()[-1])
    assert {line: text for line, text in REFUSALS.items() if text not in found.get(line, "accepted")} == {}


FIT = """
import sys
import torch
import kanvision as kv

if __name__ == "__main__":
    torch.multiprocessing.set_start_method("spawn", force=True)  # a loader process imports everything anew
    run = kv.fit(
        *sys.argv[2:], plugins=["my_package"], model="mini_kan", basis="hat", data={"num_workers": 1},
        run={"dir": sys.argv[1]},
    )
    assert run.trainer.global_step == 3
    assert type(run.task.model).__name__ == "MiniKAN"
    assert type(run.cfg.model).__name__ == sys.modules["my_package.model"].MiniKANConfig.__name__
    try:
        kv.fit(model="mini_kann", plugins=["my_package"])
    except ValueError as error:
        assert "did you mean model=mini_kan?" in str(error), error
    else:
        raise AssertionError
"""


def test_fit_ends_with_the_weights_of_the_command(home):
    """Training from Python that differs from train.py, or loader processes without the plugin."""
    import torch

    words = ["data=stripes", "trainer=cpu", "data.batch_size=8", "trainer.max_epochs=1", "seed=5"]
    words += ["trainer.limit_train_batches=3", "trainer.limit_val_batches=0", "test=false"]
    (home / "script.py").write_text(FIT)
    process = run_program(["script.py", "fit", *words], home, dict(os.environ))
    assert process.returncode == 0, process.stdout + process.stderr
    kanvision(home, "train", *TEMPLATE[:3], *words, "run.dir=train")
    weights = [
        torch.load(home / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("fit", "train")
    ]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_the_contract_tests_run_over_the_template(home):
    """An option or a test that an author of a plugin cannot use, or a contract that the template breaks."""
    options = ["-q", "-p", "no:cacheprovider", "-p", "kanvision.testing.option"]
    words = ["-m", "pytest", *options, "--pyargs", "kanvision.testing", "--plugin", "my_package"]
    process = run_program(words, home, {**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.returncode == 0, process.stdout + process.stderr
    assert "passed" in process.stdout
