"""Which files are to be predicted, and what is wrong with them: all of it before anything is predicted."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from kanvision.data.errors import DataError
from kanvision.data.files.folders import image_endings, list_images, mask_data_files, subfolders
from kanvision.data.files.pixels import TIFF, FileError

from .files import BLOCK
from .raster import Bands, Scene, open_scene

__all__ = [
    "Inputs",
    "find_inputs",
    "output_file",
    "overwriting_problems",
    "refuse",
    "twin_problems",
    "unusable_scenes",
]

MASK = re.compile(r"(?P<name>.+)(_mask(_\d+)?|_anno)")
"""Name of a mask that lies beside its image, in BUSI and GlaS."""


class Inputs(NamedTuple):
    """Images to predict."""

    root: Path
    """The folder that names begin at."""
    names: tuple[Path, ...]
    """Files below it, sorted."""
    left: tuple[Path, ...]
    """Other files, which are no images."""
    masks: tuple[Path, ...] = ()
    """Images that are masks of others by their names."""

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return [self.root / name for name in self.names]


def find_inputs(source: Path, *, classes: bool, mask_suffix: str = "") -> Inputs:
    """The image files that `input` names.

    Args:
        source: A file, or a folder: the images in it.
        classes: Look in folders inside it too; arrays (.npy) are no images then, and masks are.
        mask_suffix: What the name of a mask has behind that of its image.

    Raises:
        DataError: If there is none, or a link leads in a circle.
    """
    if source.is_file():
        return Inputs(source.parent, (Path(source.name),), ())
    if not source.is_dir():
        refuse([f"input={source}: there is no such file or folder"])
    if classes:
        listing = list_images(source)
        refuse(listing.problems)
        found, masks = [Path(path) for path in listing.files], set[Path]()
    else:
        found = mask_data_files(source)
        masks = _masks(found, mask_suffix)
        found = [path for path in found if path not in masks]
    if not found:
        inside = subfolders(source)
        hint = f"; it has the folders {', '.join(inside[:5])}: give one of them" if inside else ""
        refuse([f"input={source}: the folder holds no image{hint}"])
    kept = {*found, *masks}
    others = source.rglob("*") if classes else source.iterdir()
    left = (path for path in others if path.is_file() and path not in kept and not path.name.startswith("."))
    return Inputs(
        source, *(tuple(sorted(p.relative_to(source) for p in paths)) for paths in (found, left, masks))
    )


def _masks(paths: Sequence[Path], suffix: str) -> set[Path]:
    """Those whose name is that of another one with the end of a mask's name."""
    names = {path.stem for path in paths}
    found = set()
    for path in paths:
        match = MASK.fullmatch(path.stem)
        of_image = path.stem.removesuffix(suffix) if suffix else path.stem
        if (match and match["name"] in names) or (of_image != path.stem and of_image in names):
            found.add(path)
    return found


def output_file(
    output: str | None, num_images: int, *, classes: bool, multilabel: bool = False
) -> Path | None:
    """The file that `output` names; None if it names a folder.

    Args:
        output: Key of the configuration.
        num_images: Images to predict.
        classes: Whether they get classes, in a table, and not masks.
        multilabel: Whether a pixel has several labels.

    Raises:
        DataError: If it names a file that cannot hold the results.
    """
    path = Path(output or "").expanduser()
    ending = path.suffix.lower()
    if output is None or path.is_dir() or ending not in {*image_endings(), ".npy", ".csv"}:
        return None
    legal = (".csv",) if classes else TIFF if multilabel else (*TIFF, ".png")
    problems = []
    if ending not in legal:
        what = (
            "classes are" if classes else "masks of several labels a pixel are" if multilabel else "masks are"
        )
        problems.append(
            f"output={output}: {what} written as {' or '.join(legal)}; give such a file, or a folder"
        )
    elif num_images > 1 and not classes:
        problems.append(f"output={output}: is one file, but there are {num_images} images; give a folder")
    refuse(problems)
    return path


def unusable_scenes(
    paths: Iterable[Path],
    bands: Bands,
    look: Callable[[Scene], object] = lambda scene: None,
    advance: Callable[[int], object] = lambda count: None,
) -> list[str]:
    """Complaints about files that cannot be read to the end, or whose bands do not fit.

    Args:
        paths: The files.
        bands: How their values are used.
        look: Is given each image that is usable, open.
        advance: Is told how many more files are done.
    """
    problems = []
    for path in paths:
        try:
            with open_scene(path, bands) as scene:
                for top, strip in scene.strips(BLOCK):
                    if not top:
                        bands.unit(strip, path)  # which types it takes
                look(scene)
        except FileError as error:
            problems.append(str(error))
        advance(1)
    return problems


def twin_problems(inputs: Inputs) -> list[str]:
    """Complaints about images whose results would have the same names."""
    twins = defaultdict(list)
    for name in inputs.names:
        twins[name.with_suffix("")].append(name)
    return [
        f"{inputs.root / names[0]}: has the name of {', '.join(name.name for name in names[1:])}; "
        "their results would replace each other: rename one"
        for names in twins.values()
        if len(names) > 1
    ]


def overwriting_problems(files: Iterable[Path], inputs: Inputs, overwrite: bool) -> list[str]:
    """Complaints about results that exist already, or would replace what is predicted."""
    files = list(files)
    images = {path.resolve() for path in inputs.paths}
    if clash := [path for path in files if path.resolve() in images]:
        return [f"{clash[0]}: is an image to predict, and its result would replace it; choose another output"]
    there = [] if overwrite else [path for path in files if path.exists()]
    if not there:
        return []
    more = f" and {len(there) - 1} more" if len(there) > 1 else ""
    return [f"{there[0]}{more}: exists; predict.overwrite=true replaces it, or choose another output"]


def refuse(problems: Sequence[str], most: int = 50) -> None:
    """Raise one error for all problems, if there are any.

    Raises:
        DataError: There are some.
    """
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        listed = [f"  - {problem}" for problem in problems[:most]]
        listed += [f"  - and {len(problems) - most} more"] if len(problems) > most else []
        raise DataError("\n".join([f"nothing was predicted: {count}", *listed]))
