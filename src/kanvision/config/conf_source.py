"""Source of configurations for Hydra: the folder conf/ with its files and tables, and the schema's defaults.

Rows of tables are `experiment/<paper>/<row>`, read on demand; defaults are found at the paths of
`kanvision.config.defaults`, and files as Hydra finds them, read by a faster loader.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from kanvision.plugins import conf_folders

from .defaults import default_nodes
from .experiments import GROUP, find_experiment, list_experiments
from .renames import print_old_names, rename_file
from .yaml_files import YamlLoader, read_bounded_text

__all__ = ["register_conf"]


def register_conf(folders: Sequence[Path]) -> None:
    """Register folders with Hydra, which then composes rows of tables and defaults of the schema like files.

    Processes of a launcher need no call, because the job holds the search path.

    Args:
        folders: conf/ and further folders of the same layout; earlier ones take precedence. Those of plugins
            follow.
    """
    _Folders.folders = [folder.resolve() for folder in folders]
    for plugin in (ConfSource, _Folders):
        Plugins.instance().register(plugin)


class _Folders(SearchPathPlugin):
    """Plugin that puts the folders before those that Hydra reads by itself."""

    folders: Sequence[Path] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in [*self.folders, *conf_folders()]:
            search_path.prepend("conf", f"{ConfSource.scheme()}://{folder}", anchor="main")


class ConfSource(FileConfigSource):
    """Source of files, of rows of tables, and of the defaults of the schema."""

    @staticmethod
    def scheme() -> str:
        return "conf"

    def load_config(self, config_path: str) -> ConfigResult:
        name = _normalize(config_path)
        header: dict[str, str | None] = {"package": None}
        if name in default_nodes():
            content = default_nodes()[name]
        elif experiment := find_experiment([Path(self.path)], _row(name)):
            content, header = experiment.config(), {"package": "_global_"}
        else:
            text = read_bounded_text(Path(self.path, f"{name}.yaml"))
            header = self._get_header_dict(text[:512])
            content = yaml.load(text, YamlLoader) or {}
            if isinstance(content, dict):
                content, old_names = rename_file(content)
                print_old_names(old_names, f" in {name}.yaml")
        return ConfigResult(self.provider, self.full_path(), OmegaConf.create(content), header)

    def is_config(self, config_path: str) -> bool:
        name = _normalize(config_path)
        is_row = "/" in _row(name) and find_experiment([Path(self.path)], _row(name)) is not None
        return name in default_nodes() or is_row or super().is_config(config_path)

    def is_group(self, config_path: str) -> bool:
        name = _normalize(config_path)
        has_rows = _row(name) != "" and bool(list_experiments([Path(self.path)], _row(name)))
        return name == GROUP or has_rows or super().is_group(config_path)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return the files of a group; of experiments the papers, or the rows of a paper, as well."""
        name = _normalize(config_path)
        found = super().list(config_path, results_filter) if super().is_group(config_path) else []
        if name.partition("/")[0] != GROUP:
            return found
        rows = [row.split("/") for row in list_experiments([Path(self.path)])]
        if paper := _row(name):
            rows = [words for words in rows if words[0] == paper]
            found += [row for _, row in rows] if results_filter != ObjectType.GROUP else []
        else:
            found += [paper for paper, _ in rows] if results_filter != ObjectType.CONFIG else []
        return sorted(set(found))


def _normalize(config_path: str) -> str:
    return config_path.strip("/").removesuffix(".yaml")


def _row(name: str) -> str:
    """Return the choice of the group of experiments at a path; empty if the path belongs to another group."""
    group, _, choice = name.partition("/")
    return choice if group == GROUP else ""
