"""Source of configurations for Hydra: rows of tables as `experiment/<paper>/<row>`, read on demand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from .experiments import GROUP, find_experiment, list_experiments

__all__ = ["register_experiments"]


def register_experiments(folders: Sequence[Path]) -> None:
    """Register the tables of some folders with Hydra, which then composes rows like files of conf/experiment.

    Processes of a launcher need no call, because the job holds the search path.

    Args:
        folders: conf/ and further folders of the same layout; earlier ones take precedence.
    """
    _Tables.folders = [folder.resolve() for folder in folders]
    for plugin in (TableSource, _Tables):
        Plugins.instance().register(plugin)


class _Tables(SearchPathPlugin):
    """Plugin that adds the tables to the search path of Hydra."""

    folders: Sequence[Path] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in self.folders:
            search_path.append("tables", f"{TableSource.scheme()}://{folder}")


class TableSource(ConfigSource):
    """Source of the choices of the group `experiment` that are rows of tables."""

    @staticmethod
    def scheme() -> str:
        return "tables"

    def available(self) -> bool:
        return True

    def load_config(self, config_path: str) -> ConfigResult:
        experiment = find_experiment([Path(self.path)], _name(config_path))
        assert experiment is not None, config_path
        config = OmegaConf.create(experiment.config())
        return ConfigResult(self.provider, self.full_path(), config, {"package": "_global_"})

    def is_config(self, config_path: str) -> bool:
        name = _name(config_path)
        return "/" in name and find_experiment([Path(self.path)], name) is not None

    def is_group(self, config_path: str) -> bool:
        path = config_path.strip("/")
        return path == GROUP or (_name(path) != "" and bool(list_experiments([Path(self.path)], _name(path))))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return the papers of the group, or the rows of a paper."""
        names = [name.split("/") for name in list_experiments([Path(self.path)])]
        paper = _name(config_path)
        if paper:
            rows = [row for start, row in names if start == paper]
            return sorted(rows) if results_filter != ObjectType.GROUP else []
        return sorted({start for start, _ in names}) if results_filter != ObjectType.CONFIG else []


def _name(config_path: str) -> str:
    """Return the choice of the group at a path; empty if the path belongs to another group."""
    group, _, name = config_path.strip("/").removesuffix(".yaml").partition("/")
    return name if group == GROUP else ""
