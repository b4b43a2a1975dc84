"""Weights that ship with the package; nothing here imports torch.

Each is a folder of `weights/` in the layout of the Hugging Face hub: model.safetensors in half precision,
config.json and README.md, the model card. Its name is that of a registered model with a tag, as in timm.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["CONFIG", "WEIGHTS", "PretrainedWeights", "find_pretrained", "list_pretrained"]

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
FOLDER = Path(__file__).parent / "weights"


class PretrainedWeights(NamedTuple):
    """Weights of a registered model.

    Attributes:
        name: Name of the model with its tag.
        folder: Folder of the files.
        config: Content of config.json.
    """

    name: str
    folder: Path
    config: dict[str, Any]

    @property
    def file(self) -> Path:
        """File of the weights."""
        return self.folder / WEIGHTS

    @property
    def tag(self) -> str:
        """Part of the name behind that of the model."""
        return self.name.partition(".")[2]

    def check(self) -> None:
        """Compare the file with its checksum; ValueError if it is missing, changed or damaged."""
        wanted = self.config["sha256"]
        found = hashlib.sha256(self.file.read_bytes()).hexdigest() if self.file.is_file() else "no file"
        if found != wanted:
            raise ValueError(f"{self.file}: sha256 is {found}, not {wanted}; install kanvision again")


@cache
def list_pretrained() -> tuple[str, ...]:
    """Return the names of the models with weights in the package, sorted."""
    return tuple(sorted(path.parent.name for path in FOLDER.glob(f"*/{CONFIG}")))


@cache
def find_pretrained(name: str) -> PretrainedWeights:
    """Return the weights of a name of `list_pretrained`; ValueError if there are none."""
    if name not in list_pretrained():
        near = difflib.get_close_matches(name, list_pretrained(), n=3)
        legal = ", ".join(near or list_pretrained())
        raise ValueError(f"{name}: no weights of this name are in the package; legal: {legal}")
    folder = FOLDER / name
    return PretrainedWeights(name, folder, json.loads((folder / CONFIG).read_text("utf-8")))
