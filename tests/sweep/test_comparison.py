"""Paired tests of runs that differ in one setting."""

from pathlib import Path

import pytest
from scipy import stats

from kanvision.sweep import read_runs, tables
from kanvision.sweep.comparison import compare_rows, image_scores_file
from kanvision.sweep.runs import read_run

from .folders import make_run

SCORES = {"gram": (0.91, 0.93, 0.95), "rbf": (0.90, 0.90, 0.94), "wavelet": (0.80, 0.86, 0.82)}


def write_images(folder: Path, correct: list[int]) -> None:
    path = image_scores_file(read_run(folder))
    path.parent.mkdir(parents=True)
    rows = [f"{number}.png,{number},{value}" for number, value in enumerate(correct)]
    path.write_text("\n".join(["image,index,correct", *rows]))


def compare(folder: Path):
    (table,) = tables(read_runs(folder))
    return compare_rows(table)


def test_seeds_are_paired_and_adjusted(tmp_path: Path) -> None:
    """Catches unpaired tests, pairs of other seeds, and p-values that are not adjusted for three tests."""
    for basis, scores in SCORES.items():
        for seed, score in enumerate(scores):
            make_run(tmp_path / f"{basis}{seed}", f"basis={basis}", "data=digits", seed=seed, acc1=score)
    make_run(tmp_path / "more", "basis=rbf", "data=digits", seed=7, acc1=0.1)
    found = {
        (each.first.settings["basis"], each.second.settings["basis"]): each for each in compare(tmp_path)
    }
    assert len(found) == 3
    pair = found["gram", "rbf"]
    assert pair.seeds == ("0", "1", "2")
    assert pair.difference == pytest.approx(0.05 / 3)
    assert pair.p_seeds == pytest.approx(stats.ttest_rel(SCORES["gram"], SCORES["rbf"]).pvalue)
    assert pair.p_wilcoxon == 0.25
    assert "smallest possible p-value is 0.25" in pair.note
    assert pair.interval is not None
    assert pair.interval[0] < pair.difference < pair.interval[1]
    adjusted = sorted(each.p_seeds_holm for each in found.values())
    plain = sorted(each.p_seeds for each in found.values())
    assert adjusted[0] == pytest.approx(3 * plain[0])
    assert pair.p_images is None


def test_images_are_paired_by_name(tmp_path: Path) -> None:
    """Catches a comparison of different images, and other data of the same name."""
    first, second = [1] * 9 + [0] + [1] * 20, [0] * 9 + [1] + [1] * 20
    for basis, correct in (("gram", first), ("rbf", second)):
        write_images(make_run(tmp_path / basis, f"basis={basis}", "data=digits", acc1=0.9), correct)
    (pair,) = compare(tmp_path)
    assert (pair.num_images, pair.p_seeds) == (30, None)
    assert pair.difference_images == pytest.approx(8 / 30)
    assert pair.p_images == pair.p_images_holm == pytest.approx(22 / 1024)  # McNemar: 1 against 9
    for number in range(2):
        make_run(tmp_path / "other" / str(number), "basis=rbf", "data=mnist", acc1=0.9)
    assert all(
        each.first.settings.get("data") == each.second.settings.get("data") for each in compare(tmp_path)
    )
