"""Archives from elsewhere are unpacked below the folder that is meant, and hold files and folders only."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["unpacking_safely"]


@contextmanager
def unpacking_safely() -> Iterator[None]:
    """Let `tarfile` refuse members that lead out of the folder, links that do, and devices (PEP 706).

    Python does so by itself from 3.14 on; torchvision leaves it to Python. Releases before 3.10.12 and 3.11.4
    know nothing of it (Debian 12 has one): there, all links are refused as well. What is fetched is compared
    with a checksum before it is unpacked, too; zip archives are never written outside their folder.

    Raises:
        tarfile.TarError: In the block, at the first such member.
    """
    kind: Any = tarfile.TarFile
    knows = hasattr(tarfile, "data_filter")
    name = "extraction_filter" if knows else "extractall"
    before = getattr(kind, name, None)
    was_there = name in vars(kind)
    setattr(kind, name, staticmethod(tarfile.data_filter) if knows else _checked(kind.extractall))
    try:
        yield
    finally:
        if was_there:
            setattr(kind, name, before)
        else:
            delattr(kind, name)


def _checked(extractall: Any) -> Any:
    """`extractall`, which looks at all members before it writes the first one."""

    def extract(archive: tarfile.TarFile, path: Any = ".", *args: Any, **options: Any) -> None:
        folder = os.path.realpath(path)
        for member in archive.getmembers():
            target = os.path.realpath(os.path.join(folder, member.name))
            if not (member.isfile() or member.isdir()):
                raise tarfile.ExtractError(f"{member.name!r} is neither a file nor a folder")
            if os.path.commonpath([folder, target]) != folder:
                raise tarfile.ExtractError(f"{member.name!r} would be outside the destination")
        extractall(archive, path, *args, **options)

    return extract
