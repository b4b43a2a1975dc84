"""Lists of the files below a folder, through symbolic links too but never in a circle."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

__all__ = ["Listing", "find_duplicate_links", "list_files", "natural_key"]


class Listing(NamedTuple):
    """Files in a folder.

    Attributes:
        files: Paths; the files of a folder come before those of the folders inside it, both sorted.
        links: Real path of each file that a symbolic link leads to.
        problems: Problems with links that lead in a circle and with folders that cannot be listed.
    """

    files: list[str]
    links: dict[str, str]
    problems: list[str]


def list_files(folder: Path, *, deep: bool = True, inside: Path | None = None) -> Listing:
    """Return the files in a folder, without hidden ones; links to files and folders count as these.

    Args:
        folder: The folder.
        deep: List the folders in it too.
        inside: A folder around it, to which no link may lead either.
    """
    listing = Listing([], {}, [])
    around = () if inside is None else (os.path.realpath(inside),)
    _list(str(folder), around, os.path.islink(folder), listing, deep)
    return listing


def _list(folder: str, around: tuple[str, ...], is_linked: bool, listing: Listing, deep: bool) -> None:
    """Add the contents of a folder to a listing.

    Args:
        folder: The folder.
        around: Real paths of the folders on the way to it.
        is_linked: A link leads to the folder.
        listing: Listing to extend.
        deep: List the folders in it too.
    """
    real = os.path.realpath(folder)
    if any(outer == real or outer.startswith(os.path.join(real, "")) for outer in around):
        listing.problems.append(f"{folder}: is a link to {real}, a folder around it; delete the link")
        return
    try:
        with os.scandir(folder) as entries:
            named = sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
    except OSError as error:
        listing.problems.append(f"{folder}: cannot be listed ({error.strerror}); make it readable")
        return
    inner: list[os.DirEntry[str]] = []
    for entry in named:
        if _is_folder(entry):
            inner.append(entry)
            continue
        listing.files.append(entry.path)
        if is_linked or entry.is_symlink():
            listing.links[entry.path] = os.path.realpath(entry.path)
    for entry in inner if deep else ():
        _list(entry.path, (*around, real), is_linked or entry.is_symlink(), listing, deep)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself is a file that cannot be read
        return False


def find_duplicate_links(paths: Iterable[Path]) -> list[str]:
    """Return the problems with paths that lead to the same file."""
    first: dict[str, Path] = {}
    return [
        f"{path}: is the same file as {other}; delete one of them"
        for path in paths
        if (other := first.setdefault(os.path.realpath(path), path)) != path
    ]


def natural_key(name: str) -> tuple[tuple[int, str], ...]:
    """Return a sort key that orders numbers by value: 2 before 10."""
    digits = ""
    parts: list[tuple[int, str]] = []
    for sign in [*name, ""]:
        if sign.isdecimal():
            digits += sign
            continue
        if digits:
            parts.append((int(digits), ""))
            digits = ""
        parts.append((-1, sign))
    return tuple(parts)
