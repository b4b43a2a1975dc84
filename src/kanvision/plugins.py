"""Plugins: packages of others that add models, bases, data sets, losses, metrics, analyses, configurations.

A plugin is imported for one of two reasons: the command line names it (`plugins=[my_package]`), or an
installed distribution declares it as an entry point of the group `kanvision.plugins`. A name in a file, a run
folder or a checkpoint is a record, for which nothing is imported. docs/plugins.md has an example.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any, NamedTuple

from kanvision.spec.evaluation import ANALYSES as OWN_ANALYSES
from kanvision.spec.tasks import CLASSIFICATION_LOSSES, CLASSIFICATION_METRICS, SCORES, SEGMENTATION_LOSSES

__all__ = [
    "ANALYSES",
    "LOADED",
    "LOSSES",
    "METRICS",
    "Loss",
    "Metric",
    "Plugin",
    "PluginError",
    "add_name",
    "conf_folders",
    "find_arguments",
    "import_installed",
    "import_plugin",
    "is_from_plugin",
    "prefixes",
    "register_analysis",
    "register_loss",
    "register_metric",
    "versions",
]

GROUP = "kanvision.plugins"
"""Group of the entry points of installed plugins."""
SWITCH = "KANVISION_PLUGINS"
"""Variable of the environment; `none`: installed plugins are not imported."""
_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


class PluginError(Exception):
    """A plugin cannot be imported, or adds a name that exists."""


@dataclass(frozen=True)
class Plugin:
    """An imported plugin."""

    name: str
    """Module, as the command line or the entry point names it."""
    version: str
    prefix: str
    """Package with a dot at its end; classes below it are legal as `_target_`."""
    names: set[str] = field(default_factory=set)
    """Names that it has registered."""
    conf: Path | None = None
    """Folder with the layout of conf/, `CONF` of the module."""

    def is_used(self, values: Any) -> bool:
        """Return True if a configuration has a name or a class of the plugin."""
        return any(text in self.names or text.startswith(self.prefix) for text in _texts(values))


class Loss(NamedTuple):
    """Loss of a plugin."""

    build: Callable[..., Any]
    """Function of `loss.kwargs` that returns a module of logits and targets."""
    task: str


class Metric(NamedTuple):
    """Metric of a plugin."""

    build: Callable[..., Any]
    """Function of the number of classes that returns a metric of torchmetrics."""
    task: str
    lower_is_better: bool


LOADED: dict[str, Plugin] = {}
"""Imported plugins by name."""
LOSSES: dict[str, Loss] = {}
METRICS: dict[str, Metric] = {}
ANALYSES: dict[str, Callable[..., Any]] = {}
_importing: list[Plugin] = []
_failed: set[str] = set()
"""Installed plugins that cannot be imported, each reported once."""


def register_loss(name: str, build: Callable[..., Any], *, task: str = "classification") -> None:
    """Add a loss, `loss.name=<name>`.

    Args:
        name: Value of `loss.name`.
        build: Function of the keys in `loss.kwargs` that returns a module of logits and targets: of classes
            (B,), with mixup class weights (B, num_classes), or of masks.
        task: Task of the data it is for.

    Raises:
        PluginError: The name is taken.
    """
    add_name(name, {*LOSSES, *CLASSIFICATION_LOSSES, *SEGMENTATION_LOSSES})
    LOSSES[name] = Loss(build, task)


def register_metric(
    name: str, build: Callable[..., Any], *, task: str = "classification", lower_is_better: bool = False
) -> None:
    """Add a metric of validation and test, `metrics.extra=[<name>]`.

    Args:
        name: Name in logs, after `val/` and `test/`.
        build: Function of the number of classes that returns a metric of torchmetrics. Its `update` takes
            what it needs of `preds` (probabilities of classes, or predicted masks) and `target`.
        task: Task of the data it is for.
        lower_is_better: Smaller values are better.

    Raises:
        PluginError: The name is taken.
    """
    own = SCORES if task == "segmentation" else CLASSIFICATION_METRICS
    add_name(name, {*METRICS, *own, "loss", "training_loss"})
    METRICS[name] = Metric(build, task, lower_is_better)


def register_analysis(name: str, function: Callable[..., Any]) -> None:
    """Add an analysis of a trained model, `eval.py mode=analyze analysis=<name>`.

    Args:
        name: Value of `analysis`.
        function: Function of a `kanvision.app.restore.RestoredRun` and of the keys in `analyze.kwargs` that
            returns a `kanvision.analysis.results.AnalysisResult`.

    Raises:
        PluginError: The name is taken.
    """
    add_name(name, {*ANALYSES, *OWN_ANALYSES})
    ANALYSES[name] = function


def add_name(name: str, taken: Iterable[str] = ()) -> None:
    """Note a name that the imported plugin registers; PluginError if it is taken, or not legal."""
    if name in taken:
        raise PluginError(f"the name {name} is taken; rename it in the plugin")
    if not re.fullmatch(r"[\w.-]+", name):
        raise PluginError(f"{name!r} is no name of letters, digits, _, - and dots")
    for plugin in _importing[-1:]:
        plugin.names.add(name)


def import_plugin(name: str) -> Plugin:
    """Import a plugin by the name of its module, once; PluginError if it is missing or fails.

    A module in the current folder is found too, after all others.
    """
    if name in LOADED:
        return LOADED[name]
    top = name.partition(".")[0]
    if not _NAME.fullmatch(name) or top in sys.stdlib_module_names or top == __name__.partition(".")[0]:
        raise PluginError(f"{name!r} is no name of a package of yours")
    if importlib.util.find_spec(top) is None and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
        importlib.invalidate_caches()
    plugin = Plugin(name, "", f"{_regular_package(name)}.")
    try:
        with _collect_names(plugin):
            module = importlib.import_module(name)
            conf = Path(module.CONF).resolve() if hasattr(module, "CONF") else None
            if conf is not None and not conf.is_dir():
                raise PluginError(f"its CONF is {conf}, and there is no such folder")
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            where = "it is neither installed, nor on PYTHONPATH, nor in the current folder"
            raise PluginError(f"there is no module {error.name}; {where}") from error
        raise PluginError(f"it needs a module that is missing: {error}") from error
    except PluginError:
        raise
    except Exception as error:
        raise PluginError(f"its import fails: {type(error).__name__}: {error}") from error
    names = plugin.names | set(_timm_models(plugin.prefix))
    LOADED[name] = Plugin(name, _version(module, top), plugin.prefix, names, conf)
    return LOADED[name]


def import_installed() -> list[str]:
    """Import the plugins of installed distributions; return a message for each that fails, once."""
    if os.environ.get(SWITCH) == "none":
        return []
    problems = []
    found: dict[str, EntryPoint] = {entry.module: entry for entry in entry_points(group=GROUP)}
    for name in sorted(set(found) - set(LOADED) - _failed):
        try:
            import_plugin(name)
        except PluginError as error:
            _failed.add(name)
            dist = found[name].dist
            origin = f"{dist.name} {dist.version}" if dist is not None else "an installed distribution"
            problems.append(f"plugin {name} of {origin}: {error}; {SWITCH}=none leaves installed plugins out")
    return problems


def find_arguments(function: Callable[..., Any]) -> list[str]:
    """Return the names of the arguments of a function or class."""
    return list(inspect.signature(function).parameters)


def prefixes() -> tuple[str, ...]:
    """Return the packages of imported plugins, each with a dot at its end."""
    return tuple(dict.fromkeys(plugin.prefix for plugin in LOADED.values()))


def is_from_plugin(module: str) -> bool:
    """Return True if a module belongs to a plugin that is imported or being imported."""
    return f"{module}.".startswith((*prefixes(), *(plugin.prefix for plugin in _importing)))


def conf_folders() -> list[Path]:
    """Return the folders of configuration files that imported plugins bring."""
    return [plugin.conf for plugin in LOADED.values() if plugin.conf is not None]


def versions() -> dict[str, str]:
    """Return the versions of imported plugins."""
    return {plugin.name: plugin.version for plugin in LOADED.values()}


@contextmanager
def _collect_names(plugin: Plugin) -> Iterator[None]:
    _importing.append(plugin)
    try:
        yield
    finally:
        _importing.pop()


def _regular_package(name: str) -> str:
    """Return the outermost package of a module that is no namespace, which packages of others may share."""
    parts = name.split(".")
    for end in range(1, len(parts)):
        package = ".".join(parts[:end])
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is not None:
            return package
    return name


def _timm_models(prefix: str) -> list[str]:
    """Return the models that a package has registered with timm."""
    timm: Any = sys.modules.get("timm")
    if timm is None:
        return []
    homes = {name: f"{timm.model_entrypoint(name).__module__}." for name in timm.list_models()}
    return [name for name, home in homes.items() if home.startswith(prefix)]


def _version(module: Any, top: str) -> str:
    try:
        return version(top)
    except PackageNotFoundError:
        return str(getattr(module, "__version__", "unknown"))


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping):
        for value in node.values():
            yield from _texts(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _texts(value)
