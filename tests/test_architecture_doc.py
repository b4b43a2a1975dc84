"""docs/architecture.md: its diagram and table are those of ROOMS, and the functions that it names exist.

`python -m tests.test_architecture_doc` prints the diagram.
"""

import ast
import re
from pathlib import Path

from .test_architecture import ROOMS

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "architecture.md").read_text("utf-8")
ALL = {"app", "testing"}
"""Packages that import every package."""
EVERYWHERE = {"", "lazy", "pretrained", "spec", *ALL}
"""Packages that the diagram leaves out: those that all import, and those that import all."""


def diagram() -> str:
    """Return the imports between packages as a Mermaid diagram, without those that follow from others."""
    graph = {room: known - EVERYWHERE for room, known in ROOMS.items() if room not in EVERYWHERE}
    below = {room: set().union(*(graph[other] for other in known)) for room, known in graph.items()}
    arrows = [
        f"    {room} --> {other}" for room, known in graph.items() for other in sorted(known - below[room])
    ]
    alone = [f"    {room}" for room in graph if not any(room in arrow.split() for arrow in arrows)]
    return "\n".join(["flowchart TD", *arrows, *alone, ""])


def undefined(path: Path, names: list[str]) -> list[str]:
    """Return the names, `function` or `Class.method`, that a file does not define."""
    body = ast.parse(path.read_text("utf-8")).body
    functions = (ast.FunctionDef, ast.ClassDef)
    found = {node.name for node in body if isinstance(node, functions)}
    for owner in body:
        if isinstance(owner, ast.ClassDef):
            found |= {f"{owner.name}.{node.name}" for node in owner.body if isinstance(node, functions)}
    return [name for name in names if name not in found]


def test_the_diagram_is_that_of_the_rules() -> None:
    """A new package or a new import that the page does not show is found."""
    blocks = re.findall(r"```mermaid\n(.*?)```", TEXT, re.DOTALL)
    assert blocks == [diagram()], "python -m tests.test_architecture_doc prints the diagram"


def test_the_table_is_that_of_the_rules() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]*) \|$", TEXT, re.MULTILINE)
    imports = {room: set(re.findall(r"`(\w+)`", known)) for room, known in rows}
    everything = set(ROOMS) - {"", *ALL}
    wanted = {room: ROOMS[room] - {"", "lazy", "pretrained", "spec"} for room in everything}
    assert [imports.pop(room) for room in ALL] == [set(), set()]
    assert set(imports) == everything
    assert imports == wanted


def test_named_functions_exist() -> None:
    """A file or function of the path of a batch that was renamed is found."""
    assert undefined(Path(__file__), ["diagram", "undefined", "nothing"]) == ["nothing"]
    named = re.findall(r"`([\w/.]+\.py)`(?:: ((?:`[\w.]+`(?:, )?)+))?", TEXT)
    assert len(named) > 25
    missing = []
    for file, names in named:
        path = ROOT / file if (ROOT / file).exists() else ROOT / "src" / "kanvision" / file
        assert path.is_file(), file
        missing += [f"{file}: {name}" for name in undefined(path, re.findall(r"`([\w.]+)`", names))]
    assert missing == []


if __name__ == "__main__":
    print(diagram(), end="")
