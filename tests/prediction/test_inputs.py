"""Which files are predicted, and everything that is wrong with them at once."""

from pathlib import Path

import numpy as np
import pytest

from kanvision.data.errors import DataError
from kanvision.data.transforms.normalize import Preprocessing
from kanvision.prediction import (
    Bands,
    find_inputs,
    find_name_clashes,
    find_overwritten_files,
    find_unusable_scenes,
    raise_problems,
    resolve_output_file,
)
from tests.data.fake_masks import geotiff, save, scan

BANDS = Bands(3, Preprocessing([0.5] * 3, [0.5] * 3))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "in" / "b.PNG", scan(1))
    save(tmp_path / "in" / "a.jpg", scan(2))
    save(tmp_path / "in" / "deep" / "c.bmp", scan(3))
    geotiff(tmp_path / "in" / "d.tif", scan(4).transpose(2, 0, 1))
    np.save(tmp_path / "in" / "e.npy", scan(5))
    (tmp_path / "in" / "notes.txt").write_text("hello")
    (tmp_path / "in" / ".hidden.png").write_text("hello")
    return tmp_path / "in"


def test_a_folder_gives_its_images_and_says_what_it_leaves_out(folder: Path) -> None:
    inputs = find_inputs(folder, classes=False)
    assert list(map(str, inputs.names)) == ["a.jpg", "b.PNG", "d.tif", "e.npy"]
    assert list(map(str, inputs.others)) == ["notes.txt"]
    assert all(path.is_file() for path in inputs.paths)
    inputs = find_inputs(folder, classes=True)
    assert [name.as_posix() for name in inputs.names] == ["a.jpg", "b.PNG", "d.tif", "deep/c.bmp"]
    assert list(map(str, inputs.others)) == ["e.npy", "notes.txt"]
    assert find_inputs(folder / "a.jpg", classes=False).paths == [folder / "a.jpg"]


def test_a_place_without_images_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        find_inputs(folder / "nowhere", classes=False)
    (folder.parent / "x" / "images").mkdir(parents=True)
    with pytest.raises(DataError, match=r"holds no image; it has the folders images: choose one of them"):
        find_inputs(folder.parent / "x", classes=False)


def test_every_file_that_cannot_be_used_is_named_and_the_sound_ones_are_shown(folder: Path) -> None:
    (folder / "f.tif").write_text("no tiff")
    (folder / "g.png").write_bytes((folder / "b.PNG").read_bytes()[:200])
    np.save(folder / "h.npy", np.zeros((5, 20, 20)))
    inputs, seen, done = find_inputs(folder, classes=False), [], []
    problems = find_unusable_scenes(
        inputs.paths, BANDS, lambda scene: seen.append(scene.path.name), done.append
    )
    assert [Path(problem.split(":")[0]).name for problem in problems] == ["f.tif", "g.png", "h.npy"]
    assert "has 5 bands" in problems[2]
    assert seen == ["a.jpg", "b.PNG", "d.tif", "e.npy"]
    assert sum(done) == 7
    with pytest.raises(DataError, match="3 problems") as refused:
        raise_problems(problems)
    assert all(problem in str(refused.value) for problem in problems)
    raise_problems([])


def test_results_never_replace_each_other_nor_what_is_there(folder: Path) -> None:
    save(folder / "b.jpg", scan(1))
    inputs = find_inputs(folder, classes=False)
    (problem,) = find_name_clashes(inputs)
    assert "b.PNG" in problem
    assert "b.jpg" in problem
    there, new = folder.parent / "there.csv", folder.parent / "new.csv"
    there.touch()
    assert find_overwritten_files([new], inputs, False) == []
    (problem,) = find_overwritten_files([new, there, there], inputs, False)
    assert "there.csv and 1 more: exists; predict.overwrite=true" in problem
    assert find_overwritten_files([new, there], inputs, True) == []
    (problem,) = find_overwritten_files([folder / "a.jpg"], inputs, True)
    assert "is an image to predict" in problem


def test_masks_beside_their_images_are_told_apart_by_their_names(tmp_path: Path) -> None:
    names = ["benign (1)", "benign (1)_mask", "benign (1)_mask_1", "alone_mask", "a", "a_anno", "b", "b_gt"]
    for name in names:
        save(tmp_path / f"{name}.png", scan(1))
    inputs = find_inputs(tmp_path, classes=False, mask_suffix="_gt")
    assert [name.stem for name in inputs.names] == ["a", "alone_mask", "b", "benign (1)"]
    assert [name.stem for name in inputs.masks] == ["a_anno", "b_gt", "benign (1)_mask", "benign (1)_mask_1"]
    assert inputs.others == ()
    assert len(find_inputs(tmp_path, classes=True).names) == len(names)
    assert find_inputs(tmp_path / "a_anno.png", classes=False).names == (Path("a_anno.png"),)


@pytest.mark.parametrize("name", ["mask.tif", "mask.TIFF", "mask.png", "deep/mask.tif"])
def test_a_name_of_a_file_is_a_file_for_one_image(name: str, tmp_path: Path) -> None:
    assert resolve_output_file(f"{tmp_path}/{name}", 1, classes=False) == tmp_path / name


def test_other_names_are_folders(tmp_path: Path) -> None:
    (tmp_path / "there.tif").mkdir()
    for output in (None, "out", "out.v2", str(tmp_path / "there.tif")):
        assert resolve_output_file(output, 1, classes=False) is None
    assert resolve_output_file("classes.csv", 9, classes=True) == Path("classes.csv")


@pytest.mark.parametrize(
    ("output", "options", "words"),
    [
        (
            "mask.tif",
            {"num_images": 3},
            "output=mask.tif: is one file, but there are 3 images; choose a folder",
        ),
        ("mask.jpg", {}, "output=mask.jpg: masks are written as .tif or .tiff or .png; choose such a file"),
        ("mask.npy", {}, "masks are written as"),
        ("table.csv", {}, "masks are written as"),
        ("mask.png", {"multilabel": True}, "masks of several labels a pixel are written as .tif or .tiff"),
        ("mask.tif", {"classes": True}, "output=mask.tif: classes are written as .csv; choose such a file"),
    ],
)
def test_a_file_that_cannot_hold_the_results_is_refused(output: str, options: dict, words: str) -> None:
    with pytest.raises(DataError) as refused:
        resolve_output_file(output, **{"num_images": 1, "classes": False} | options)
    assert words in str(refused.value)
