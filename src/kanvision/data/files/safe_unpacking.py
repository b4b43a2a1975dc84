"""Safe unpacking of downloaded archives, which write files and folders below their folder only."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["safe_unpacking"]


@contextmanager
def safe_unpacking() -> Iterator[None]:
    """Make `tarfile` refuse members and links that lead out of the folder, and devices (PEP 706).

    Python does so by default from 3.14 on, and torchvision relies on Python. Releases before 3.10.12 and
    3.11.4 lack the filter (Debian 12 has such a release): there, all links are refused as well. Downloads are
    also compared with a checksum before they are unpacked; zip archives never write outside their folder.

    Raises:
        tarfile.TarError: At the first such member inside the block.
    """
    kind: Any = tarfile.TarFile
    has_filter = hasattr(tarfile, "data_filter")
    name = "extraction_filter" if has_filter else "extractall"
    before = getattr(kind, name, None)
    was_there = name in vars(kind)
    setattr(kind, name, staticmethod(tarfile.data_filter) if has_filter else _with_checks(kind.extractall))
    try:
        yield
    finally:
        if was_there:
            setattr(kind, name, before)
        else:
            delattr(kind, name)


def _with_checks(extractall: Any) -> Any:
    """Return an `extractall` that checks all members before it writes the first one."""

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
