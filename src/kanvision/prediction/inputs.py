"""Input and output files of a prediction, with checks of all of them before the first prediction."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from kanvision.data.errors import DataError
from kanvision.data.files.folders import (
    list_image_and_array_files,
    list_image_suffixes,
    list_images,
    list_subfolders,
)
from kanvision.data.files.pixels import TIFF, FileError

from .files import BLOCK
from .raster import Bands, Scene, open_scene

__all__ = [
    "Inputs",
    "find_inputs",
    "find_name_clashes",
    "find_overwritten_files",
    "find_unusable_scenes",
    "raise_problems",
    "resolve_output_file",
]

MASK = re.compile(r"(?P<name>.+)(_mask(_\d+)?|_anno)")
"""Name of a mask beside its image, in BUSI and GlaS."""


class Inputs(NamedTuple):
    """Files to predict, and other files beside them."""

    root: Path
    """Folder that names are relative to."""
    names: tuple[Path, ...]
    """Image files, sorted."""
    others: tuple[Path, ...]
    """Other files, which are not images."""
    masks: tuple[Path, ...] = ()
    """Images that are masks of other images by their names."""

    @property
    def paths(self) -> list[Path]:
        """Paths of the images."""
        return [self.root / name for name in self.names]


def find_inputs(path: Path, *, classes: bool, mask_suffix: str = "") -> Inputs:
    """Return the image files of `input`.

    Args:
        path: A file, or a folder of images.
        classes: Predict classes: search folders in the folder too, without arrays (.npy) and with masks.
        mask_suffix: Text between the name of the image and the file suffix in the name of a mask.

    Raises:
        DataError: If there is no image, or a link leads in a circle.
    """
    if path.is_file():
        return Inputs(path.parent, (Path(path.name),), ())
    if not path.is_dir():
        raise_problems([f"input={path}: there is no such file or folder"])
    if classes:
        listing = list_images(path)
        raise_problems(listing.problems)
        found, masks = [Path(file) for file in listing.files], set[Path]()
    else:
        found = list_image_and_array_files(path)
        masks = _find_masks(found, mask_suffix)
        found = [file for file in found if file not in masks]
    if not found:
        inside = list_subfolders(path)
        hint = f"; it has the folders {', '.join(inside[:5])}: choose one of them" if inside else ""
        raise_problems([f"input={path}: the folder holds no image{hint}"])
    kept = {*found, *masks}
    listed = path.rglob("*") if classes else path.iterdir()
    others = (
        file for file in listed if file.is_file() and file not in kept and not file.name.startswith(".")
    )
    return Inputs(
        path, *(tuple(sorted(file.relative_to(path) for file in files)) for files in (found, others, masks))
    )


def _find_masks(paths: Sequence[Path], suffix: str) -> set[Path]:
    """Return the files whose names are those of others with the ending of a mask."""
    names = {path.stem for path in paths}
    found = set()
    for path in paths:
        match = MASK.fullmatch(path.stem)
        of_image = path.stem.removesuffix(suffix) if suffix else path.stem
        if (match and match["name"] in names) or (of_image != path.stem and of_image in names):
            found.add(path)
    return found


def resolve_output_file(
    output: str | None, num_images: int, *, classes: bool, multilabel: bool = False
) -> Path | None:
    """Return the file of `output`; None if it is a folder.

    Args:
        output: Value of the configuration.
        num_images: Number of images to predict.
        classes: Classes are predicted, in a table, not masks.
        multilabel: A pixel may have several labels.

    Raises:
        DataError: If it is a file that cannot hold the results.
    """
    path = Path(output or "").expanduser()
    ending = path.suffix.lower()
    if output is None or path.is_dir() or ending not in {*list_image_suffixes(), ".npy", ".csv"}:
        return None
    legal = (".csv",) if classes else TIFF if multilabel else (*TIFF, ".png")
    problems = []
    if ending not in legal:
        what = (
            "classes are" if classes else "masks of several labels a pixel are" if multilabel else "masks are"
        )
        problems.append(
            f"output={output}: {what} written as {' or '.join(legal)}; choose such a file, or a folder"
        )
    elif num_images > 1 and not classes:
        problems.append(f"output={output}: is one file, but there are {num_images} images; choose a folder")
    raise_problems(problems)
    return path


def find_unusable_scenes(
    paths: Iterable[Path],
    bands: Bands,
    check: Callable[[Scene], object] = lambda scene: None,
    advance: Callable[[int], object] = lambda count: None,
) -> list[str]:
    """Return the problems with files that cannot be read completely or have unsuitable bands.

    Args:
        paths: The files.
        bands: Bands of a file to use and their scaling.
        check: Called with each readable image while it is open.
        advance: Called with the number of files that were finished.
    """
    problems = []
    for path in paths:
        try:
            with open_scene(path, bands) as scene:
                for top, strip in scene.iter_strips(BLOCK):
                    if not top:
                        bands.scale(strip, path)  # checks the data type
                check(scene)
        except FileError as error:
            problems.append(str(error))
        advance(1)
    return problems


def find_name_clashes(inputs: Inputs) -> list[str]:
    """Return the problems with images whose results would have equal names."""
    by_stem = defaultdict(list)
    for name in inputs.names:
        by_stem[name.with_suffix("")].append(name)
    return [
        f"{inputs.root / names[0]}: has the name of {', '.join(name.name for name in names[1:])}; "
        "their results would replace each other: rename one"
        for names in by_stem.values()
        if len(names) > 1
    ]


def find_overwritten_files(files: Iterable[Path], inputs: Inputs, overwrite: bool) -> list[str]:
    """Return the problems with results that exist already or would replace an input."""
    files = list(files)
    images = {path.resolve() for path in inputs.paths}
    if clash := [path for path in files if path.resolve() in images]:
        return [f"{clash[0]}: is an image to predict, and its result would replace it; choose another output"]
    existing = [] if overwrite else [path for path in files if path.exists()]
    if not existing:
        return []
    more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
    return [f"{existing[0]}{more}: exists; predict.overwrite=true replaces it, or choose another output"]


def raise_problems(problems: Sequence[str], max_listed: int = 50) -> None:
    """Raise one error for all problems, if there are any.

    Raises:
        DataError: If there are problems.
    """
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        listed = [f"  - {problem}" for problem in problems[:max_listed]]
        listed += [f"  - and {len(problems) - max_listed} more"] if len(problems) > max_listed else []
        raise DataError("\n".join([f"nothing was predicted: {count}", *listed]))
