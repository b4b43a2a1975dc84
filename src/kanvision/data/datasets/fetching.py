"""Archives from elsewhere are unpacked below the folder that is meant, and hold files and folders only."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["unpacking_safely"]


@contextmanager
def unpacking_safely() -> Iterator[None]:
    """Let `tarfile` refuse members that lead out of the folder, links that do, and devices (PEP 706).

    Python does so by itself from 3.14 on; torchvision leaves it to Python. What is fetched is compared with
    a checksum before it is unpacked, too; zip archives are never written outside their folder.

    Raises:
        tarfile.FilterError: In the block, at the first such member.
    """
    kind: Any = tarfile.TarFile
    before = kind.__dict__.get("extraction_filter")
    kind.extraction_filter = staticmethod(tarfile.data_filter)
    try:
        yield
    finally:
        if before is None:
            del kind.extraction_filter
        else:
            kind.extraction_filter = before
