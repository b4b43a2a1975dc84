"""Masks of colors or of numbers that count no classes, named by a palette."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kanvision.data.files.palette import Palette, load_palette
from tests.data.fake_masks import save, scan
from tests.data.reading_masks import masks, refusal

FREE = {"num_classes": None, "mean": None, "std": None, "mode": "multiclass"}
COLORS = {"#000000": "background", "0xFF0000": "road", "#00ff00": "field", "#404040": "road"}
LABELS = np.array([[0, 1, 2, 1], [2, 2, 0, 0]]).repeat(6, 0).repeat(6, 1)
SHOWN = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0), (64, 64, 64)], np.uint8)
STORED = np.array([[0, 1, 2, 3], [2, 2, 0, 0]]).repeat(6, 0).repeat(6, 1)


def pairs(root: Path, write, num: int = 6) -> Path:
    (root / "masks").mkdir(parents=True)
    for i in range(num):
        save(root / "images" / f"{i}.png", scan(i, LABELS.shape[::-1]))
        write(root / "masks" / f"{i}.png")
    return root


def rgb(path: Path) -> None:
    Image.fromarray(SHOWN[STORED]).save(path)


def palette_picture(path: Path) -> None:
    """Indices in another order than the classes."""
    picture = Image.fromarray((3 - STORED).astype(np.uint8))
    picture.putpalette(SHOWN[::-1].tobytes())
    picture.save(path)


@pytest.mark.parametrize("write", [rgb, palette_picture])
def test_colors_become_the_classes_that_they_name(tmp_path: Path, write):
    data = masks("segmentation_folder", pairs(tmp_path, write), **FREE, palette=COLORS)
    data.setup()
    assert data.class_names == ("background", "road", "field")
    assert torch.equal(data.datasets["train"].source[0]["mask"], torch.from_numpy(LABELS))
    assert data.colors == ((0, 0, 0), (255, 0, 0), (0, 255, 0))
    assert "#000000 background (37.5%), #00ff00 field (37.5%)" in data.facts["masks"]


def test_a_binary_palette_merges_what_has_one_name(tmp_path: Path):
    both = {**COLORS, "#00ff00": "road"}
    data = masks("segmentation_folder", pairs(tmp_path, rgb), **{**FREE, "mode": "binary"}, palette=both)
    data.setup()
    assert torch.equal(data.datasets["train"].source[0]["mask"], torch.from_numpy((LABELS > 0).astype(int)))
    assert data.class_names == ("background", "road")
    assert "names 3 classes; data.mode=binary has two" in refusal(
        "segmentation_folder", tmp_path, **{**FREE, "mode": "binary"}, palette=COLORS
    )


def test_unknown_colors_are_refused_by_file_and_color(tmp_path: Path):
    pairs(tmp_path, rgb)
    few = {key: name for key, name in COLORS.items() if key != "#404040"}
    message = refusal("segmentation_folder", tmp_path, **FREE, palette=few)
    assert (
        f"{tmp_path / 'masks' / '0.png'}: holds the color #404040 in 36 pixels, which data.palette" in message
    )
    assert "data.num_classes=5, but the data have 3 classes" in refusal(
        "segmentation_folder", tmp_path, **{**FREE, "num_classes": 5}, palette=COLORS
    )


def test_a_color_can_be_left_out(tmp_path: Path):
    pairs(tmp_path, rgb)
    ignoring = {**COLORS, "#404040": "ignore"}
    message = refusal("segmentation_folder", tmp_path, **FREE, palette=ignoring)
    assert "data.ignore_index=null; set one that no class has, such as 255" in message
    data = masks("segmentation_folder", tmp_path, **FREE, palette=ignoring, ignore_index=255)
    data.setup()
    expected = np.where(STORED == 3, 255, LABELS)
    assert torch.equal(data.datasets["train"].source[0]["mask"], torch.from_numpy(expected))
    assert data.num_classes == 3


@pytest.mark.parametrize("keys", [("0", "85", "300", "4012"), ("-1", "0", "7", "9")])
def test_numbers_that_count_no_classes_are_named(tmp_path: Path, keys: tuple[str, ...]):
    def write(path: Path) -> None:
        np.save(path.with_suffix(".npy"), np.array([int(key) for key in keys])[STORED])

    named = dict(zip(keys, ("background", "a", "b", "a"), strict=True))
    data = masks("segmentation_folder", pairs(tmp_path, write), **FREE, palette=named)
    data.setup()
    assert torch.equal(data.datasets["train"].source[0]["mask"], torch.from_numpy(LABELS))
    assert data.colors == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.yaml", '"#000000": background\n"0xff0000": road\n"#00ff00": field\n"#404040": road\n'),
        ("p.csv", "Color,Name\n#000000,background\n#ff0000,road\n#00ff00,field\n#404040,road\n"),
        ("p.csv", "name,r,g,b\nbackground,0,0,0\nroad, 255,0,0\nfield,0,255,0\nroad,64,64,64\n"),
    ],
)
def test_palettes_in_files_are_those_typed(tmp_path: Path, name: str, text: str):
    path = tmp_path / name
    path.write_text(text)
    assert load_palette(str(path)).labels == load_palette(COLORS).labels


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"red": "a", "0": "b"}, "red is neither a color nor a number; legal: #rrggbb"),
        ({"#ff0000": "a", "7": "b"}, "mixes colors and numbers"),
        ({"#ff0000": "a", "0xff0000": "b"}, "0xff0000 is given twice"),
        ({"#ff0000": "a", "#00ff00": "a", "#0000ff": "ignore"}, "names 1 classes; give at least two"),
        ({"16711680": "a", "0": "b"}, "16711680 is not a 16-bit number; a color must be quoted"),
        ("nowhere.csv", "data.palette=nowhere.csv: No such file"),
        ("p.txt", "is not a table; legal: a .csv, .yaml or .yml file"),
        ("broken.csv", "line 3 has r, g, b = 0, 300, 0; legal: 0 to 255"),
        ("twice.csv", "line 3 gives #000000 a second time"),
        ("list.yaml", "must map each color or number to the name of its class"),
    ],
)
def test_palettes_that_name_nothing_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given, words: str
):
    monkeypatch.chdir(tmp_path)
    Path("broken.csv").write_text("name,r,g,b\na,0,0,0\nb,0,300,0\n")
    Path("twice.csv").write_text("name,color\na,#000000\nb,#000000\n")
    Path("list.yaml").write_text("- a\n- b\n")
    with pytest.raises(ValueError, match=r"^data\.palette") as caught:
        load_palette(given)
    assert words in str(caught.value)


def test_a_palette_keeps_the_order_in_which_classes_are_named():
    palette = Palette.parse({"#ffffff": "sky", "#000000": "ground", "#0000ff": "sky"})
    assert palette.names == ("sky", "ground")
    assert palette.colors == ((255, 255, 255), (0, 0, 0))
