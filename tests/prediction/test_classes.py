"""The table of classes: what the network says of each picture, best first."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from kanvision.data.transforms.classification import ImageSpec, build_evaluation_transform
from kanvision.prediction import find_inputs, find_unusable_pictures, predict_classes
from tests.data.fake_masks import save, scan

NAMES = ("ant", "bee", "cat, large", "dog", "eel", "fox")


def network(images: torch.Tensor) -> torch.Tensor:
    return (images.mean(dim=(2, 3)) @ torch.linspace(-2, 2, 18).reshape(3, 6)).softmax(dim=1)


@pytest.mark.parametrize(("names", "most"), [(NAMES, 5), (NAMES[:2], 2)])
def test_rows_hold_the_best_classes_in_order(names: tuple[str, ...], most: int, tmp_path: Path) -> None:
    for index in range(7):
        save(tmp_path / "in" / f"{index % 2}" / f"{index}.png", scan(index, (20 + index, 24)))
    inputs, done = find_inputs(tmp_path / "in", classes=True), []
    transform = build_evaluation_transform(ImageSpec(16, 3, [0.4] * 3, [0.2] * 3))
    answer = lambda images: network(images)[:, : len(names)]  # noqa: E731
    table = tmp_path / "new" / "table.csv"
    counts = predict_classes(inputs, table, answer, transform, names, 3, advance=done.append)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [name.as_posix() for name in inputs.names]
    assert sum(done) == 7
    from PIL import Image

    for row, path in zip(rows, inputs.paths, strict=True):
        (values,) = answer(transform([Image.open(path)])).numpy()
        order = np.argsort(-values)[:most]
        heads = [("class", "probability"), *((f"class_{i}", f"probability_{i}") for i in range(2, most + 1))]
        assert [row[name] for name, _ in heads] == [names[class_index] for class_index in order]
        np.testing.assert_allclose([float(row[value]) for _, value in heads], values[order], atol=1e-6)
    assert f"class_{most + 1}" not in rows[0]
    assert sum(counts.values()) == 7
    assert counts == {name: sum(row["class"] == name for row in rows) for name in counts}


def test_a_picture_without_numbers_has_no_class(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.png", scan(1))
    inputs = find_inputs(tmp_path / "in", classes=True)
    transform = build_evaluation_transform(ImageSpec(16, 3, [0.4] * 3, [0.2] * 3))
    broken = lambda images: network(images) * torch.nan  # noqa: E731
    counts = predict_classes(inputs, tmp_path / "t.csv", broken, transform, NAMES, 3)
    assert counts == {"": 1}
    assert (tmp_path / "t.csv").read_text().splitlines()[1] == "a.png" + "," * 10


def test_pictures_that_cannot_be_read_are_all_named(tmp_path: Path) -> None:
    good = save(tmp_path / "a.png", scan(1))
    bad = [tmp_path / "b.png", tmp_path / "c.jpg"]
    for path in bad:
        path.write_bytes(good.read_bytes()[:150])
    problems = find_unusable_pictures([good, *bad])
    assert len(problems) == 2
    assert all(str(path) in problem for path, problem in zip(bad, problems, strict=True))
