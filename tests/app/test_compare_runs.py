"""Report of a folder with classification, segmentation, a failed and an unfinished run."""

import csv
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kanvision.app.compare_runs import report
from kanvision.config import ConfigError, ReportConfig, compose, parse_eval
from kanvision.sweep.runs import write_failure
from tests.sweep.folders import make_run

CONF = Path(__file__).resolve().parents[2] / "conf"
VOID = {"meta", "img", "br"}


class Tags(HTMLParser):
    """Parser that checks that all elements are closed in order, and collects addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "p":
            while self.open[-1] == "p":
                self.open.pop()
            assert self.open.pop() == tag
        else:
            self.open.remove("p")


def make_folder(root: Path) -> Path:
    for basis, scores in (("gram", (0.91, 0.94, 0.95)), ("rbf", (0.90, 0.90, 0.94))):
        for seed, score in enumerate(scores):
            run = make_run(
                root / f"{basis}{seed}", f"basis={basis}", "data=digits", seed=seed, acc1=score, loss=1.0
            )
            (run / "csv").mkdir()
            rows = [f"{epoch},{0.5 + epoch / 10},{1 / (epoch + 1)}" for epoch in range(3)]
            (run / "csv" / "metrics.csv").write_text("\n".join(["epoch,val/acc1,train/loss", *rows]))
    write_failure(make_run(root / "broken", "basis=relu", "data=digits"), "RuntimeError: <no> memory")
    make_run(root / "begun", "basis=sine", "data=digits")
    card = {"experiment": "kat/imagenet_tiny"}
    make_run(root / "masks", "model=ukan", "data=busi", monitor="val/iou", iou=0.6, choices=card)
    return root


def config(*words: str) -> ReportConfig:
    found = parse_eval(compose("report", list(words), CONF))
    assert isinstance(found, ReportConfig)
    return found


def test_the_page_has_everything_and_opens_offline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches tasks in one table, unfinished runs among the failed ones, and files that a page refers to."""
    folder = make_folder(tmp_path / "runs")
    numbers = report(config(f"input={folder}", f"output={tmp_path / 'report'}"))
    assert numbers["test/acc1/basis=gram"] == pytest.approx(0.9333, abs=1e-4)
    page = (tmp_path / "report" / "index.html").read_text("utf-8")
    tags = Tags()
    tags.feed(page)
    assert [tag for tag in tags.open if tag != "p"] == []
    own = {path.name for path in (tmp_path / "report").iterdir()}
    assert all(address.startswith("data:image/png;base64,") or address in own for address in tags.addresses)
    assert 'name="viewport"' in page
    assert "&lt;no&gt; memory" in page
    assert "8 runs in 4 settings, compared by test/acc1, 1 failed, 1 not finished." in page
    assert "1 runs in 1 settings, compared by test/iou." in page
    with (tmp_path / "report" / "missing_1.csv").open(newline="", encoding="utf-8") as file:
        assert {row["run"]: row["state"] for row in csv.DictReader(file)} == {
            "broken": "failed",
            "begun": "not finished",
        }
    with (tmp_path / "report" / "results_1.csv").open(newline="", encoding="utf-8") as file:
        first = next(iter(csv.DictReader(file)))
    assert float(first["test/acc1 low"]) == pytest.approx(0.93333 - 4.302653 * 0.0208167 / 3**0.5, abs=1e-4)
    assert "1 of 8 runs failed, 1 not finished" in capsys.readouterr().out
    text = (tmp_path / "report" / "report.md").read_text("utf-8")
    assert "## Paired tests of test/acc1" in text
    with (tmp_path / "report" / "report.csv").open(newline="", encoding="utf-8") as file:
        assert [(row["failed"], row["unfinished"]) for row in csv.DictReader(file)].count(("1", "0")) == 1


def test_published_numbers_of_the_card_stand_beside_ours(tmp_path: Path) -> None:
    """Catches a number of another metric, and one in percent beside fractions."""
    choices = {"experiment": "kat/imagenet_tiny"}
    for seed in (1, 2):
        make_run(tmp_path / str(seed), "model=kat", seed=seed, acc1=0.74, choices=choices)
    report(config(f"input=[{tmp_path / '1'},{tmp_path / '2'}]", f"output={tmp_path / 'report'}"))
    with (tmp_path / "report" / "results.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert float(row["published"]) == pytest.approx(0.746)
    assert "2409.10594" in row["protocol of the published number"]


def test_missing_folders_are_named_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)nowhere.*neither"):
        report(config(f"input=[{tmp_path / 'nowhere'},{tmp_path / 'neither'}]"))
