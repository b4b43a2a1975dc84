"""Findings as files, and the pages that show them."""

import csv
import json

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from kanvision.analysis.html_page import PAGE, SUMMARY, write_index, write_page
from kanvision.analysis.results import AnalysisResult, Picture, ResultTable


def analysis_result() -> AnalysisResult:
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1], [1, 3])
    rows = [["a<b", 1, 0.123456789, None], ["c", 2, 1e-9, float("nan")]]
    return AnalysisResult(
        sentences=["Two & two are <4>."],
        limits=["It is a line."],
        pictures=[Picture("line", figure, "A line.")],
        tables=[
            ResultTable("all", ["name", "n", "x", "y"], rows, "Rows.", 1),
            ResultTable("hidden", ["z"], [[1]], "", 0),
        ],
        arrays={"a/b": np.arange(3)},
    )


def test_files_hold_what_was_found_and_are_the_same_each_time(tmp_path):
    analysis_result().write(tmp_path / "one")
    analysis_result().write(tmp_path / "two")
    names = ["all.csv", "data.npz", "hidden.csv", "line.png", "line.svg"]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names
    for name in ("all.csv", "line.svg", "line.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    with (tmp_path / "one" / "all.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["name", "n", "x", "y"],
            ["a<b", "1", "0.1234568", ""],
            ["c", "2", "1e-09", "nan"],
        ]
    assert np.load(tmp_path / "one" / "data.npz")["a/b"].tolist() == [0, 1, 2]
    assert np.asarray(Image.open(tmp_path / "one" / "line.png")).std() > 5


def test_a_page_stands_alone_and_the_index_leads_to_it(tmp_path):
    folder = tmp_path / "some"
    analysis_result().write(folder)
    page = write_page(
        folder,
        "some: a <net>",
        {"checkpoint": "x & y", "options": {"k": 1, "heads": None}},
        analysis_result(),
    )
    text = page.read_text()
    assert page == folder / PAGE
    assert "<h1>some: a &lt;net&gt;</h1>" in text
    assert "Two &amp; two are &lt;4&gt;." in text
    assert text.count("data:image/png;base64,") == 1
    assert "a&lt;b" in text
    assert "<td>c</td>" not in text  # of two rows one is shown
    assert "2 rows, the first 1 here" in text
    assert "hidden.csv" in text
    assert "<td>options</td><td>k=1, heads=null</td>" in text
    summary = {"title": "some: a <net>", "sentences": ["S."], "pictures": ["line"], "checkpoint": "x"}
    (folder / SUMMARY).write_text(json.dumps(summary))
    index = write_index(tmp_path).read_text()
    assert '<a href="some/index.html">some: a &lt;net&gt;</a>' in index
    assert '<img src="some/line.png"' in index
