"""Names of users are printed as they are."""

import pytest
from rich.table import Table

from kanvision.console import build_console, print_header, print_results

NAME = "runs/a=b [x] [bold]:cat: ünï,c"


def test_names_are_no_markup(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    console = build_console()
    console.print(NAME)
    table = Table(NAME, title=NAME)
    table.add_row(NAME)
    console.print(table)
    print_header(console, NAME, {"run": NAME})
    print_results(console, NAME, {"test/acc1": 0.5}, {"files": NAME})
    assert capsys.readouterr().out.count(NAME) == 8


def test_a_quiet_console_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    build_console(quiet=True).print(NAME)
    assert capsys.readouterr().out == ""
