"""Documentation: commands, choices, links, tables and code blocks exist and work."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import kanvision
from kanvision.config import ConfigGroups
from kanvision.config.cards import tables

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
CHOICES = ConfigGroups([CONF])
COMMAND = re.compile(r"`python train\.py ([^`]*)`")
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "docker" / "README.md",
    *(ROOT / "docs").glob("*.md"),
]


def missing_choices(overrides: str) -> list[str]:
    """Choices `group=name` for which conf/ has no file and no row of a table."""
    pairs = [word.split("=", 1) for word in shlex.split(overrides) if "=" in word]
    groups = [(key, value) for key, value in pairs if key in CHOICES.groups]
    known = tables(CHOICES.experiments.values()) if "--help" in overrides else ()
    return [f"{key}={value}" for key, value in groups if not CHOICES.has(key, value) and value not in known]


def ragged_rows(text: str) -> list[str]:
    """Rows of a table with another number of cells than the row above them."""
    found, width = [], None
    for line in text.splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else None
        if cells and width and cells != width:
            found.append(line)
        width = cells
    return found


def numbers_in(scores: Any) -> Iterator[float]:
    """Return all numbers of a row: means, spreads, bounds, those of several runs."""
    if isinstance(scores, dict | list):
        for part in scores.values() if isinstance(scores, dict) else scores:
            yield from numbers_in(part)
    else:
        yield from map(float, re.findall(r"\d+\.?\d*", str(scores)))


def anchors(text: str) -> set[str]:
    """Return the anchors of all headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def dead_links(page: Path) -> list[str]:
    """Return the links of a page to files and headings that do not exist."""
    text, found = page.read_text("utf-8"), []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        if "://" in name:
            continue
        if not file.exists() or (anchor and anchor not in anchors(file.read_text("utf-8"))):
            found.append(target)
    return found


def headings(text: str) -> set[str]:
    return set(re.findall(r"^### `(\w+)`", text, re.MULTILINE))


def test_faults_are_seen() -> None:
    assert missing_choices("model=kta data=mnist data.root=x seed=1") == ["model=kta"]
    assert missing_choices("model=kat data=imagenet model.size=tiny experiment=kat/imagenet_tiny") == []
    assert missing_choices("experiment=kat/imagenet_tny") == ["experiment=kat/imagenet_tny"]
    assert ragged_rows("| a | b |\n|---|---|\n| 1 |") == ["| 1 |"]
    assert ragged_rows("| a | b |\n|---|---|\n| 1 | \\| |\n\n| c |\n|---|") == []
    assert headings("### `rbf`: bumps\n## `x`\n### y") == {"rbf"}
    assert anchors("# A b\n### C's `d`, e\n```\n# no\n```") == {"a-b", "cs-d-e"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links(page: Path) -> None:
    """A page or heading that was renamed without its links is found."""
    assert dead_links(page) == []


def test_the_index_has_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    listed = set(re.findall(r"\]\(([\w]+\.md)\)", index))
    assert listed == {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_commands_and_tables(path: Path) -> None:
    text = path.read_text("utf-8")
    missing = {choice for command in COMMAND.findall(text) for choice in missing_choices(command)}
    # a file that the document itself tells the reader to write
    assert {choice for choice in missing if f"`conf/{choice.replace('=', '/')}.yaml`" not in text} == set()
    assert ragged_rows(text) == []


def test_the_papers_have_the_numbers_of_the_tables() -> None:
    """A line of docs/papers.md that names an experiment states its numbers of the first metric."""
    rows, checked, missing = CHOICES.experiments, 0, []
    for line in (ROOT / "docs" / "papers.md").read_text("utf-8").splitlines():
        stated = {float(number) for number in re.findall(r"(?<![\d,])\d*\.?\d+", line)}
        for name in re.findall(r"experiment=([\w./-]+\w)", line) if line.startswith("|") else []:
            numbers = [*rows[name].published.values()][:1] + [*rows[name].measured.values()][:1]
            missing += [(name, number) for number in numbers_in(numbers) if number not in stated]
            checked += 1
    assert missing == []
    assert checked > 300


def test_every_basis_is_described() -> None:
    described = headings((ROOT / "docs" / "bases.md").read_text("utf-8"))
    assert described == {path.stem for path in (CONF / "basis").glob("[!_]*.yaml")}


def test_the_example_of_fine_tuning_works() -> None:
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "peft.md").read_text("utf-8"), re.DOTALL)
    assert code is not None
    names: dict[str, object] = {}
    exec(code.group(1), names)  # it asserts that merging is exact


def test_the_example_of_grid_care_works() -> None:
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "grid.md").read_text("utf-8"), re.DOTALL)
    assert code is not None
    names: dict[str, object] = {}
    exec(code.group(1), names)  # it asserts that functions stay what they were


def test_the_job_of_slurm_gives_its_tasks_cores_and_the_environment(tmp_path: Path) -> None:
    """A program in the place of srun shows what Slurm would be given."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").write_text("export ENVIRONMENT=active\n")
    (tmp_path / "srun").write_text('#!/bin/sh\necho "$ENVIRONMENT" "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    job = {"PATH": path, "SLURM_CPUS_PER_TASK": "8", "SLURM_JOB_ID": "7"}

    def submit() -> subprocess.CompletedProcess[str]:
        words = ["bash", str(ROOT / "docs" / "slurm.sbatch"), "model=kat", "data.root=a b"]
        return subprocess.run(words, cwd=tmp_path, env=job, capture_output=True, text=True, check=False)

    assert submit().stdout == (
        "active --kill-on-bad-exit=1 --cpus-per-task=8 python train.py trainer=slurm run.dir=runs/slurm/7 "
        "resume=auto model=kat data.root=a b\n"
    )
    (tmp_path / ".venv" / "bin" / "activate").unlink()
    assert submit().returncode != 0


def test_the_examples_of_kat_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    text = (ROOT / "docs" / "kat.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 6
    names: dict[str, object] = {}
    for block in blocks:  # each asserts what it shows
        exec(block, names)


def test_the_citation_agrees_with_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert f'name = "{citation["title"]}"' in project
    assert f'license = "{citation["license"]}"' in project
    assert citation["version"] == kanvision.__version__
