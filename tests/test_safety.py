"""Nothing that comes from elsewhere runs code, leaves its folder, or sends this machine to the network.

Rules about source text are functions that are shown a fault first, then the whole tree.
"""

import ast
import contextlib
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger

from kanvision.app.instantiate import instantiate_target
from kanvision.config import check_command_line
from kanvision.config.yaml_files import YamlLoader
from kanvision.data import READERS, DataError
from kanvision.data.files.safe_unpacking import safe_unpacking

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [*ROOT.glob("*.py"), *(ROOT / "src").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]

# what reads code as data; cifar.py has an unpickler of its own, which builds arrays and plain values only
FORBIDDEN = {
    *("eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads", "joblib.load", "dill.load"),
    *("yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "torch.hub.load", "shutil.unpack_archive"),
    *("torch.jit.load", "torch.package.PackageImporter"),
}
FORBIDDEN_METHODS = {"load_from_checkpoint", "extractall"}
LOADERS = {"torch.load": ("weights_only", True), "numpy.load": ("allow_pickle", False)}
RUNS = {"fit", "test", "validate", "predict"}


def unsafe_calls(source: str) -> list[str]:
    """Lines with a call that can run what it reads."""
    found = []
    tree = ast.parse(source)
    kinds = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    safe = {kind.name for kind in kinds if [*map(ast.unparse, kind.bases)] == ["SafeLoader"]}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func).replace("np.load", "numpy.load")
        words = {word.arg: word.value for word in node.keywords}
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        bad = name in FORBIDDEN or method in FORBIDDEN_METHODS
        if name == "pickle.loads":  # a copy of an object of this process reads nothing
            bad = not ast.unparse(node.args[0]).startswith("pickle.dumps(")
        if name in LOADERS:
            word, right = LOADERS[name]
            bad |= not (isinstance(value := words.get(word), ast.Constant) and value.value is right)
        if name == "yaml.load":
            bad |= (
                ast.unparse(node.args[1]) not in {"LOADER", "YamlLoader", "yaml.SafeLoader", *safe}
                if len(node.args) > 1
                else True
            )
        if method in RUNS and "ckpt_path" in words:
            bad |= "weights_only" not in words
        shell = words.get("shell")
        bad |= isinstance(shell, ast.Constant) and bool(shell.value)
        if bad:
            found.append(f"{node.lineno}: {ast.unparse(node)[:80]}")
    return found


@pytest.mark.parametrize(
    "fault",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "numpy.load(path, allow_pickle=True)",
        "pickle.loads(content)",
        "yaml.load(text, yaml.Loader)",
        "yaml.load(text)",
        "class Mine(yaml.Loader):\n    pass\nyaml.load(text, Mine)",
        "eval(text)",
        "Net.load_from_checkpoint(path)",
        "archive.extractall(folder)",
        "trainer.fit(task, ckpt_path=path)",
        "subprocess.run(line, shell=True)",
    ],
)
def test_a_call_that_runs_what_it_reads_is_seen(fault: str):
    assert len(unsafe_calls(fault)) == 1


EXAMINED = (
    "src/kanvision/export/formats/graphs.py:",  # TorchScript has no access to Python
    "src/kanvision/expansion/triton_kernels.py:",  # code that the package generates itself
)
"""Files whose calls are legal, and why."""


def test_no_source_runs_what_it_reads():
    legal = [
        "torch.load(p, weights_only=True)",
        "np.load(p, allow_pickle=False)",
        "model.eval()",
        "yaml.load(t, LOADER)",
        "class Mine(SafeLoader):\n    pass\nyaml.load(t, Mine)",
        "pickle.loads(pickle.dumps(x))",
    ]
    assert [line for text in legal for line in unsafe_calls(text)] == []
    assert len(SOURCES) > 200
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in SOURCES
        for line in unsafe_calls(path.read_text("utf-8"))
    ]
    assert [line for line in found if not line.startswith(EXAMINED)] == []
    assert issubclass(YamlLoader, yaml.SafeLoader | yaml.CSafeLoader)
    loader = (ROOT / "src/kanvision/sweep/runs.py").read_text("utf-8")
    assert "SafeLoader" in loader.split("LOADER", 2)[1]


# --- what a configuration may call

OUTSIDE = [
    "os.system",
    "torch.os.system",  # leads out of torch
    "torch.hub.load",
    "torch.load",
    "kanvision.app.run_record.subprocess.Popen",  # a class, but none of ours
    "kanvision.app.run_record.subprocess.run",
    "pytorch_lightning.Trainer",  # a class of a known package, but no callback
    "builtins.eval",
]


@pytest.mark.parametrize("target", OUTSIDE)
@pytest.mark.parametrize("base", [Callback, Logger])
def test_only_classes_of_the_right_kind_are_built(target: str, base: type, tmp_path: Path):
    with pytest.raises(ValueError, match="_target_="):
        instantiate_target({"_target_": target, "args": ["touch", str(tmp_path / "touched")]}, base)
    inner = {"_target_": target, "args": ["touch", str(tmp_path / "touched")]}
    if target != "pytorch_lightning.Trainer":
        with pytest.raises(ValueError, match="_target_="):
            instantiate_target(
                {"_target_": "kanvision.callbacks.LastCheckpoint", "dirpath": [{"deep": inner}]}, Callback
            )
    assert not list(tmp_path.iterdir())


def test_what_is_legal_is_built(tmp_path: Path):
    callback = instantiate_target(
        {"_target_": "kanvision.callbacks.LastCheckpoint", "dirpath": str(tmp_path)}, Callback
    )
    assert type(callback).__name__ == "LastCheckpoint"
    logger = instantiate_target(
        {"_target_": "pytorch_lightning.loggers.CSVLogger", "save_dir": str(tmp_path)}, Logger
    )
    assert isinstance(logger, Logger)


@pytest.mark.parametrize(
    "words",
    [
        "+callbacks.mine={_target_: os.system, command: ls}",
        "callbacks.progress._target_=subprocess.run",
        "+logger.mine={_target_: kanvision.callbacks.CSVLog, deep: [{_target_: builtins.eval}]}",
        "+hydra.callbacks.more={_target_: os.system}",
        "hydra.launcher._target_=subprocess.Popen",
        "+hydra.callbacks.mine={_target_: kanvision.app.run_record.subprocess.run}",
        "+hydra.job_logging.handlers={mine: {(): os.system}}",
    ],
)
@pytest.mark.parametrize("program", ["train", "eval"])
def test_a_target_on_the_command_line_is_refused(
    words: str, program: str, capsys: pytest.CaptureFixture[str]
):
    if program == "eval" and "hydra" not in words:
        pytest.skip("eval.py takes no callbacks and loggers")
    first = [] if program == "train" else ["mode=check_data"]
    with pytest.raises(SystemExit) as ended:
        check_command_line(program, [*first, words], ROOT / "conf")
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "a configuration may only call what belongs to a known package" in told or "cannot be read" in told
    assert "legal" in told or "cannot be read" in told


# --- archives


def archive(path: Path, kind: str) -> Path:
    """A tar.gz with something that leads out of its folder."""
    member = tarfile.TarInfo({"parent": "../evil", "absolute": str(path.parent / "evil")}.get(kind, "link"))
    content = b"evil"
    if kind == "link":
        member.type, member.linkname, content = tarfile.SYMTYPE, "../../evil", b""
    member.size = len(content)
    with tarfile.open(path, "w:gz") as file:
        file.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("filters", [True, False], ids=["python-with-filters", "python-before-pep-706"])
@pytest.mark.parametrize("kind", ["parent", "absolute", "link"])
def test_an_archive_does_not_leave_its_folder(
    kind: str, filters: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from torchvision.datasets.utils import extract_archive

    if not filters:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    elif not hasattr(tarfile, "data_filter"):
        pytest.skip("this Python knows no filters of archives")
    before = dict(vars(tarfile.TarFile))
    path = archive(tmp_path / "archive.tar.gz", kind)
    home = tmp_path / "deep" / "home"
    home.mkdir(parents=True)
    if kind == "absolute":  # it is put below the folder, or refused
        with safe_unpacking(), contextlib.suppress(tarfile.TarError):
            extract_archive(str(path), str(home))
        assert not (tmp_path / "evil").exists()
    else:
        with pytest.raises(tarfile.TarError), safe_unpacking():
            extract_archive(str(path), str(home))
        assert not list(home.iterdir())
    assert dict(vars(tarfile.TarFile)) == before


def test_an_old_python_unpacks_what_is_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    path, content = tmp_path / "archive.tar", b"good"
    with tarfile.open(path, "w") as file:
        member = tarfile.TarInfo("folder/file")
        member.size = len(content)
        file.addfile(member, io.BytesIO(content))
    with safe_unpacking(), tarfile.open(path) as file:
        file.extractall(tmp_path / "out")
    assert (tmp_path / "out" / "folder" / "file").read_bytes() == content


def test_a_download_that_leaves_its_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The real way: torchvision compares the checksum, and unpacks."""
    from torchvision.datasets import CIFAR10

    root = tmp_path / "a" / "root"
    root.mkdir(parents=True)
    path = archive(root / CIFAR10.filename, "parent")  # as if it had just been fetched
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(path.read_bytes()).hexdigest())
    with pytest.raises(DataError, match=r"data\.download=true: the archive is refused or damaged"):
        READERS["cifar10"](root, download=True).prepare()
    assert not (tmp_path / "a" / "evil").exists()


# --- the network

OFFLINE = """
    import sys
    asked = []

    def listen(event, arguments):
        if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"):
            asked.append((event, str(arguments)))

    sys.addaudithook(listen)
    from pathlib import Path
    from kanvision.app.evaluate import evaluate
    from kanvision.app.train import train
    from kanvision.config import EvalConfig, compose, parse_train
    conf, folder = Path(sys.argv[1]), sys.argv[2]
    small = ["data.limit=4", "data.limit_test=4", "data.batch_size=2", "trainer=cpu", "logger=none"]
    small += ["trainer.max_epochs=1", "scheduler.warmup_epochs=0", "data.num_workers=0", f"run.dir={folder}"]
    words = ["model=smp", "model.name=Unet", "data=synthetic_fields", "data.img_size=32", *small]
    words += ["augment.hflip=0.5"]
    train(parse_train(compose("train", words, conf)))
    evaluate(EvalConfig(ckpt=folder))
    print("asked:", asked)
    if len(sys.argv) > 3:
        import socket
        try:
            socket.create_connection(("127.0.0.1", 9), timeout=1)
        except OSError:
            pass
        print("asked:", len(asked) > 0)
"""


@pytest.mark.long
def test_training_and_evaluation_ask_nobody(tmp_path: Path):
    """A network and augmentation whose libraries like to ask; then a question, which is heard."""
    home = tmp_path / "home"  # without anything fetched before
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "OMP_NUM_THREADS": "1"}
    for name in ("NO_ALBUMENTATIONS_UPDATE", "HF_HOME", "TORCH_HOME", "HF_HUB_OFFLINE"):
        environment.pop(name, None)
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(OFFLINE),
        str(ROOT / "conf"),
        str(tmp_path / "run"),
        "probe",
    ]
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    told = [line for line in result.stdout.splitlines() if line.startswith("asked:")]
    assert told == ["asked: []", "asked: True"]


# --- what is installed

KNOWN_BAD = {
    "pytorch-lightning": ("2.6.2", "2.6.3", "2.6.5"),  # stole credentials; code from checkpoints before 2.6.6
    "hydra-core": ("1.3.3", "1.3.4", "1.3.7"),  # instantiate let everything through
    "torch": ("2.5.1",),  # weights_only=True could run code
    "pillow": ("11.2.1",),  # a buffer overflow in writing DDS
}


def test_known_bad_releases_are_excluded():
    tomllib = pytest.importorskip("tomllib")  # of Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = {r.name: r.specifier for r in map(Requirement, project["dependencies"])}
    for name, versions in KNOWN_BAD.items():
        assert [version for version in versions if wanted[name].contains(version)] == [], name
    assert "lightning" not in wanted


def test_the_lock_has_hashes_and_no_known_bad_release():
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    heads = [line for line in lines if line and not line.startswith((" ", "#"))]
    assert len(heads) > 50
    names = {line.partition("==")[0]: line.partition("==")[2].split()[0] for line in heads}
    assert "lightning" not in names
    assert all(names[name] not in versions for name, versions in KNOWN_BAD.items())
    text = "\n".join(lines)
    for head in heads:
        assert f"{head}\n    --hash=sha256:" in text, head
