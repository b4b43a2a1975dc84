"""Prints the requirements of pyproject.toml, each at its lowest version: `.ci/run lowest` tests with them."""

import re
from pathlib import Path

import tomllib

project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
extras = project["optional-dependencies"]
for line in [*project["dependencies"], *(line for name in ("dev", "onnx", "sweep") for line in extras[name])]:
    print(re.sub(r">=([\w.]+).*", r"==\1", line))
