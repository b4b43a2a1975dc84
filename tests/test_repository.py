"""What the files of the repository may be called, how long they may be, and what they must not say."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# put together here, so that this file does not contain what it looks for
MACHINE_PATH = re.compile(
    r"(?<![\w.~/}\])$-])"
    + "/(?:"
    + "|".join(["work", "home", "root", "opt", "tmp", "Users", "scratch"])
    + r")/[\w.]"
)
REGISTRY = re.compile(
    "|".join(
        [
            r"\b(?:test\.)?pypi" + r"\.(?:org|python\.org)",
            r"\bpythonhosted" + r"\.org",
            r"\bdownload\.pytorch" + r"\.org/whl",
            r"\b(?:conda\.)?anaconda" + r"\.(?:org|com)",
            r"\bjfrog" + r"\.io",
            r"\bartifact" + r"ory\b",
            r"--(?:extra-)?index" + r"-url",
            r"\bindex" + r"[-_]url\s*=",
        ]
    ),
    re.IGNORECASE,
)


CATCH_ALL = re.compile(r"utils?|helpers?|commons?|misc|miscellaneous|stuff")
MAX_LINES = 400


def catch_all_names(path: Path) -> list[str]:
    parts = [*path.parent.parts, path.stem]
    return [
        f"{path}: '{part}' does not say what is inside"
        for part in parts
        if CATCH_ALL.fullmatch(part.strip("_"))
    ]


def overlong(path: Path, text: str) -> list[str]:
    lines = len(text.splitlines())
    return [f"{path} has {lines} lines, {MAX_LINES} are the limit"] if lines > MAX_LINES else []


def complaints(name: str, text: str) -> list[str]:
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        for rule, what in ((MACHINE_PATH, "a path of one machine"), (REGISTRY, "a package registry")):
            if match := rule.search(line):
                found.append(f"{name}:{number} names {what}: {match.group()}")
    return found


def text_files() -> dict[str, str]:
    """Files that git keeps or would keep, binaries left out."""
    command = [
        "git",
        "-c",
        "safe.directory=*",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    found = {}
    for name in filter(None, names):
        path = ROOT / name
        content = path.read_bytes() if path.is_file() else b"\0"
        if b"\0" not in content:
            found[name] = content.decode("utf-8")
    return found


def test_empty_names_and_long_files_are_seen() -> None:
    for name in ("utils.py", "helpers/a.py", "common.py", "layers/_misc.py"):
        assert len(catch_all_names(Path(name))) == 1
    assert catch_all_names(Path("layers/presets.py")) == []
    assert len(overlong(Path("a.py"), "x = 1\n" * (MAX_LINES + 1))) == 1
    assert overlong(Path("a.py"), "x = 1\n" * MAX_LINES) == []


@pytest.mark.parametrize("folder", ["work", "home", "root", "opt", "tmp", "Users"])
@pytest.mark.parametrize("before", ["", "see ", "'", "data.root=", "(", ":"])
def test_a_machine_path_is_seen(folder: str, before: str) -> None:
    assert len(complaints("a.md", "first line\n" + before + f"/{folder}" + "/someone/data")) == 1


@pytest.mark.parametrize(
    "host", ["https://pypi" + ".org/simple", "files.pythonhosted" + ".org", "--index" + "-url x"]
)
def test_a_registry_is_seen(host: str) -> None:
    assert len(complaints("a.lock", host)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "data.root=/data/imagenet",
        "../home/x",
        "https://example.org/home/x",
        "a homeroot/optional/path",
        "{root}/tmp/x",
    ],
)
def test_other_paths_are_left_alone(line: str) -> None:
    assert complaints("a.md", line) == []


def test_names_and_lengths_of_python_files() -> None:
    files = [
        *ROOT.glob("*.py"),
        *(path for folder in ("src", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")),
    ]
    assert ROOT / "src" / "kanvision" / "__init__.py" in files
    found = [line for path in files for line in catch_all_names(path.relative_to(ROOT))]
    assert (
        found + [line for path in files for line in overlong(path.relative_to(ROOT), path.read_text("utf-8"))]
        == []
    )


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only a git checkout knows which files are its own")
def test_no_file_names_a_machine_or_a_registry() -> None:
    files = text_files()
    assert "pyproject.toml" in files
    assert [line for name, text in files.items() for line in complaints(name, text)] == []


def test_only_these_files_have_tests_that_the_suite_leaves_out() -> None:
    """A test marked slow runs with `-m slow` only; `long` is the mark of one that takes its time."""
    marked = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests").rglob("*.py")
        if re.search(r"\bmark\.slow\b", path.read_text("utf-8"))
    }
    assert marked == {
        "tests/config/test_conf_files.py",
        "tests/config/test_experiments.py",
        "tests/covering.py",  # marks the cases beyond those that cover each value
        "tests/export/test_write.py",
        "tests/models/test_contract.py",
        "tests/test_derivatives.py",
    }
