"""Fingerprints of data sets, by which a resumed run recognizes its images."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import numpy as np

__all__ = ["fingerprint"]


def fingerprint(dataset: Any) -> str:
    """Return a digest of the images of a data set and of their order, equal for a copy in another folder.

    The digest depends on indices, file names and classes, not on the contents of the files.
    """
    digest = hashlib.blake2b(f"{len(dataset)}".encode(), digest_size=16)
    indices = getattr(dataset, "indices", None)
    if indices is None:
        return digest.hexdigest()
    digest.update(np.asarray(indices, np.int64).tobytes())
    source = dataset.source
    if hasattr(source, "targets"):
        digest.update(np.asarray(source.targets[indices], np.int64).tobytes())
    names = getattr(source, "names", None)
    files = getattr(source, "files", names)
    if files is not None:
        for index in indices:
            digest.update(os.path.basename(os.fsencode(files[index])) + b"\0")
    return digest.hexdigest()
