"""YAML loader with the values of OmegaConf's, ten times as fast."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML without libyaml reads the same, slower
    from yaml import SafeLoader  # type: ignore[assignment]

__all__ = ["YamlLoader"]

FLOAT, TIMESTAMP = "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp"


class YamlLoader(SafeLoader):
    """Loader that reads 1e-6 as a number and 2026-01-02 as text, and refuses a key that occurs twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping; ConstructorError if it has a key twice."""
        for key, other in pairwise(sorted(str(key.value) for key, _ in node.value)):
            if key == other:
                raise yaml.constructor.ConstructorError(None, None, f"{key} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


YamlLoader.yaml_implicit_resolvers = {
    start: [(tag, pattern) for tag, pattern in resolvers if tag != TIMESTAMP]
    for start, resolvers in SafeLoader.yaml_implicit_resolvers.items()
}
YamlLoader.add_implicit_resolver(
    FLOAT, re.compile(r"[-+]?\d+(_\d+)*(\.[\d_]*)?[eE][-+]?\d+$"), list("-+0123456789")
)
