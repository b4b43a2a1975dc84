"""Which files are to be predicted, and what is wrong with them: all of it before anything is predicted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from kanvision.data.datasets.folders import image_files, mask_data_files, subfolders
from kanvision.data.datasets.pixels import FileError
from kanvision.data.errors import DataError

from .files import BLOCK
from .scenes import Bands, Scene, open_scene

__all__ = ["Inputs", "find_inputs", "overwriting_problems", "refuse", "twin_problems", "unusable_scenes"]


class Inputs(NamedTuple):
    """Images to predict."""

    root: Path
    """The folder that names begin at."""
    names: tuple[Path, ...]
    """Files below it, sorted."""
    left: tuple[Path, ...]
    """Other files, which are no images."""

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return [self.root / name for name in self.names]


def find_inputs(place: Path, *, classes: bool) -> Inputs:
    """The image files that `input` names.

    Args:
        place: A file, or a folder: the images in it.
        classes: Look in folders inside it too; arrays (.npy) are no images then.

    Raises:
        DataError: If there is none.
    """
    if place.is_file():
        return Inputs(place.parent, (Path(place.name),), ())
    if not place.is_dir():
        refuse([f"input={place}: there is no such file or folder"])
    found = [Path(path) for path in image_files(place)] if classes else mask_data_files(place)
    if not found:
        inside = subfolders(place)
        hint = f"; it has the folders {', '.join(inside[:5])}: give one of them" if inside else ""
        refuse([f"input={place}: the folder holds no image{hint}"])
    kept = set(found)
    others = place.rglob("*") if classes else place.iterdir()
    left = sorted(p for p in others if p.is_file() and p not in kept and not p.name.startswith("."))
    names = sorted(path.relative_to(place) for path in found)
    return Inputs(place, tuple(names), tuple(path.relative_to(place) for path in left))


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
