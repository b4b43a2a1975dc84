"""Style of names and prose: docstring first lines, function names, American spelling."""

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(p for top in ("src", "benchmarks") for p in (ROOT / top).rglob("*.py"))
SOURCES += [ROOT / "train.py", ROOT / "eval.py"]
# a first line says what the thing is or does and stands alone
DANGLING = re.compile(
    r"(What|Which|Who|Whose|Where|When|How|Whether|Why|Of|The same|Those|These|It|They|As|Look)\b"
)
# function names are verbs, or nouns of the field
PREPOSITION = re.compile(r"_(of|for|with|from|to|in|by)$")
BRITISH = re.compile(
    r"(?i)\b\w*("
    r"colour|behaviour|neighbour|favour|honour|centre|metre[sd]?\b|grey|analys(?:e|ed|er|ers|ing)\b|artefact|catalogue|licence|"
    r"(?:normal|optim|initial|regular|general|summar|visual|recogn|organ|minim|maxim|real|util|penal|local|"
    r"serial|token|discret|parametr|categor|standard|quant|special|factor|vector|equal|stabil|synchron|"
    r"emphas|crystall|polar|linear|final|memor|priorit|custom|author)is(?:e|ed|es|er|ers|ing|ation|ations)\b|"
    r"(?:label|model|travel|cancel|signal|channel|total|level)led\b|modelling|labelling|travelling"
    r")\w*"
)
OLD_NAMES = (
    "src/kanvision/config/renames.py",
    "tests/config/test_renames.py",
    "tests/test_style.py",
    "CHANGELOG.md",
)
"""Files about spellings that are no more."""
PROSE = ("*.md", "*.py", "*.yaml", "*.toml", "*.cff")


def definitions(tree: ast.Module) -> Iterator[tuple[ast.AST, str, str, int]]:
    """Every module, class and function with its name, the first line of its docstring, and its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = (ast.get_docstring(node) or "").split("\n")[0]
            yield node, getattr(node, "name", ""), first, getattr(node, "lineno", 1)


def docstring_faults(source: str) -> list[str]:
    found = []
    for _, name, first, line in definitions(ast.parse(source)):
        if DANGLING.match(first) or re.fullmatch(r"[A-Z]{1,2}\.", first):
            found.append(f"{line} {name}: {first}")
    return found


def name_faults(source: str) -> list[str]:
    functions = [d for d in definitions(ast.parse(source)) if isinstance(d[0], ast.FunctionDef)]
    return [f"{line} def {name}" for _, name, _, line in functions if PREPOSITION.search(name)]


def spelling_faults(text: str) -> list[str]:
    return [
        f"{number} {match[0]}"
        for number, line in enumerate(text.splitlines(), 1)
        for match in BRITISH.finditer(line)
        if "spelling: ok" not in line
    ]


GENERATED = ("docs/config.md", "docs/bad_inputs.md", "docs/kernels.md")
"""Pages whose texts come from the code."""
HOUSE_WORDS = re.compile(
    r"(?i)\b(told|tells?|answer(?:s|ed)?|questions?|mended|taken up|go(?:es)? on|went on|going on|"
    r"com(?:e|es) to|came to|look(?:s|ed|ing)? (?:at|inside)|sa(?:ys?|id)|ask(?:s|ed)?|wants?|wanted|"
    r"nothing but|but for|batch mates|front door|traps?|rivals?)\b"
)
"""Words for which the field has others."""


def markdown_faults(text: str) -> list[str]:
    """Return headings that do not name a topic, and house words outside code."""
    prose = re.sub(r"```.*?```|`[^`\n]*`", lambda code: re.sub(r"[^\n]", "x", code[0]), text, flags=re.DOTALL)
    found = []
    for number, line in enumerate(prose.splitlines(), 1):
        title = re.match(r"#+ (.*)", line)
        if title and (DANGLING.match(title[1]) or re.search(r"\b(that|which|what)\b|[.?!]$", title[1])):
            found.append(f"{number} title: {title[1]}")
        if not line.startswith("    "):
            found += [f"{number} {match[0]}" for match in HOUSE_WORDS.finditer(line)]
    return found


OPEN = {docstring_faults: 0, name_faults: 0}
"""Faults that are left of each kind."""


def test_each_fault_is_seen() -> None:
    assert docstring_faults('"""What it is."""')
    assert docstring_faults('def f():\n    """C."""')
    assert not docstring_faults('"""Whole networks."""')
    assert name_faults("def batches_of(): ...")
    assert not name_faults("def build_model(): ...")
    assert spelling_faults("# the colour of normalised logits")
    assert not spelling_faults("# the color of several analyses, raised")
    assert markdown_faults("# Runs that go on") == ["1 title: Runs that go on", "1 go on"]
    assert markdown_faults("## What was run\n\nIt says so.") == ["1 title: What was run", "3 says"]
    assert not markdown_faults("# Inference\n\n`ask`\n\n```\n# What\nsays\n```\n")


@pytest.mark.parametrize(("check", "most"), OPEN.items())
def test_names_and_first_lines(check: Callable[[str], list[str]], most: int) -> None:
    """No new fault: the texts of before these rules are rewritten file by file, and the number only falls."""
    found = [f"{p.relative_to(ROOT)}:{f}" for p in SOURCES for f in check(p.read_text("utf-8"))]
    assert len(found) <= most, "\n".join([f"{len(found)} in all, {most} are known", *found])


def test_american_spelling() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", *PROSE], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    found = [
        f"{name}:{fault}"
        for name in tracked
        if name not in OLD_NAMES
        for fault in spelling_faults((ROOT / name).read_text("utf-8"))
    ]
    assert not found, "\n".join([f"{len(found)} in all", *found])


def test_prose_of_the_documentation() -> None:
    """Titles name their topics, and the texts use the field's words."""
    names = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    found = [
        f"{name}:{fault}"
        for name in names
        if name not in GENERATED
        for fault in markdown_faults((ROOT / name).read_text("utf-8"))
    ]
    assert not found, "\n".join([f"{len(found)} in all", *found])
