"""The package as a user installs it: content of its archives, and its commands outside of a checkout."""

import email
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import kanvision
from kanvision.app.commands.main import MODES, PROGRAMS, main
from kanvision.config import CONF, program
from kanvision.spec.extras import EXTRAS

ROOT = Path(__file__).resolve().parents[1]
BUILD = "from setuptools.build_meta import build_{0}; print(build_{0}('.'))"
pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="packages are built from a git checkout")


def run(words, folder, **environment):
    process = subprocess.run(
        list(map(str, words)),
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def git(*words, folder=ROOT):
    return run(["git", "-c", "safe.directory=*", *words], folder).strip()


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The wheel, built from the source archive, which is built from the files that git knows."""
    home = tmp_path_factory.mktemp("build")
    clone = home / "clone"
    git("clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone))
    for name in git("ls-files", "--modified", "--others", "--exclude-standard").splitlines():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name) if (ROOT / name).exists() else (clone / name).unlink()
    source = clone / run([sys.executable, "-c", BUILD.format("sdist")], clone).splitlines()[-1]
    with tarfile.open(source) as archive:
        archive.extractall(home, filter="data")
    unpacked = home / source.name.removesuffix(".tar.gz")
    wheel = unpacked / run([sys.executable, "-c", BUILD.format("wheel")], unpacked).splitlines()[-1]
    return source, wheel, git("rev-parse", "--short=12", "HEAD", folder=clone)


def test_the_wheel_has_all_of_the_package(archives):
    """A file of conf/ or of the package that the build leaves out, and a file that does not belong there."""
    with zipfile.ZipFile(archives[1]) as wheel:
        found = {name for name in wheel.namelist() if ".dist-info/" not in name}
        commit = wheel.read("kanvision/commit.txt").decode()
    tracked = git("ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    conf = {f"kanvision/{name}" for name in tracked if name.startswith("conf/") and (ROOT / name).exists()}
    code = {
        name.removeprefix("src/")
        for name in tracked
        if re.fullmatch(r"src/kanvision/.*(\.py|\.csv|py\.typed|weights/.+)", name) and (ROOT / name).exists()
    }
    assert len(conf) > 200
    assert found == conf | code | {"kanvision/commit.txt"}
    assert commit.startswith(archives[2])


def test_the_source_archive_can_run_the_tests(archives):
    with tarfile.open(archives[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "train.py",
        "eval.py",
        "conf/train.yaml",
        "tests/conftest.py",
        "docs/start.md",
        "setup.py",
    } <= names
    assert {"requirements.lock", "LICENSE", "src/kanvision/commit.txt", "benchmarks/cases.py"} <= names


def test_metadata(archives):
    """A license, a system, an extra or the version that the archive does not state, or states wrongly."""
    with zipfile.ZipFile(archives[1]) as wheel:
        folder = f"kanvision-{kanvision.__version__}.dist-info"
        metadata = email.message_from_bytes(wheel.read(f"{folder}/METADATA"))
        assert wheel.read(f"{folder}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert metadata["Version"] == kanvision.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "Operating System :: POSIX :: Linux" in metadata.get_all("Classifier")
    assert set(EXTRAS.values()) | {"dev"} == set(metadata.get_all("Provides-Extra"))


@pytest.fixture(scope="module")
def environment(archives, tmp_path_factory):
    """An environment with the wheel alone, whose dependencies are those of the running one."""
    home = tmp_path_factory.mktemp("installed")
    python = home / "bin" / "python"
    run([sys.executable, "-m", "venv", "--without-pip", home], home)
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps"]
    run([*pip, archives[1]], home)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = Path(run([python, "-c", code], home).strip())
    # a .pth file inside that folder, such as the one of an editable install, is not read
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return home / "bin" / "kanvision"


def test_commands_work_from_an_empty_folder(archives, environment, tmp_path):
    """A command that needs the checkout, writes elsewhere, or records the commit of the folder around it."""
    git("init", "--quiet", folder=tmp_path)
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--allow-empty", "-qm", "x", folder=tmp_path)
    small = ["trainer.max_steps=1", "data.limit=40", "data.limit_test=20", "model.width_scale=0.125"]
    shown = run([environment, "train", "model.size=4", "run.dir=runs/a", "trainer=cpu", *small], tmp_path)
    assert "Next: kanvision eval ckpt=runs/a" in shown
    metrics = json.loads((tmp_path / "runs" / "a" / "metrics.json").read_text())
    assert metrics["commit"].startswith(archives[2])
    assert metrics["versions"]["kanvision"] == kanvision.__version__
    shown = run([environment, "eval", "ckpt=latest", "trainer.accelerator=cpu"], tmp_path)
    assert f"{metrics['parameters']:,}" in shown
    cards = run([environment, "info", "model=kat", "basis=gram", "data=digits"], tmp_path)
    assert "model.num_heads" in cards
    assert "kanvision train" in run([environment, "train", "--help"], tmp_path)
    assert "--plugin=MODULE" in run([environment.with_name("python"), "-m", "pytest", "--help"], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".git", "runs"}


def test_the_first_word_chooses_the_program(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == kanvision.__version__
    assert main(["trian"]) == 2
    assert "did you mean kanvision train?" in capsys.readouterr().err
    assert main([]) == 0
    usage = capsys.readouterr().out
    assert all(f"kanvision {name} " in usage for name in PROGRAMS)
    assert set(MODES) <= set(PROGRAMS)


def test_info_lists_what_can_be_chosen(capsys):
    assert main(["info"]) == 0
    listed = capsys.readouterr().out
    assert all(f"    {path.stem} " in listed for path in (CONF / "basis").glob("*.yaml"))
    with pytest.raises(SystemExit) as end:
        main(["info", "model=konvkan"])
    assert end.value.code == 2
    assert "did you mean model=convkan?" in capsys.readouterr().err


def test_messages_name_the_program_that_runs(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    assert program("train") == "python train.py"
    for path in ("bin/kanvision", "kanvision/__main__.py"):
        monkeypatch.setattr(sys, "argv", [path])
        assert program("train") == "kanvision train"
